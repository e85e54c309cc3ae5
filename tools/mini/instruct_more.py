"""The instruction mixture's further sets: feelings, pairs, answers, subjects, summaries, replies; Hindi pairs.

Their classes are in the words of `instruct`, not in our adapters' labels. This module knows rows and texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from flan_lora.tasks.romanise import romanise
from flan_lora.tasks.spelling import without_nukta
from flan_lora.tasks.summarization import TURN_SEPARATOR, turns
from flan_lora.tasks.text import options, plain
from tools.mini import augment
from tools.mini.corpus import Row
from tools.mini.mixes import SAMENESS, Mix, Template, passage

Fields = dict[str, str]

OTHER_WORDS: dict[str, str] = {
    "sadness": "sad", "sad": "sad", "grief": "sad", "disappointment": "disappointed", "remorse": "sorry",
    "joy": "happy", "joyful": "happy", "amusement": "amused", "excitement": "excited", "optimism": "hopeful",
    "love": "affectionate", "caring": "caring", "admiration": "full of admiration", "gratitude": "grateful",
    "anger": "angry", "mad": "angry", "annoyance": "annoyed", "disapproval": "disapproving",
    "fear": "afraid", "scared": "afraid", "nervousness": "nervous", "surprise": "astonished",
    "disgust": "disgusted", "shame": "ashamed", "guilt": "guilty", "embarrassment": "embarrassed",
    "pride": "proud", "relief": "relieved", "curiosity": "curious", "confusion": "confused",
    "desire": "longing", "approval": "approving", "realization": "struck by a thought", "peaceful": "peaceful",
    "powerful": "confident", "neutral": "nothing special",
}  # fmt: skip
"""A set's name for a feeling -> the base's; never a label of our emotion adapter."""
NAMED = tuple(dict.fromkeys(OTHER_WORDS.values()))
NUM_OPTIONS = 6
MAX_NEUTRAL_DRAW = 8
"""One neutral text in so many is read: they are a third of two sets."""
SURE = (1.5, 4.0)
"""Graded pairs (0 to 5) up to the first mean different things, from the second on the same; between: not asked."""
VERDICTS = {"entailment": "true", "neutral": "open", "contradiction": "false", "not_entailment": "not said"}
MAX_TEXT_CHARS = 900
FEWEST_TURNS = 4


def feeling(row: Row) -> Fields | None:
    """One feeling by name, beside five others and beside one other; texts with several are left out."""
    names = row["labels"] if "labels" in row else [row["label"]]
    text = plain(row["text"])
    draw = zlib.crc32(text.encode())
    if len(names) != 1 or (names[0] == "neutral" and draw % MAX_NEUTRAL_DRAW):
        return None
    answer = OTHER_WORDS[names[0]]
    others = [NAMED[(draw // 7 + 5 * n) % len(NAMED)] for n in range(len(NAMED))]  # 5 and 30-odd share no factor
    drawn = [name for name in dict.fromkeys(others) if name != answer][: NUM_OPTIONS - 1]
    drawn.insert(draw % NUM_OPTIONS, answer)
    left, right = (
        (answer, drawn[draw % NUM_OPTIONS - 1]) if draw // 3 % 2 else (drawn[draw % NUM_OPTIONS - 1], answer)
    )
    return {"text": text, "answer": answer, "options": options(drawn), "left": left, "right": right}


def graded(row: Row) -> Fields | None:
    """Two sentences that surely mean the same, or surely do not."""
    value = float(row["relatedness"] if "relatedness" in row else row["label"])
    if SURE[0] < value < SURE[1]:
        return None
    return {**_two(row), "answer": SAMENESS[value >= SURE[1]], "options": options(SAMENESS)}


def verdict(row: Row) -> Fields:
    """Whether the second sentence follows from the first."""
    return {**_two(row), "answer": VERDICTS[row["label"]], "options": options(tuple(VERDICTS.values())[:3])}


def hindi_verdict(row: Row) -> Fields:
    """As `verdict`, in Hindi as the `qa` task spells it; half of the rows without nukta."""
    texts = [row["sentence1"], row["sentence2"]]
    if zlib.crc32(row["sentence1"].encode()) % 2:
        texts = [without_nukta(text) for text in texts]
    first, second = (plain(romanise(text)) for text in texts)
    answer = VERDICTS[row["label"]]
    return {"first": first, "second": second, "answer": answer, "options": options(("true", "not said"))}


def found_answer(row: Row) -> Fields | None:
    """A passage with a question and the words that answer it."""
    start = row["context"].find(row["answer"])
    answers = {"text": [row["answer"]], "answer_start": [start]}
    return passage({**row, "answers": answers}) if start >= 0 else None


def reply(row: Row) -> Fields | None:
    """A dialogue up to a turn that its text chooses, and that turn without its speaker's mark."""
    lines = [plain(turn) for turn in turns(row["dialogue"])]
    if len(lines) < FEWEST_TURNS:
        return None
    place = FEWEST_TURNS - 1 + zlib.crc32(lines[0].encode()) % (len(lines) - FEWEST_TURNS + 1)
    speaker, _, words = lines[place].partition(": ")
    before = TURN_SEPARATOR.join(lines[max(0, place - 8) : place])
    if not words or len(words) > 200 or len(before) > MAX_TEXT_CHARS:
        return None
    return {"text": before, "speaker": speaker, "answer": words}


def topic(row: Row) -> Fields | None:
    """What a dialogue is about, in the set's own words (Restaurants_1: restaurants)."""
    names = row.get("services") or [row.get("domain")]
    lines = [plain(turn) for turn in turns(row["dialogue"])]
    text = TURN_SEPARATOR.join(lines)
    if not names[0] or len(text) > MAX_TEXT_CHARS:
        return None
    words = [str(name).partition("_")[0].lower() for name in names]
    return {"text": text, "answer": " and ".join(dict.fromkeys(words))}


def meeting(row: Row) -> Fields | None:
    """What was said of a question in a stretch of a meeting that fits."""
    lines = [plain(turn) for turn in turns(row["dialogue"])]
    text = TURN_SEPARATOR.join(lines)
    if len(text) > MAX_TEXT_CHARS:
        return None
    return {"text": text, "question": plain(row["query"]), "answer": plain(row["summary"])}


def _two(row: Row) -> Fields:
    first, second = (plain(row[name]) for name in ("sentence1", "sentence2"))
    return {"first": first, "second": second}


def _set(
    source: str, most: int, fields: Callable[[Row], Fields | None], way: augment.Augment | None, *parts: Template
) -> Mix:
    return Mix(source, most, fields, parts, augment=way)


_FEELING = (
    Template("", "{text}", " How does the writer feel? {options}"),
    Template("feeling: ", "{text}", " {options}"),
    Template("", "{text}", " Does the writer feel {left} or {right}?"),
    Template("{left} or {right}? ", "{text}", ""),
)
_SAME = (
    Template("First: ", "{first} Second: {second}", " Same or different?"),
    Template("Do these say the same? ", "{first} | {second}", " {options}"),
    Template("Compare. First: ", "{second} Second: {first}", ""),
)
_FOLLOWS = (
    Template("Given: ", "{first}", " Is this true, false or open: {second}"),
    Template("First: ", "{first} Second: {second}", " Does the second follow from the first? {options}"),
)
_ANSWER = (
    Template("", "{context}", " {question}"),
    Template("question: {question} context: ", "{context}", ""),
    Template("{question} Text: ", "{context}", ""),
)
_QUESTION = (
    Template('Ask a question to which "{answer}" is the answer. ', "{context}", "", "{question}"),
    Template("answer: {answer} context: ", "{context}", " question:", "{question}"),
)
_REPLY = (Template("", "{text}", " What does {speaker} say next?"), Template("reply of {speaker}: ", "{text}", ""))

MORE: tuple[Mix, ...] = (
    _set("goemotions", 20_000, feeling, augment.post, *_FEELING),
    _set("isear", 7_000, feeling, augment.post, *_FEELING),
    _set("sts", 8_000, graded, augment.sentence, *_SAME),
    _set("sick", 5_000, graded, augment.sentence, *_SAME),
    _set("sick", 4_000, verdict, augment.sentence, *_FOLLOWS),
    _set("mnli", 9_000, verdict, augment.sentence, *_FOLLOWS),
    _set("hindi-nli", 5_000, hindi_verdict, None, *_FOLLOWS),
    _set("squadshifts", 17_000, found_answer, None, *_ANSWER),
    _set("squadshifts", 8_000, found_answer, None, *_QUESTION),
    _set("sgd", 6_000, reply, augment.dialogue, *_REPLY),
    _set("taskmaster", 2_000, reply, augment.dialogue, *_REPLY),
    _set("sgd", 3_000, topic, augment.dialogue, Template("", "{text}", " What is this conversation about?")),
    _set("qmsum", 200, meeting, augment.dialogue, Template("{question} Meeting: ", "{text}", "")),
)
"""Sets beside `instruct.MIXTURE`; none of their rows is one that our adapters learn from."""
