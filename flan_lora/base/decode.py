"""Token ids -> text: how answers are generated, and how they stay among a task's labels.

The counterpart of encode, shared by evaluation and serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from flan_lora.base.encode import encode_targets
from flan_lora.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedTokenizerBase, T5Config

MAX_LABEL_TOKENS = 64


@dataclass(frozen=True, eq=False)
class LabelNode:
    """What a label may go on with after the ids so far; step by step what `LabelConstraint.allowed` looks up."""

    allowed: list[int]
    _after: Mapping[int, LabelNode]
    _ended: LabelNode | None = None
    """Where ids lead that are on the way to no label; None is this node itself."""

    def next(self, token: int) -> LabelNode:
        """After one more token."""
        return self._after.get(token, self._ended or self)


@dataclass(frozen=True)
class LabelConstraint:
    """A LogitsProcessor that leaves only tokens on the way to a label, and eos exactly where a label ends."""

    next_ids: Mapping[tuple[int, ...], list[int]]
    """Generated ids so far -> ids that may follow."""
    labels: Mapping[tuple[int, ...], str]
    """A label's ids, eos included -> the label."""
    eos_id: int

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest label, eos included."""
        return max(map(len, self.labels))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Shapes: input_ids (B * beams, T) with the start token first, scores (B * beams, V)."""
        masked = scores.new_full(scores.shape, -float("inf"))
        for row, (_, *ids) in enumerate(input_ids.tolist()):
            allowed = self.allowed(tuple(ids))
            masked[row, allowed] = scores[row, allowed]
        return masked

    @cached_property
    def root(self) -> LabelNode:
        """Before the first token."""
        ended = LabelNode([self.eos_id], {})

        def node(ids: tuple[int, ...]) -> LabelNode:
            allowed = self.allowed(ids)
            after = {token: node((*ids, token)) for token in allowed if (*ids, token) in self.next_ids}
            return LabelNode(allowed, after, ended)

        return node(())

    def allowed(self, ids: tuple[int, ...]) -> list[int]:
        """What may follow. Never nothing: a row without a finite score would turn into NaN in a softmax."""
        # Ended labels (generate pads them anyway) and dead prefixes of beams in excess of labels: let them end.
        return self.next_ids.get(ids, [self.eos_id])


def label_constraint(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> LabelConstraint:
    """The constraint that makes every answer one of ``labels``.

    Raises:
        DataError: the tokenizer cannot spell a label, or spells two alike; the text names them.
    """
    spelt: dict[tuple[int, ...], str] = {}
    next_ids: dict[tuple[int, ...], list[int]] = {}
    for label, encoded in zip(labels, encode_targets(tokenizer, labels, MAX_LABEL_TOKENS), strict=True):
        ids = tuple(encoded.input_ids)
        if encoded.num_dropped_tokens:
            raise DataError(f"the label {label!r} is too long: more than {MAX_LABEL_TOKENS} tokens. Shorten it.")
        _check_spelling(tokenizer, label, ids)
        if ids in spelt:
            raise DataError(
                f"the labels {spelt[ids]!r} and {label!r} are the same to this base's tokenizer. Rename one."
            )
        spelt[ids] = label
        for end, token in enumerate(ids):
            following = next_ids.setdefault(ids[:end], [])
            if token not in following:
                following.append(token)
    return LabelConstraint(next_ids, spelt, int(tokenizer.eos_token_id))


def generation_config(
    config: T5Config,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
    num_beams: int,
    min_new_tokens: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
) -> GenerationConfig:
    """Greedy or beam search with every value spelled out that shapes an answer.

    What is left out would come from the checkpoint's generation_config.json, or be 20 tokens.
    """
    from transformers import GenerationConfig

    has_beams = num_beams > 1  # transformers warns of what only beams read
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        # and of two least lengths
        **({"min_new_tokens": min_new_tokens} if min_new_tokens else {"min_length": 0}),
        num_beams=num_beams,
        num_return_sequences=1,
        do_sample=False,
        early_stopping=early_stopping if has_beams else False,
        length_penalty=length_penalty if has_beams else 1.0,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        use_cache=True,
        decoder_start_token_id=config.decoder_start_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def decode(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], constraint: LabelConstraint | None = None
) -> str:
    """The text of generated ids (no start token); a label comes back exactly as it was given."""
    if constraint is not None and constraint.eos_id in ids:
        return constraint.labels[tuple(ids[: ids.index(constraint.eos_id) + 1])]
    # clean-up would pull "do n't" and " ." together, so that a perfect copy of a target would not equal it
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _check_spelling(tokenizer: PreTrainedTokenizerBase, label: str, ids: Sequence[int]) -> None:
    if tokenizer.unk_token_id in ids or len(ids) < 2:  # eos alone: nothing of the label is left
        tokens = " ".join(tokenizer.convert_ids_to_tokens(list(ids)))
        raise DataError(
            f"this base cannot spell the label {label!r}: its tokens are {tokens}.\n"
            "Name the label in characters that the base's vocabulary has (Latin letters, for T5)."
        )
