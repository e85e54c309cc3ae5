"""Who speaks in a dialogue, under names that T5 knows. Knows strings; never a tokenizer.

SAMSum writes ``Name: text``, and so do most chats: such lines stay as they are, letter by letter. Other marks are
brought into that form:

    #Person1#: hi        Sam: hi        a mark that is no name gets a stand-in, and the answer gets the mark back
    SPEAKER_00: hi       Sam: hi
    <b>A</b>: hi         Sam: hi
    <b>Ann</b>: hi       Ann: hi        a name in markup, brackets or front of a dash keeps its name
    **Ann:** hi          Ann: hi
    [Ann] hi             Ann: hi
    Ann - hi             Ann: hi
    - Ann: hi            Ann: hi        bullets, numbers and times in front of a mark go
    [10:15] Ann: hi      Ann: hi

All of it is a function of the dialogue alone, so whoever has the inputs can read an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

STAND_INS = (
    *("Sam", "Alex", "Chris", "Max", "Kim", "Andy", "Charlie", "Terry", "Pat", "Lee"),
    *("Jo", "Taylor", "Robin", "Jamie", "Jordan", "Morgan", "Casey"),
)
"""Names of SAMSum that may be anybody's; those that a dialogue has itself are left out."""

_TIME = r"(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?\s+)?\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*[ap]\.?m\.?)?"
_FRONT = re.compile(
    rf"(?:(?:[\[(]\s*{_TIME}\s*[\])]|{_TIME}(?!\w))\s*(?:[-\u2013\u2014|]\s+)?)?"  # when it was said
    r"(?:(?:[-*\u2022\u2023\u25e6\u00b7>]|\d{1,3}[.)])\s+)?",  # bullet, or number of a list
    re.IGNORECASE,
)
_BULLET = re.compile(r"[-*\u2022\u2023\u25e6\u00b7>]\s+")
_AFTER_NAME = rf"(?:\s*[\[(]\s*{_TIME}\s*[\])])?"
_FORMS = (
    ("hash", re.compile(r"(?P<name>#[^#\s][^#\n]{0,30}#)\s*:?\s*")),
    (
        "tag",
        re.compile(r"<(?P<tag>[a-z]{1,10})\b[^>]*>\s*(?P<name>[^<>\n]{1,40}?)\s*:?\s*</(?P=tag)>\s*:?\s*", re.I),
    ),
    ("stars", re.compile(r"(?P<s>\*{1,3}|_{1,3})(?P<name>[^*_:\n]{1,40}?)\s*(?::\s*(?P=s)|(?P=s)\s*:)\s*")),
    ("brackets", re.compile(r"\[(?P<name>[^\[\]\n]{1,40})\]\s*:?\s*|\((?P<other>[^()\n]{1,40})\)\s*:\s*")),
    ("angles", re.compile(r"<(?P<name>[^<>/\n]{1,40})>\s*:?\s*")),
    ("colon", re.compile(rf"(?P<name>[^:\n]{{1,40}}?){_AFTER_NAME}\s*[:\uff1a]\s*", re.IGNORECASE)),
    ("dash", re.compile(r"(?P<name>[^\s:-][^:\n]{0,30}?)(?:\s+[-\u2013\u2014]\s+|\s*>{1,2}\s+)")),
)
_MUST_RECUR = frozenset({"brackets", "angles", "dash"})
"""Forms that a line may have by chance ([laughs], "Well - no"): they count where half of the lines have them."""
_NUMBERED = re.compile(r"[@#]?(?:[^\W\d_]+[ _.-]?)?\d{1,4}#?")
_NOT_AN_ARTICLE = r"(?=['\u2019]s\b| and\b| (?:will|can|could|would|had)\b| \w*[^\Ws]s\b|[.,;!?]|$)"
"""What follows a person called A: "A asks", "A and B", "from A."; not "A man"."""
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_MAX_WORDS = 4


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The turns as the base reads them, and what its names stand for."""

    turns: tuple[str, ...]
    """``Name: text``, or a line without a speaker."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Stand-in -> the mark that the dialogue writes; empty for plain names."""

    def restore(self, answer: str) -> str:
        """An answer in the dialogue's own marks."""
        return _replaced(answer, self.marks)

    def stand_in(self, text: str) -> str:
        """A text of a person's (a reference) in the names that the base reads."""
        return _replaced(text, {mark: name for name, mark in self.marks.items()}, letters=True)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A line taken apart."""

    line: str
    form: str = ""
    name: str = ""
    text: str = ""
    has_more: bool = False
    """Whether a time or a bullet stands around the mark."""


@lru_cache(maxsize=256)
def read_dialogue(text: str) -> Dialogue:
    """A dialogue's lines that are not blank, their marks brought into the form ``Name: text``. Total."""
    turns = _turns([line.strip() for line in text.splitlines() if line.strip()])
    marks = _marks(turns, text)
    if not marks and all(_is_plain(turn) for turn in turns):
        return Dialogue(tuple(turn.line for turn in turns))
    to_names = {mark: name for name, mark in marks.items()}
    return Dialogue(tuple(_line(turn, to_names) for turn in turns), marks)


def _turns(lines: Sequence[str]) -> list[_Turn]:
    """Each line in the form that its dialogue speaks for."""
    found = [list(_readings(line)) for line in lines]
    counts = Counter(form for readings in found for form in {turn.form for turn in readings})
    allowed = {form for form, count in counts.items() if form not in _MUST_RECUR or _is_half(count, lines)}
    allowed -= {form for form in allowed & {"dash"} if not _recur(found, form)}
    bullets = [match.end() if (match := _BULLET.match(line)) else 0 for line in lines]
    are_bullets = _is_half(sum(map(bool, bullets)), lines)
    return [
        next(
            (turn for turn in readings if turn.form in allowed),
            _Turn(line, text=line[end:] if are_bullets else line),
        )
        for line, readings, end in zip(lines, found, bullets, strict=True)
    ]


def _is_half(count: int, lines: Sequence[str]) -> bool:
    """More lines than one, and half of them."""
    return count > 1 and 2 * count >= len(lines)


def _recur(found: Sequence[Sequence[_Turn]], form: str) -> bool:
    """Whether the names before a dash come again, or are all written as names are."""
    names = [turn.name for readings in found for turn in readings if turn.form == form]
    return len(set(names)) < len(names) or all(len(name.split()) < 3 and name[0].isupper() for name in names)


def _readings(line: str) -> Iterator[_Turn]:
    """The forms that a line could have, most certain first; a plain ``Name:`` before all that could be chance."""
    front = _FRONT.match(line)
    rest = line[front.end() :] if front else line
    for form, pattern in _FORMS:
        if match := pattern.match(rest):
            name = (match["name"] or match["other"] if form == "brackets" else match["name"]).strip()
            text = rest[match.end() :]
            mark = match[0]
            is_time = form == "colon" and mark.endswith(":") and text[:2].isdigit() and name[-1:].isdigit()
            if _could_be_a_name(name) and not is_time and (text or form not in _MUST_RECUR):
                has_more = len(rest) < len(line) or (form == "colon" and mark.rstrip()[:-1].strip() != name)
                yield _Turn(line, form, name, text, has_more)


def _could_be_a_name(name: str) -> bool:
    is_time = re.fullmatch(_TIME, name, re.IGNORECASE)
    return bool(re.search(r"\w", name)) and len(name.split()) <= _MAX_WORDS and not is_time


def _is_plain(turn: _Turn) -> bool:
    """Whether the line stays as it is."""
    return (turn.form == "colon" or turn.text == turn.line) and not turn.has_more


def _marks(turns: Sequence[_Turn], text: str) -> dict[str, str]:
    """A stand-in for each mark that is no name, in the order in which they speak."""
    counts = Counter(turn.name for turn in turns if turn.name)
    are_marked = 2 * counts.total() >= len(turns) > 1
    in_markup = {turn.name for turn in turns if turn.form not in ("", "colon")}
    nameless = [
        name
        for name, count in counts.items()
        if (len(name) == 1 and name in in_markup)  # a plain "A:" is a name of SAMSum's
        or (
            (_NUMBERED.fullmatch(name) or not _LATIN.search(name))
            and (count > 1 or are_marked or name in in_markup)
        )
    ]
    words = {word.casefold() for word in re.findall(r"\w+", text)}
    free = [name for name in STAND_INS if name.casefold() not in words]
    return dict(zip(free, nameless, strict=False))


def _line(turn: _Turn, to_names: Mapping[str, str]) -> str:
    if not turn.name:
        return _replaced(turn.text, to_names)
    name = to_names.get(turn.name, turn.name.strip("#") if turn.form == "hash" else turn.name)
    if _is_plain(turn) and name == turn.name:
        return _replaced(turn.line, to_names)
    return f"{name}: {_replaced(turn.text, to_names)}".rstrip()


def _replaced(text: str, names: Mapping[str, str], *, letters: bool = False) -> str:
    """Whole words only. A bare number is no name inside a text; a letter only in a summary (``letters``)."""
    known = [name for name in names if not name.isdecimal() and (letters or len(name) > 1)]
    if not known:
        return text
    patterns = [re.escape(name) + (_NOT_AN_ARTICLE if name in "AI" else "") for name in known]
    patterns.sort(key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", lambda match: names[match[0]], text)
