"""What automatic routing sees of a text: its words and its meaning to the frozen base, and its form.

The words are the mean of the base's token embeddings, the meaning the mean of its last encoder states; the form
(length, sentences, punctuation, ...) is counted on the characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FORM_VERSION = 1
"""Of the counts below: a profile that was fitted on others cannot be compared."""
_PUNCTUATION = frozenset(".,;:!?'\"()-")
_SENTENCE_END = re.compile(r"[.!?][\"')]*(?=\s+[\"'(]*[A-Z0-9])")
_WORD_OF_SPEAKERS = re.compile(r"\b(?:i|I|me|my|you|your)\b")


def form(body: str) -> list[float]:
    """18 counts, most of them per character or word, so that texts of unlike length compare."""
    words = body.split()
    num_words, num_chars = max(len(words), 1), max(len(body), 1)
    num_ends = len(_SENTENCE_END.findall(body))

    def per_char(matches: Callable[[str], bool]) -> float:
        return sum(map(matches, body)) / num_chars

    return [
        math.log(num_words + 1),
        math.log1p(num_ends),
        (num_ends + 1) / num_words,
        per_char(str.isupper),
        per_char(str.isdigit),
        per_char(_PUNCTUATION.__contains__),
        per_char(lambda c: not c.isalnum() and not c.isspace() and c not in _PUNCTUATION),
        per_char(lambda c: ord(c) > 127),
        num_chars / num_words,
        body.count(":") / num_words,
        body.count("?") / num_words,
        body.count(",") / num_words,
        sum(word[:1].isupper() for word in words) / num_words,
        float(body[:1].isupper()),
        float(body.rstrip()[-1:] in {".", "!", "?"}),
        len(set(words)) / num_words,
        max(map(len, words), default=0) / 20,
        len(_WORD_OF_SPEAKERS.findall(body)) / num_words,
    ]


NUM_FORM = len(form(""))


@dataclass(frozen=True)
class TextFeatures:
    """N texts."""

    words: Tensor
    """(N, d_model) fp32, mean of the token embeddings, eos among them"""
    states: Tensor
    """(N, d_model) fp32, mean of the encoder's last states over the same tokens"""
    form: Tensor
    """(N, 18) fp32, `form`"""

    def __len__(self) -> int:
        return len(self.form)

    def __getitem__(self, rows: Tensor | slice) -> TextFeatures:
        return TextFeatures(self.words[rows], self.states[rows], self.form[rows])

    @property
    def stacked(self) -> Tensor:
        """(N, 2 d_model + 18)"""
        return torch.cat((self.words, self.states, self.form), dim=1)

    @staticmethod
    def cat(parts: Sequence[TextFeatures]) -> TextFeatures:
        """The rows of all parts, at least one, in their order."""
        return TextFeatures(
            torch.cat([part.words for part in parts]),
            torch.cat([part.states for part in parts]),
            torch.cat([part.form for part in parts]),
        )
