"""Token ids as they come -> pieces of the answer's text, up to a stop string.

A piece is never taken back: what a later token may still change is held back until it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Ids -> their text."""


_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TokenTexts:
    """What tokens add to a text: a stream then costs the same for its last token as for its first.

    What a token adds does not depend on those before it, but for the first of a text, which has no space before
    it, and for bytes that together are one character. One for all streams of a tokenizer; used by one thread.
    """

    def __init__(self, decode: Decode, name: Callable[[int], str] | None = None) -> None:
        """
        Args:
            name: of a token that has no text: eos, unk and their like.
        """
        self._decode, self._name = decode, name or (lambda token: "")
        self._first: dict[int, str] = {}
        self._further: dict[int, str] = {}

    def text(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """What ``ids`` add after ``before``, tokens that have a text; none: at the beginning."""
        known = self._further if before else self._first
        if len(ids) == 1 and ids[0] in known:
            return known[ids[0]]
        text = self._decode([*before, *ids])[len(self._decode(before)) if before else 0 :]
        if len(ids) == 1:
            known[ids[0]] = text
        return text

    def spell(self, token: int, before: Sequence[int]) -> str:
        """Its text after ``before``, or its name if it is a special one."""
        return self.text(before, [token]) or self._name(token).strip("▁")  # T5's space, nothing at the beginning


class TextStream:
    """The text of one sequence. Joined, the pieces are the parsed text of all ids, cut before the first stop."""

    def __init__(
        self,
        tokens: TokenTexts,
        parse: Callable[[str], str],
        restore: Callable[[str], str] | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        """
        Args:
            parse: the task's parser: the text of all ids -> the answer.
            restore: the answer, word by word -> in the words of what was asked (`Task.restore`).
        """
        self._tokens, self._parse, self._stop = tokens, parse, tuple(stop)
        self._restore = restore or _as_it_is
        self._before: list[int] = []
        """The first tokens that have a text."""
        self._pending: list[int] = []
        """Tokens that have none yet: special ones, or the first bytes of a character."""
        self._raw = ""
        self._sent = ""
        self.num_tokens = 0
        """Ids that went into the text."""
        self.is_stopped = False
        """Whether a stop string has ended the text."""

    @property
    def text(self) -> str:
        """What has been sent."""
        return self._sent

    def push(self, token: int) -> str:
        """The piece that a further token makes certain, often none; after a stop string always none."""
        if self.is_stopped:
            return ""
        self._append(token)
        parsed = self._parse(self._raw)
        text = self._restore(parsed)
        end = first_stop(text, self._stop)
        if end is not None:
            self.is_stopped = True
            return self._send(text[:end])
        # 1. a parser that changes more than the margins may change its mind about all of it
        if parsed != self._raw.strip():
            return ""
        # 2. the last word may go on; 3. and so may a stop string that has begun
        certain = self._restore(parsed[: max(parsed.rfind(" "), 0)])
        return self._send(certain[: len(certain) - _begun_stop(certain, self._stop)])

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        if self.is_stopped:
            return ""
        if self._pending:
            self._raw += self._tokens.text(self._before, self._pending)
        text = self._restore(self._parse(self._raw))
        return self._send(text[: first_stop(text, self._stop)])

    def _append(self, token: int) -> None:
        self.num_tokens += 1
        self._pending.append(token)
        text = self._tokens.text(self._before, self._pending)
        if text and not text.endswith(_UNFINISHED):
            self._raw += text
            self._before = self._before or self._pending
            self._pending = []

    def _send(self, text: str) -> str:
        if not text.startswith(self._sent):  # certain text that a parser changed after all: keep what was said
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece


def _as_it_is(text: str) -> str:
    return text


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins."""
    return min((place for each in stop if (place := text.find(each)) >= 0), default=None)


def _begun_stop(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of a text with which a stop string may have begun."""
    longest = max(map(len, stop), default=0)
    sizes = range(min(longest - 1, len(text)), 0, -1)
    return next((size for size in sizes if any(each.startswith(text[-size:]) for each in stop)), 0)
