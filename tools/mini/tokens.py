"""The corpus as one stream of token ids, tokenised once and kept beside the run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tools.mini import corpus


def encode_source(
    tokenizer: Any, root: Path, entry: corpus.Source, *, held_out: bool | None = False
) -> np.ndarray[Any, Any]:
    """All documents of a source, joined without separators, as uint16 ids; `held_out` as in `corpus.documents`."""
    rows: list[int] = []
    docs = corpus.documents(root, entry, held_out=held_out)
    while chunk := list(islice(docs, 2000)):  # itertools.batched needs Python 3.12
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False).input_ids:
            rows.extend(ids)
    return np.array(rows, dtype=np.uint16)


def token_stream(tokenizer: Any, root: Path, cache: Path) -> np.ndarray[Any, Any]:
    """Every source, times its repeats, as one uint16 stream; kept in ``cache`` for the next start."""
    if not cache.exists():
        streams = []
        for entry in corpus.SOURCES:
            streams += [encode_source(tokenizer, root, entry)] * entry.repeats
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(streams))
        partial.replace(cache)
    stream: np.ndarray[Any, Any] = np.load(cache)
    return stream


def held_out_streams(
    tokenizer: Any, root: Path, cache: Path, max_tokens: int = 20_000
) -> dict[str, np.ndarray[Any, Any]]:
    """Kind of text -> ids of the documents that no stage reads, `max_tokens` at most; kept in ``cache``."""
    if not cache.exists():
        streams = {}
        for kind, names in corpus.HELD_OUT.items():
            parts = [encode_source(tokenizer, root, corpus.source(name), held_out=True) for name in names]
            share = max_tokens // len(parts)
            streams[kind] = np.concatenate([part[:share] for part in parts])
        for kind, entry in corpus.UNREAD.items():
            streams[kind] = encode_source(tokenizer, root, entry, held_out=None)[:max_tokens]
        partial = cache.with_suffix(".partial.npz")
        np.savez(partial, **streams)  # type: ignore[arg-type]
        partial.replace(cache)
    with np.load(cache) as stored:
        return {kind: stored[kind] for kind in stored.files}
