"""SAMSum: chats of two people with a one- or two-sentence summary; scenes with different endings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from random import Random

from tools.samples.engine import Row, Split, choose, draw, lines, tidy, unique, words
from tools.samples.scenes_samsum import SCENES_TEXT

NUM_ROWS: dict[Split, int] = {"train": 260, "validation": 70, "test": 100}
SLOT = re.compile(r"\{(\w+)\}")
PRONOUNS = {
    "f": {"he": "she", "his": "her", "him": "her", "he_cap": "She"},
    "m": {"he": "he", "his": "his", "him": "him", "he_cap": "He"},
}
WOMEN = words("""Ava, Mia, Zoe, Ella, Nina, Hanna, Olga, Ruth, Iris, Carol, Jenny, Paula, Tess, Vera,
        Monica, Kate, Lara, Julia, Rita, Alice, Fiona, Gina, Petra, Wendy""")
MEN = words("""Ben, Tom, Leo, Max, Adam, Oscar, Paul, Felix, Greg, Ian, Jack, Kevin, Luke, Martin, Neil,
        Omar, Pete, Rob, Simon, Theo, Victor, Will, Hugo, Dan""")
POOLS: dict[str, list[str]] = {
    "place": words("""the new cafe, the library, the climbing hall, the cinema, the flea market, the beach,
        the museum, the pizza place, the park, the swimming pool, the bakery, the bowling alley, the zoo,
        the rooftop bar, the gallery, the ice rink"""),
    "when": words("""tonight, tomorrow, on Saturday, on Friday evening, on Monday, this weekend,
        on Thursday, after work, on Tuesday, on Wednesday, tomorrow morning, on Sunday afternoon"""),
    "when2": words("""next week, next Saturday, in two weeks, next Monday, next month, on the 5th,
        on the 21st, next Friday, in May, next Wednesday"""),
    "when3": words("yesterday, last night, on Sunday, last week, this morning, two days ago"),
    "time": words("5 pm, 6 pm, 7.30, 8 o'clock, noon, 9 am, half past six, 4 pm, 10.15, 8 pm, 3.45, 11 am"),
    "chore": words("""work late, visit my grandma, clean the flat, finish an essay,
        take the car to the garage, babysit my nephew, go to the dentist, paint the kitchen,
        pick up a parcel, meet the landlord"""),
    "thing": words("""tent, drill, camera, suit, guitar, bike, blender, ladder, projector, sleeping bag,
        dress, hammer, speaker, suitcase, board game, hoodie"""),
    "small": words("""wallet, phone, scarf, bracelet, umbrella, notebook, passport, keyring, earring,
        water bottle"""),
    "colour": words("black, blue, red, green, brown, yellow, grey, white"),
    "event": words("""the festival, a wedding, the school trip, the concert, the football final,
        a camping trip, the theatre play, the book fair, the marathon, the food market, the reunion,
        the chess tournament"""),
    "drink": words("coffee, lemonade, hot chocolate, green tea, beer, smoothie, cider, cola"),
    "food": words("""chocolate, soup, cheese, oranges, cookies, olives, pretzels, pancakes, grapes,
        sandwiches, popcorn, dumplings"""),
    "subject": words("""biology, maths, history, chemistry, French, statistics, geography, economics,
        physics, Latin"""),
    "city": words("""Rome, Lisbon, Oslo, Vienna, Prague, Dublin, Athens, Krakow, Seville, Berlin, Naples,
        Riga, Malta, Zurich, Split, Edinburgh"""),
    "pet": words("cat, dog, hamster, parrot, rabbit, guinea pig, turtle, snake"),
    "workplace": words("""bank, hospital, bookshop, radio station, university, hotel, law firm, museum,
        school, airport"""),
    "dish": words("""lasagne, apple pie, moussaka, carrot cake, curry, cheesecake, goulash, paella, quiche,
        brownies"""),
    "ingredient": words("""eggs, flour, butter, garlic, cream, onions, sugar, tomatoes, rice, yoghurt,
        cinnamon, mushrooms, spinach, honey"""),
    "film": words("""The Quiet Island, Night Bakers, Red Harbour, Office 9, Moon Over Leeds, The Last Tram,
        Dog Days Inn, Paper Kings, Under the Pier, Stolen Summer"""),
    "plot": words("""two sisters who rob a bank, a baker with amnesia, a village without mirrors,
        a retired spy, a chess prodigy, robots on a farm, a haunted hotel, a doctor lost at sea"""),
    "device": words("""laptop, phone, washing machine, dishwasher, TV, printer, coffee machine,
        vacuum cleaner, toaster, tablet"""),
    "specialist": words("""dentist, doctor, eye doctor, physiotherapist, dermatologist, surgeon,
        cardiologist, allergist"""),
    "sport": words("""yoga, boxing, the gym, football practice, pilates, swimming, dance class, volleyball,
        karate, zumba"""),
}
RANGES = {"minutes": (10, 56, 5), "num": (6, 61, 1), "num2": (2, 10, 1)}
TAILS = ["", "", "", "", "", "", "", "", " 🙂", " :)", " xx", " haha"]
SLANG = {
    "you": "u",
    "are": "r",
    "tomorrow": "tmrw",
    "please": "pls",
    "because": "cuz",
    "Thank you": "Thx",
    "really": "rly",
    "I'm": "im",
    "don't": "dont",
}
OPENERS = [
    "",
    "",
    "Hi {B}!",
    "Hey",
    "Hello {B}",
    "{B}?",
    "Hi, got a minute?",
    "Yo",
    "Good morning {B} :)",
    "You there?",
    "Hi {B}, sorry to bother you",
    "Quick question",
]
CLOSERS = [
    "",
    "",
    "",
    "Bye!",
    "See you!",
    "Talk later",
    "👍",
    "Take care",
    "Gotta run",
    "Ciao",
    "<file_gif>",
    "TTYL",
]
CHATTER = [
    tuple(lines(block))
    for block in """
A: [Crazy|Awful|Strange] weather today, [isn't it?|right?]
B: [I'm soaked|Don't get me started]

A: [Are you at home?|Where are you now?]
B: [On the bus|Still in bed|At my desk, bored]

B: [I was just thinking of you|You read my mind]
A: [Really? haha|Great minds!]

A: [Is your phone ok?|Did you see my call?]
B: [Battery was dead|It was on silent, sorry]

A: I've been [up since five|running around all day]
B: [Poor thing|Coffee helps|Same here]

B: [Can't talk long, meeting in ten|Make it quick, I'm cooking]
A: [ok!|I'll be brief]

A: [How's your mum?|How are the kids?]
B: [Much better, thanks|Fine, growing too fast]

A: <file_photo>
B: [Haha where is that?|So cute!|Lovely picture]

B: [Sorry for the late reply|Just saw your message]
A: [No problem|Never mind]

A: My [internet|keyboard] is [so slow|driving me mad] today
B: [Mine too|Restart it]

B: [New profile picture?|Nice photo btw]
A: [Haha thanks|It's ancient]

A: [Did you sleep well?|You were quiet yesterday]
B: [Not at all, the baby cried|I was reading]
""".strip().split("\n\n")
]


@dataclass(frozen=True)
class Ending:
    """The turns after the common start, and summaries of the whole dialogue."""

    turns: list[str]
    summaries: list[str]


@dataclass(frozen=True)
class Scene:
    start: list[str]
    endings: list[Ending]


def _scene(block: str) -> Scene:
    """Parse one ``#`` block."""
    start, *endings = (lines(part) for part in re.split(r"^\? .*$", block, flags=re.MULTILINE))
    return Scene(
        start[1:],
        [
            Ending([line for line in ending if line[0] != ">"], [line[2:] for line in ending if line[0] == ">"])
            for ending in endings
        ],
    )


SCENES = [_scene(block) for block in SCENES_TEXT.strip().split("\n\n")]


def rows(split: Split, rng: Random, taken: set[str]) -> list[Row]:
    """Distinct rows in the shape of SAMSum: id, dialogue (turns on lines), summary."""
    return unique(lambda: _row(split, rng), lambda row: str(row["dialogue"]), taken, NUM_ROWS[split])


def _row(split: Split, rng: Random) -> Row:
    scene = draw(rng, SCENES, split, 0.4)
    ending = rng.choice(scene.endings)
    values = _names(rng, split)
    turns = [turn.lstrip("~") for turn in scene.start if turn[0] != "~" or rng.random() < 0.5] + ending.turns
    turns = [choose(rng, turn) for turn in turns]
    turns = _chatter(rng, split, turns)
    summary = choose(rng, rng.choice(ending.summaries))
    for slot in SLOT.findall("\n".join([*turns, summary])):
        if slot not in values:
            values[slot] = _value(rng, slot, split, set(values.values()))
    dialogue = "\n".join(_turn(rng, turn, values) for turn in turns)
    text = tidy(summary.format(**values))
    return {"id": str(_number(dialogue)), "dialogue": dialogue, "summary": text[0].upper() + text[1:]}


def _chatter(rng: Random, split: Split, turns: list[str]) -> list[str]:
    """Small talk around the matter, which no summary mentions."""
    opener, closer = rng.choice(OPENERS), rng.choice(CLOSERS)
    before = [choose(rng, turn) for turn in draw(rng, CHATTER, split, 0.3)] if rng.random() < 0.5 else []
    if opener and "Hi" not in turns[0] and "Hey" not in turns[0]:
        before.insert(0, f"A: {opener}")
    after = [f"{rng.choice('AB')}: {closer}"] if closer else []
    return [*before, *turns, *after]


def _turn(rng: Random, turn: str, values: dict[str, str]) -> str:
    """'A: text' -> 'Name: text' with a slip, some slang or an emoji now and then."""
    speaker, text = turn.split(": ", 1)
    text = tidy(text.format(**values))
    text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    if rng.random() < 0.12:
        for word, short in SLANG.items():
            text = re.sub(rf"\b{word}\b", short, text)
    if text[-1].isalnum():
        text += rng.choice(TAILS)
    return f"{values[speaker]}: {text}"


def _names(rng: Random, split: Split) -> dict[str, str]:
    """Three people and their pronouns."""
    values: dict[str, str] = {}
    for person in "ABC":
        gender = rng.choice("fm")
        name = ""
        while not name or name in values.values():
            name = draw(rng, WOMEN if gender == "f" else MEN, split, 0.3)
        values[person] = name
        values.update({f"{person}_{key}": word for key, word in PRONOUNS[gender].items()})
    return values


def _value(rng: Random, slot: str, split: Split, used: set[str]) -> str:
    kind = slot if slot in POOLS or slot in RANGES else slot.rstrip("0123456789")
    while True:
        value = str(rng.randrange(*RANGES[kind])) if kind in RANGES else draw(rng, POOLS[kind], split, 0.3)
        if value not in used:
            return value


def _number(dialogue: str) -> int:
    """Eight digits, as the ids of the dataset look."""
    return 10_000_000 + int(hashlib.sha256(dialogue.encode()).hexdigest()[:8], 16) % 90_000_000
