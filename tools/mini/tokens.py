"""The corpus as one stream of token ids, tokenised once and kept beside the run."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flan_lora.errors import FlanLoraError
from tools.mini import corpus

LENGTHS_FILE = "sources.json"
"""Source -> its tokens and how often the stream holds them, in the stream's order."""
CARRIED_FILE = "tokens.xz"


def encode_source(tokenizer: Any, root: Path, entry: corpus.Source) -> np.ndarray[Any, Any]:
    """All documents of a source, joined without separators, as uint16 ids."""
    rows: list[int] = []
    docs = corpus.documents(root, entry)
    while chunk := list(islice(docs, 2000)):  # itertools.batched needs Python 3.12
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False).input_ids:
            rows.extend(ids)
    return np.array(rows, dtype=np.uint16)


def token_stream(tokenizer: Any, root: Path, cache: Path) -> np.ndarray[Any, Any]:
    """Every source, times its repeats, as one uint16 stream; kept in ``cache`` for the next start."""
    if not cache.exists():
        streams = {entry.name: encode_source(tokenizer, root, entry) for entry in corpus.READ_SOURCES}
        repeats = {entry.name: entry.repeats for entry in corpus.READ_SOURCES}
        cache.parent.mkdir(parents=True, exist_ok=True)
        lengths = {name: [len(stream), repeats[name]] for name, stream in streams.items()}
        cache.with_name(LENGTHS_FILE).write_text(json.dumps(lengths, indent=1) + "\n")
        _save(cache, streams, lengths)
    stream: np.ndarray[Any, Any] = np.load(cache)
    return stream


def compress(packed: Path, out: Path) -> Path:
    """Write what another machine needs of `packed` to `out`, every source once and compressed: about 50 MB."""
    tokens: np.ndarray[Any, Any] = np.load(packed / "tokens.npy", mmap_mode="r")
    lengths = json.loads((packed / LENGTHS_FILE).read_text())
    out.mkdir(parents=True, exist_ok=True)
    start = 0
    with lzma.open(out / CARRIED_FILE, "wb", preset=4) as file:
        for length, repeats in lengths.values():
            file.write(tokens[start : start + length].tobytes())
            start += length * repeats
    shutil.copy(packed / LENGTHS_FILE, out / LENGTHS_FILE)
    shutil.copytree(packed / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    return out


def expand(carried: Path, packed: Path) -> Path:
    """The inverse of `compress`: the same ``tokens.npy``, bit for bit.

    Raises:
        FlanLoraError: `carried` was not written by `compress`, or is cut short.
    """
    if not (carried / CARRIED_FILE).exists():
        raise FlanLoraError(f"{carried} holds no {CARRIED_FILE}.\nMake it with `python -m tools.mini compress`.")
    lengths = json.loads((carried / LENGTHS_FILE).read_text())
    with lzma.open(carried / CARRIED_FILE, "rb") as file:
        flat = np.frombuffer(file.read(), dtype=np.uint16)
    expected = sum(length for length, _ in lengths.values())
    if len(flat) != expected:
        raise FlanLoraError(
            f"{carried / CARRIED_FILE} holds {len(flat):,} tokens, not {expected:,}.\nCarry it again."
        )
    ends = np.cumsum([length for length, _ in lengths.values()])[:-1]
    packed.mkdir(parents=True, exist_ok=True)
    shutil.copy(carried / LENGTHS_FILE, packed / LENGTHS_FILE)
    shutil.copytree(carried / "tokenizer", packed / "tokenizer", dirs_exist_ok=True)
    _save(packed / "tokens.npy", dict(zip(lengths, np.split(flat, ends), strict=True)), lengths)
    return packed


def _save(path: Path, streams: Mapping[str, np.ndarray[Any, Any]], lengths: Mapping[str, Sequence[int]]) -> None:
    """One array of every stream, as often as its source repeats; atomic."""
    whole = np.concatenate([part for name, stream in streams.items() for part in [stream] * lengths[name][1]])
    partial = path.with_suffix(".partial.npy")
    np.save(partial, whole)
    partial.replace(path)
