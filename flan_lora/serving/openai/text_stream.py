"""Token ids as they come -> pieces of the answer's text, up to a stop string.

A piece is never taken back: what a later token may still change is held back until it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class TextStream:
    """The text of one sequence. Joined, the pieces are the parsed text of all ids, cut before the first stop."""

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        parse: Callable[[str], str],
        restore: Callable[[str], str] | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        """
        Args:
            decode: all ids so far -> their text.
            parse: the task's parser: that text -> the answer.
            restore: the answer, word by word -> in the words of what was asked (`Task.restore`).
        """
        self._decode, self._parse, self._stop = decode, parse, tuple(stop)
        self._restore = restore or _as_it_is
        self._ids: list[int] = []
        self._sent = ""
        self.is_stopped = False
        """Whether a stop string has ended the text."""

    @property
    def num_tokens(self) -> int:
        """Ids that went into the text."""
        return len(self._ids)

    @property
    def text(self) -> str:
        """What has been sent."""
        return self._sent

    def push(self, token: int) -> str:
        """The piece that a further token makes certain, often none; after a stop string always none."""
        if self.is_stopped:
            return ""
        self._ids.append(token)
        raw = self._decode(self._ids)
        parsed = self._parse(raw)
        text = self._restore(parsed)
        end = first_stop(text, self._stop)
        if end is not None:
            self.is_stopped = True
            return self._send(text[:end])
        # 1. a parser that changes more than the margins may change its mind about all of it
        if parsed != raw.strip():
            return ""
        # 2. the last word may go on; 3. and so may a stop string that has begun
        certain = self._restore(parsed[: max(parsed.rfind(" "), 0)])
        return self._send(certain[: len(certain) - _begun_stop(certain, self._stop)])

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        if self.is_stopped:
            return ""
        text = self._restore(self._parse(self._decode(self._ids)))
        return self._send(text[: first_stop(text, self._stop)])

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
