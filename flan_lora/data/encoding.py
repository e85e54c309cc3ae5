"""Examples of a split to token ids, kept on disk: the same texts are encoded once."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.base.encode import EncodedSource, encode_targets
from flan_lora.base.sliding_window import encode_for_training
from flan_lora.data.splits import Split, sha256_of
from flan_lora.data.token_cache import BrokenCacheError, CacheFile, read_cache, write_cache
from flan_lora.recipe import Recipe
from flan_lora.system.cache_dir import default_cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

CACHE_VERSION = 2
"""Part of every cache key: raise it when encoding changes, and old files are no longer found."""
ROWS_PER_CALL = 1000
"""Texts per call of the tokenizer: large enough to be fast, small enough for a moving progress bar."""
PROGRESS_FROM_ROWS = 20_000


@dataclass(frozen=True)
class EncodedSplit:
    """A split as token ids: a map-style dataset of {"input_ids", "labels"} for the Trainer and the Collator."""

    input_ids: list[list[int]]
    labels: list[list[int]]
    num_source_truncated: int
    """Sources that were cut to data.max_source_tokens."""
    num_target_truncated: int
    """Targets that were cut to data.max_target_tokens."""
    unk_share_source: float
    """Share of <unk> among the source tokens kept, eos not counted."""
    unk_share_target: float
    """Share of <unk> among the target tokens kept, eos not counted."""
    content_hash: str
    """sha256 (hex) over texts, limits and tokenizer: equal exactly when the ids are."""
    source_dropped: list[int] = field(default_factory=list)
    """Tokens cut from each source."""
    target_dropped: list[int] = field(default_factory=list)
    """Tokens cut from each target."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": self.input_ids[index], "labels": self.labels[index]}

    @property
    def source_lengths(self) -> list[int]:
        """Tokens of each source as the model sees it, for batches of equal length."""
        return [len(ids) for ids in self.input_ids]


def encode_split(
    split: Split,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache_dir: Path | None = None,
) -> EncodedSplit:
    """Token ids of a split, from the cache when the same texts were encoded before.

    The key is a hash of the rendered texts, the limits and the tokenizer, so a changed prompt, recipe or base
    never finds stale ids. A broken file is rebuilt, an unwritable folder is done without; both are said once.

    Args:
        cache_dir: none = $FLAN_LORA_CACHE, else ~/.cache/flan_lora; FLAN_LORA_CACHE=off turns caching off.

    Raises:
        DataError: a prompt does not fit data.max_source_tokens even with an empty body.
    """
    key = _cache_key(split, recipe, tokenizer)
    folder = cache_dir or default_cache_dir()
    if folder is None:
        return _from_file(_encode(split, recipe, tokenizer), key)
    path = folder / "encoded" / f"{key}.safetensors"
    try:
        return _from_file(read_cache(path), key)
    except FileNotFoundError:
        pass
    except (BrokenCacheError, KeyError) as error:
        log.warning("%s is broken and is built again (%s).", path, error)
    encoded = _encode(split, recipe, tokenizer)
    try:
        write_cache(path, encoded.lists, encoded.numbers)
    except OSError as error:
        log.warning("%s cannot be written (%s): encoding is not cached. Set FLAN_LORA_CACHE.", folder, error)
    return _from_file(encoded, key)


def encode_afresh(split: Split, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> EncodedSplit:
    """`encode_split` without a cache, for rows that are read once."""
    return _from_file(_encode(split, recipe, tokenizer), _cache_key(split, recipe, tokenizer))


class AugmentedRows:
    """Training rows as each epoch writes them: a map-style dataset whose index says the row and the epoch.

    ``index = epoch * len(rows) + row``, so that nothing has to be told of an epoch's begin: what a resumed run or
    another process reads depends on the index alone.
    """

    def __init__(self, num_rows: int, encode_epoch: Callable[[int], EncodedSplit]) -> None:
        """
        Args:
            num_rows: examples of an epoch; the same in each.
            encode_epoch: epoch, from 0 -> its rows as token ids; called once per epoch in order.
        """
        self.num_rows = num_rows
        self._encode_epoch = encode_epoch
        self._epoch = -1
        self._rows: EncodedSplit | None = None

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        epoch, row = divmod(index, self.num_rows)
        if self._rows is None or epoch != self._epoch:
            self._epoch, self._rows = epoch, self._encode_epoch(epoch)
            assert len(self._rows) == self.num_rows, "an epoch has other examples than the one before"
        return self._rows[row]


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 (hex) of everything that decides ids: pieces, scores, normaliser, added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    for setting in ("truncation", "padding"):  # left behind by the last call, not part of the tokenizer
        state.pop(setting, None)
    return sha256_of([json.dumps(state, sort_keys=True), str(tokenizer.eos_token_id), str(tokenizer.unk_token_id)])


def _cache_key(split: Split, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of all that the ids depend on."""
    limits = f"{CACHE_VERSION} {recipe.data.max_source_tokens} {recipe.data.max_target_tokens}"
    windowed = recipe.task_definition.windowed
    texts = (
        text
        for example in split.examples
        for text in (
            *(example.prompt.head, example.prompt.body, example.prompt.tail, example.target),
            # where the answer stands decides the window
            *((example.references[0], example.inputs.get("answer_start", "")) if windowed else ()),
        )
    )
    return sha256_of([limits, windowed, tokenizer_identity(tokenizer), *texts])


def _encode(split: Split, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> CacheFile:
    """Encode every example, in the form that the cache stores."""
    from tqdm import tqdm

    sources: list[EncodedSource] = []
    targets: list[EncodedSource] = []
    quiet = len(split.examples) < PROGRESS_FROM_ROWS or not sys.stderr.isatty()
    with tqdm(total=len(split.examples), desc=f"encode {split.role}", unit="row", disable=quiet) as bar:
        for start in range(0, len(split.examples), ROWS_PER_CALL):
            chunk = split.examples[start : start + ROWS_PER_CALL]
            sources += encode_for_training(tokenizer, recipe.task_definition, chunk, recipe.data.max_source_tokens)
            targets += encode_targets(tokenizer, [e.target for e in chunk], recipe.data.max_target_tokens)
            bar.update(len(chunk))
    unk = tokenizer.unk_token_id
    return CacheFile(
        lists={
            "input_ids": [item.input_ids for item in sources],
            "labels": [item.input_ids for item in targets],
            "dropped": [[item.num_dropped_tokens for item in items] for items in (sources, targets)],
        },
        numbers={"unk_share_source": _share(sources, unk), "unk_share_target": _share(targets, unk)},
    )


def _from_file(stored: CacheFile, key: str) -> EncodedSplit:
    source_dropped, target_dropped = stored.lists["dropped"]
    return EncodedSplit(
        input_ids=stored.lists["input_ids"],
        labels=stored.lists["labels"],
        num_source_truncated=sum(1 for count in source_dropped if count),
        num_target_truncated=sum(1 for count in target_dropped if count),
        unk_share_source=stored.numbers["unk_share_source"],
        unk_share_target=stored.numbers["unk_share_target"],
        content_hash=key,
        source_dropped=source_dropped,
        target_dropped=target_dropped,
    )


def _share(items: Sequence[EncodedSource], token_id: int) -> float:
    """Share of one id among all tokens but the closing eos."""
    num_tokens = sum(len(item.input_ids) - 1 for item in items)
    return sum(item.input_ids.count(token_id) for item in items) / num_tokens if num_tokens else 0.0
