"""Texts as scorers compare them: sentences, words, articles and punctuation, overlap of words."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

SENTENCE_END = r"""(?<=[.!?])(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bMrs\.)\s+|(?<=[.!?]["')\]])\s+|\n+"""


def split_sentences(text: str) -> list[str]:
    """Sentences of English text: split at line breaks, and after . ! ? (and a closing quote) before a space.

    Common titles (Mr. Mrs. Ms. Dr.) do not end a sentence. No data files, unlike NLTK's punkt.
    """
    return [part.strip() for part in re.split(SENTENCE_END, text) if part.strip()]


class NoWordNet:
    """Stands for WordNet where its data are not installed: no word has synonyms."""

    def synsets(self, _: str) -> list[Any]:
        return []


def wordnet_or_none() -> Any:
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return NoWordNet()
    return wordnet


def nltk_words(text: str) -> list[str]:
    """NLTK's word tokens without punkt's sentence split (which needs a download)."""
    from nltk.tokenize import word_tokenize

    return list(word_tokenize(text, preserve_line=True))


def answer_normaliser(language: str) -> Callable[[str], str]:
    known: dict[str, tuple[Callable[[str], bool], bool]] = {  # language -> (what is removed, has articles)
        "en": (lambda char: char in string.punctuation, True),
        "mlqa-en": (is_punctuation, True),
        "mlqa-hi": (is_punctuation, False),
    }
    if language not in known:
        raise ValueError(f"no answer normalisation for language {language!r} (known: {', '.join(known)})")
    removed, has_articles = known[language]

    def normalise(text: str) -> str:
        kept = "".join(char for char in text.lower() if not removed(char))
        return " ".join((re.sub(r"\b(?:a|an|the)\b", " ", kept) if has_articles else kept).split())

    return normalise


def is_punctuation(char: str) -> bool:
    """Any Unicode punctuation; ASCII symbols such as $ and + too, as MLQA counts them."""
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def plain_words(text: str) -> list[str]:
    """Lower-case words without punctuation, to compare texts whatever their typography."""
    return "".join(" " if is_punctuation(char) else char for char in text.lower()).split()


def repeats(text: str, length: int = 4) -> bool:
    """Whether a run of ``length`` words stands twice in a text: the mark of an answer that loops."""
    words = text.lower().split()
    runs = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
    return len(set(runs)) < len(runs)


def new_share(answer: Sequence[str], source: Sequence[str]) -> float:
    """Share of the answer's words that the source does not have, as often as they stand there."""
    return sum((Counter(answer) - Counter(source)).values()) / max(len(answer), 1)


def token_f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of token precision and recall; 0 when nothing is shared, also for two empty texts."""
    num_same = sum((Counter(answer) & Counter(gold)).values())
    return 2 * num_same / (len(answer) + len(gold)) if num_same else 0.0
