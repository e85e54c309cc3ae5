"""The corpus as one stream of token ids, tokenised once and kept beside the run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tools.mini import corpus


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
        streams = []
        for entry in corpus.SOURCES:
            streams += [encode_source(tokenizer, root, entry)] * entry.repeats
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(streams))
        partial.replace(cache)
    stream: np.ndarray[Any, Any] = np.load(cache)
    return stream
