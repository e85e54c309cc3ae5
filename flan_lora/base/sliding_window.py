"""Texts that do not fit, read in windows that overlap: in training the one with the answer, for an answer all.

A task says which of its inputs is read so (`Task.windowed`). A row that fits is one window, encoded as ever. Of
a row that does not, every window is asked, and the answer that the model is surest of counts: the highest mean
log-probability per token, eos included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flan_lora.base.encode import CUT_PIECE, EncodedSource, count_tokens, encode_sources
from flan_lora.tasks.task import Example, Inputs, Prompt, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_FIXED_SHARE = 0.5
"""Where all but the windowed input takes more of the limit than this, the windows would be slits: it is cut."""

Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""


@dataclass(frozen=True)
class WindowedPrompt:
    """How inputs become prompts, and which of them may be read in windows."""

    render: Callable[[Inputs], Prompt]
    column: str = ""
    """The input that is divided; empty: a prompt that does not fit is cut."""

    @staticmethod
    def of(task: Task) -> WindowedPrompt:
        """The task's own prompt."""
        return WindowedPrompt(task.prompt, task.windowed)


def encode_windows(
    tokenizer: PreTrainedTokenizerBase,
    windowed: WindowedPrompt,
    prompts: Sequence[Prompt],
    rows: Sequence[Inputs],
    max_tokens: int,
) -> list[list[EncodedSource]]:
    """The windows of each row, in the order of the text; one for a row that fits, or that is cut.

    Args:
        prompts, rows: the whole prompt of each row, and the inputs that ``windowed`` makes narrower ones of.

    Raises:
        DataError: a prompt does not fit even with an empty body.
    """
    encoded = []
    sources = encode_sources(tokenizer, prompts, max_tokens)
    for inputs, source in zip(rows, sources, strict=True):
        windows = [source]
        if windowed.column and source.num_dropped_tokens:
            spans = _spans(tokenizer, windowed, inputs, max_tokens)
            parts = [windowed.render(_part(inputs, windowed.column, span)) for span in spans]
            windows = encode_sources(tokenizer, parts, max_tokens)
        encoded.append(windows)
    return encoded


def encode_for_training(
    tokenizer: PreTrainedTokenizerBase, task: Task, examples: Sequence[Example], max_tokens: int
) -> list[EncodedSource]:
    """The source of each example: of a windowed task that does not fit, the first window with the whole answer.

    The first window of all where none has it. ``num_dropped_tokens`` counts against the whole prompt.
    """
    encoded = encode_sources(tokenizer, [example.prompt for example in examples], max_tokens)
    if not task.windowed:
        return encoded
    windowed = WindowedPrompt.of(task)
    for place, (example, source) in enumerate(zip(examples, encoded, strict=True)):
        if source.num_dropped_tokens:
            spans = _spans(tokenizer, windowed, example.inputs, max_tokens)
            span = _with_answer(spans, _answer(example, task.windowed))
            [window] = encode_sources(
                tokenizer, [task.prompt(_part(example.inputs, task.windowed, span))], max_tokens
            )
            num_tokens = len(source.input_ids) + source.num_dropped_tokens
            encoded[place] = EncodedSource(window.input_ids, num_tokens - len(window.input_ids))
    return encoded


def best(mean_log_probs: Sequence[float]) -> int:
    """The place of the window whose answer counts; the earlier of two alike."""
    return max(range(len(mean_log_probs)), key=lambda place: (mean_log_probs[place], -place))


def _spans(
    tokenizer: PreTrainedTokenizerBase, windowed: WindowedPrompt, inputs: Inputs, max_tokens: int
) -> list[Span]:
    """Whole words, as many as fit; each window begins half-way through the one before."""
    text = inputs[windowed.column]
    if (
        count_tokens(tokenizer, windowed.render(_part(inputs, windowed.column, (0, 0))))
        > MAX_FIXED_SHARE * max_tokens
    ):
        return [(0, len(text))]
    pieces = [match.span() for match in CUT_PIECE.finditer(text)]

    def fits(first: int, end: int) -> bool:
        part = _part(inputs, windowed.column, (pieces[first][0], pieces[end - 1][1]))
        return count_tokens(tokenizer, windowed.render(part)) <= max_tokens

    spans: list[Span] = []
    first = end = 0
    while end < len(pieces):
        # a piece is a token at least, so no more than max_tokens of them fit: the work grows with the text only
        end, too_far = first + 1, min(len(pieces), first + max_tokens) + 1
        while too_far - end > 1:
            middle = (end + too_far) // 2
            end, too_far = (middle, too_far) if fits(first, middle) else (end, middle)
        spans.append((pieces[first][0], pieces[end - 1][1]))
        first += max(1, (end - first) // 2)
    return spans


def _part(inputs: Inputs, column: str, span: Span) -> Inputs:
    """The inputs with one of them narrowed."""
    return {**inputs, column: inputs[column][slice(*span)]}


def _answer(example: Example, column: str) -> Span | None:
    """Where the first reference stands: at ``answer_start`` if it does, else its first occurrence."""
    text, answer = example.inputs[column], example.references[0]
    hint = example.inputs.get("answer_start", "")
    start = int(hint) if hint.isdecimal() and text.startswith(answer, int(hint)) else text.find(answer)
    return (start, start + len(answer)) if start >= 0 else None


def _with_answer(spans: Sequence[Span], answer: Span | None) -> Span:
    """The first window that holds the whole answer, else the first."""
    if answer is None:
        return spans[0]
    return next((span for span in spans if span[0] <= answer[0] and answer[1] <= span[1]), spans[0])
