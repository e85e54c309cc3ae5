"""Text -> token ids -> padded batches: the one code path of training and serving."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flan_lora.errors import DataError
from flan_lora.system.text import shorten
from flan_lora.tasks.task import Prompt
from flan_lora.tasks.text import describe_surrogate, lone_surrogate

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

IGNORED_LABEL = -100
"""Cross entropy skips this id. Only in labels: as an input id it indexes outside the embedding."""
CUT_PIECE = re.compile(r"\S{1,24}")
"""A body is cut after a word; runs longer than a usual word (a URL) may be cut inside."""


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """Token ids that end in eos, and how many tokens were cut to fit (0 = the whole text is there)."""

    input_ids: list[int]
    num_dropped_tokens: int


def encode_source(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int) -> EncodedSource:
    """Encode one prompt in at most ``max_tokens`` ids, eos included.

    Only the end of ``prompt.body`` is cut, after a word. The shorter text is tokenised
    again, so a cut prompt is a normal text: instruction, shorter body, tail, eos.

    Raises:
        DataError: the prompt does not fit even with an empty body.
    """
    return encode_sources(tokenizer, [prompt], max_tokens)[0]


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_tokens: int
) -> list[EncodedSource]:
    """``encode_source`` for many prompts in one tokenizer call; only those too long take the slow cut."""
    encoded = []
    for prompt, ids in zip(prompts, _tokenise(tokenizer, [str(p) for p in prompts]), strict=True):
        kept = ids if len(ids) <= max_tokens else _cut(tokenizer, prompt, max_tokens)
        encoded.append(EncodedSource(kept, num_dropped_tokens=len(ids) - len(kept)))
    return encoded


def count_tokens(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int:
    """Tokens of a whole prompt, uncut, eos included."""
    return len(_tokenise(tokenizer, [str(prompt)])[0])


def encode_target(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int) -> EncodedSource:
    """Encode one target in at most ``max_tokens`` ids, eos included; a longer one loses its last words."""
    return encode_source(tokenizer, Prompt(head="", body=text), max_tokens)


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> list[EncodedSource]:
    """``encode_target`` for many texts with one call of the tokenizer."""
    return encode_sources(tokenizer, [Prompt(head="", body=text) for text in texts], max_tokens)


@dataclass(frozen=True)
class Collator:
    """Pads encoded items to one batch, on the right and only as far as the batch's longest item needs.

    Shapes (B items; S, T the longest source and target, rounded up to ``pad_to_multiple_of``), all int64:
        input_ids, attention_mask     (B, S)
        labels                        (B, T)  padded with -100
        decoder_input_ids             (B, T)  labels shifted right behind the start id, padded with ``pad_id``

    Items without ``labels`` give a batch without the last two.
    """

    pad_id: int
    decoder_start_id: int
    pad_to_multiple_of: int = 8
    """Tensor cores like multiples of 8; 1 pads to the longest item exactly."""

    def __call__(self, items: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
        sources = [item["input_ids"] for item in items]
        batch = {
            "input_ids": self._pad(sources, self.pad_id),
            "attention_mask": self._pad([[1] * len(ids) for ids in sources], 0),
        }
        if "labels" in items[0]:
            targets = [item["labels"] for item in items]
            batch["labels"] = self._pad(targets, IGNORED_LABEL)
            # Built here, not by the model: label smoothing and compute_loss_func pop `labels` before it runs.
            shifted = [[self.decoder_start_id, *ids[:-1]] for ids in targets]
            batch["decoder_input_ids"] = self._pad(shifted, self.pad_id)
        return batch

    def _pad(self, rows: Sequence[list[int]], fill: int) -> Tensor:
        import torch

        step = self.pad_to_multiple_of
        width = -(-max(len(row) for row in rows) // step) * step
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.int64)


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Whole texts, uncut, each ending in eos. Raises DataError for a lone surrogate, which kills the tokenizer."""
    if not texts:
        return []
    for text in texts:
        if (place := lone_surrogate(text)) is not None:
            near = text[max(place - 20, 0) : place + 20].encode("ascii", "backslashreplace").decode()
            around = shorten(near, 60)
            raise DataError(f"a text is not whole characters: {around}\n  {describe_surrogate(text, place)}")
    # verbose=False: the warning about the maximum length is for learned positions; T5's are relative.
    rows = tokenizer(list(texts), return_attention_mask=False, verbose=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in rows]


def _cut(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int) -> list[int]:
    """Ids of the prompt with the longest beginning of its body, in words, that fits."""

    def encode(end: int) -> list[int]:
        return _tokenise(tokenizer, [f"{prompt.head}{prompt.body[:end]}{prompt.tail}"])[0]

    num_fixed_tokens = len(encode(0))
    if num_fixed_tokens > max_tokens:
        raise DataError(
            f"a prompt does not fit: {num_fixed_tokens} tokens without its body, at most {max_tokens}.\n"
            f"  prompt  {shorten(prompt.head, 60)} [...] {shorten(prompt.tail, 60)}\n"
            f"Raise data.max_source_tokens to at least {num_fixed_tokens}, or shorten the input."
        )
    ends = [0, *(match.end() for match in CUT_PIECE.finditer(prompt.body))]
    fits, too_long = 0, len(ends)  # places in `ends`; bisection keeps the one fitting, the other not
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if len(encode(ends[middle])) <= max_tokens else (fits, middle)
    return encode(ends[fits])
