"""PAWS: sentence pairs with nearly the same words; some mean the same, some have their roles swapped.

A frame is a block: ``=`` a sentence, ``+`` others that mean the same, ``-`` others that do not. Slots that end
in different digits get different values. Tokenised as the dataset is: spaces before punctuation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from tools.samples.engine import Row, Split, choose, draw, lines, unique, words

NUM_ROWS: dict[Split, int] = {"train": 480, "validation": 110, "test": 160}
POSITIVE_SHARE = 0.45
SLOT = re.compile(r"\{(\w+)\}")

FRAMES_TEXT = """
= {p1} was born in {c1} and died in {c2} in {y1} .
+ Born in {c1} , {p1} died in {c2} in {y1} .
+ {p1} , who was born in {c1} , died in {c2} in {y1} .
- {p1} was born in {c2} and died in {c1} in {y1} .
- Born in {c2} in {y1} , {p1} died in {c1} .

= The {r1} River is a tributary of the {r2} River in {k1} .
+ In {k1} , the {r1} River is a tributary of the {r2} River .
+ The {r1} River in {k1} is one of the tributaries of the {r2} River .
- The {r2} River is a tributary of the {r1} River in {k1} .
- In {k1} , the {r2} River is a tributary of the {r1} River .

= The album was written by {p1} and produced by {p2} [in|during] {z1} .
+ Written by {p1} , the album was produced by {p2} in {z1} .
+ {p1} wrote the album and {p2} produced it in {z1} .
- The album was written by {p2} and produced by {p1} in {z1} .
- {p2} wrote the album , which {p1} produced in {z1} .

= After {p1} resigned in {y1} , {p2} became the {job1} of {c1} .
+ {p2} became the {job1} of {c1} after {p1} resigned in {y1} .
+ When {p1} resigned in {y1} , {p2} took over as the {job1} of {c1} .
- After {p2} resigned in {y1} , {p1} became the {job1} of {c1} .
- {p1} became the {job1} of {c1} after {p2} resigned in {y1} .

= The team moved from {c1} to {c2} before the {y1} season .
+ Before the {y1} season , the team moved from {c1} to {c2} .
+ Before the {y1} season the team left {c1} and moved to {c2} .
- The team moved from {c2} to {c1} before the {y1} season .
- Before the {y1} season , the team moved to {c1} from {c2} .

= {p1} beat {p2} in the final of the {c1} Open in {y1} .
+ In {y1} , {p2} was beaten by {p1} in the final of the {c1} Open .
+ {p2} lost to {p1} in the final of the {c1} Open in {y1} .
- {p2} beat {p1} in the final of the {c1} Open in {y1} .
- In {y1} , {p1} was beaten by {p2} in the final of the {c1} Open .

= The station lies between {c1} and {c2} on the line to {c3} .
+ On the line to {c3} , the station lies between {c2} and {c1} .
+ The station on the line to {c3} lies between {c1} and {c2} .
- The station lies between {c1} and {c3} on the line to {c2} .
- On the line to {c1} , the station lies between {c3} and {c2} .

= {p1} and {p2} were [elected|chosen] in {y1} , while {p3} was elected in {y2} .
+ {p2} and {p1} were elected in {y1} , while {p3} was elected in {y2} .
+ While {p3} was elected in {y2} , {p1} and {p2} were elected in {y1} .
- {p1} and {p3} were elected in {y1} , while {p2} was elected in {y2} .
- {p1} and {p2} were elected in {y2} , while {p3} was elected in {y1} .

= The {a1} [version|edition] is longer than the {a2} version but it is less popular .
+ The {a1} version is less popular than the {a2} version , but it is longer .
+ Although the {a1} version is longer than the {a2} version , it is less popular .
- The {a2} version is longer than the {a1} version but it is less popular .
- Although the {a2} version is longer than the {a1} version , it is less popular .

= {p1} taught {s1} at the University of {c1} until {y1} and {s2} after that .
+ Until {y1} , {p1} taught {s1} at the University of {c1} , and {s2} after that .
+ At the University of {c1} , {p1} taught {s1} until {y1} and {s2} after that .
- {p1} taught {s2} at the University of {c1} until {y1} and {s1} after that .
- Until {y1} , {p1} taught {s2} at the University of {c1} , and {s1} after that .

= The company bought {n1} {v1} and sold {n2} {v2} in {y1} .
+ In {y1} , the company sold {n2} {v2} and bought {n1} {v1} .
+ In {y1} the company bought {n1} {v1} and it sold {n2} {v2} .
- The company bought {n2} {v1} and sold {n1} {v2} in {y1} .
- In {y1} , the company bought {n2} {v2} and sold {n1} {v1} .

= {p1} married {p2} , the daughter of {p3} , in {c1} in {y1} .
+ In {y1} , {p1} married {p2} , the daughter of {p3} , in {c1} .
+ {p1} was married in {c1} in {y1} to {p2} , who was the daughter of {p3} .
- {p1} married {p3} , the daughter of {p2} , in {c1} in {y1} .
- In {y1} , {p3} married {p2} , the daughter of {p1} , in {c1} .

= The song was first [recorded|released] in {z1} and became a hit in {k1} in {z2} .
+ First recorded in {z1} , the song became a hit in {k1} in {z2} .
+ The song became a hit in {k1} in {z2} , but it was first recorded in {z1} .
- The song was first recorded in {z2} and became a hit in {k1} in {z1} .
- First recorded in {k1} in {z1} , the song became a hit in {z2} .

= The north wing was designed by {p1} and the south wing by {p2} .
+ {p1} designed the north wing and {p2} the south wing .
+ The south wing was designed by {p2} and the north wing by {p1} .
- The south wing was designed by {p1} and the north wing by {p2} .
- {p2} designed the north wing and {p1} the south wing .

= {p1} sold the {o1} to {p2} for {n1} dollars .
+ {p2} bought the {o1} from {p1} for {n1} dollars .
+ For {n1} dollars , {p1} sold {p2} the {o1} .
- {p2} sold the {o1} to {p1} for {n1} dollars .
- {p1} bought the {o1} from {p2} for {n1} dollars .

= The old road from {c1} to {c2} was replaced by a {a3} road in {y1} .
+ In {y1} , a {a3} road replaced the old road from {c1} to {c2} .
+ A {a3} road took the place of the old road from {c1} to {c2} in {y1} .
- The {a3} road from {c1} to {c2} was replaced by an old road in {y1} .
- In {y1} , the old road from {c1} to {c2} replaced a {a3} road .

= {p1} was the teacher of {p2} and the {job2} of {p3} .
+ {p1} taught {p2} and was the {job2} of {p3} .
+ {p1} was the {job2} of {p3} and the teacher of {p2} .
- {p1} was the teacher of {p3} and the {job2} of {p2} .
- {p2} was the teacher of {p1} and the {job2} of {p3} .

= The district includes {c1} and parts of {c2} , but not {c3} .
+ Parts of {c2} and all of {c1} belong to the district , but {c3} does not .
+ The district includes parts of {c2} as well as {c1} , but it does not include {c3} .
- The district includes {c3} and parts of {c2} , but not {c1} .
- The district includes parts of {c3} as well as {c1} , but it does not include {c2} .

= {p1} praised the {s1} students , but criticised the {s2} students .
+ {p1} criticised the {s2} students , but praised the {s1} students .
+ While the {s2} students were criticised by {p1} , the {s1} students were praised .
- {p1} praised the {s2} students , but criticised the {s1} students .
- {p1} criticised the {s1} students , but praised the {s2} students .

= The {an1} was larger than the {an2} but smaller than the {an3} .
+ The {an1} was smaller than the {an3} but larger than the {an2} .
+ The {an2} was smaller than the {an1} , and the {an3} was larger .
- The {an1} was smaller than the {an2} but larger than the {an3} .
- The {an1} was larger than the {an3} but smaller than the {an2} .

= In {y1} , {p1} [left|quit] the {c1} {club1} and joined the {c2} {club2} .
+ {p1} joined the {c2} {club2} in {y1} after leaving the {c1} {club1} .
+ In {y1} , {p1} went from the {c1} {club1} to the {c2} {club2} .
- In {y1} , {p1} left the {c2} {club2} and joined the {c1} {club1} .
- {p1} joined the {c1} {club1} in {y1} after leaving the {c2} {club2} .

= The film stars {p1} as a {job1} and {p2} as a {job2} .
+ In the film , {p1} plays a {job1} and {p2} a {job2} .
+ The film stars {p2} as a {job2} and {p1} as a {job1} .
- The film stars {p2} as a {job1} and {p1} as a {job2} .
- In the film , {p1} plays a {job2} and {p2} a {job1} .

= The letter from {p1} to {p2} was found by {p3} in {y1} .
+ In {y1} , {p3} found the letter that {p1} wrote to {p2} .
+ {p3} found the letter from {p1} to {p2} in {y1} .
- The letter from {p2} to {p1} was found by {p3} in {y1} .
- The letter from {p1} to {p3} was found by {p2} in {y1} .

= Most {an1}s live in {k1} , and some live in {k2} .
+ Some {an1}s live in {k2} , but most live in {k1} .
+ Most of the {an1}s live in {k1} and some of them in {k2} .
- Most {an1}s live in {k2} , and some live in {k1} .
- Some {an1}s live in {k1} , but most live in {k2} .

= The bridge was opened by {p1} in {y1} and closed [again|down] in {y2} .
+ Opened in {y1} by {p1} , the bridge was closed in {y2} .
+ {p1} opened the bridge in {y1} , and it was closed in {y2} .
- The bridge was opened by {p1} in {y2} and closed in {y1} .
- Closed in {y1} , the bridge was opened by {p1} in {y2} .

= {p1} translated the {a4} book by {p2} into {l1} .
+ The {a4} book by {p2} was translated into {l1} by {p1} .
+ {p1} made a {l1} translation of the {a4} book by {p2} .
- {p2} translated the {a4} book by {p1} into {l1} .
- The {a4} book by {p1} was translated into {l1} by {p2} .

= The population of {c1} rose from {n1} to {n2} between {y1} and {y2} .
+ Between {y1} and {y2} , the population of {c1} rose from {n1} to {n2} .
+ In {c1} the population went up to {n2} from {n1} between {y1} and {y2} .
- The population of {c1} fell from {n2} to {n1} between {y1} and {y2} .
- Between {y1} and {y2} , the population of {c1} rose from {n2} to {n1} .

= {c1} is [located|situated] {d1} of {c2} and {d2} of {c3} .
+ {c1} is located {d2} of {c3} and {d1} of {c2} .
+ Located {d1} of {c2} , {c1} is also {d2} of {c3} .
- {c1} is located {d2} of {c2} and {d1} of {c3} .
- {c2} is located {d1} of {c1} and {d2} of {c3} .

= {p1} was accused by {p2} of stealing a {o1} from {p3} .
+ {p2} accused {p1} of stealing a {o1} from {p3} .
+ {p2} said that {p1} had stolen a {o1} from {p3} .
- {p1} accused {p2} of stealing a {o1} from {p3} .
- {p1} was accused by {p3} of stealing a {o1} from {p2} .

= The first {m1} was held in {c1} and the second in {c2} .
+ {c1} hosted the first {m1} and {c2} the second .
+ The second {m1} was held in {c2} and the first in {c1} .
- The first {m1} was held in {c2} and the second in {c1} .
- {c2} hosted the first {m1} and {c1} the second .

= {p1} plays the {i1} and sings , and {p2} plays the {i2} .
+ {p2} plays the {i2} , and {p1} plays the {i1} and sings .
+ {p1} sings and plays the {i1} , while {p2} plays the {i2} .
- {p1} plays the {i2} and sings , and {p2} plays the {i1} .
- {p1} plays the {i1} , and {p2} plays the {i2} and sings .

= It is not {p1} but {p2} who owns the {o1} in {c1} .
+ The {o1} in {c1} is owned by {p2} , not by {p1} .
+ {p2} owns the {o1} in {c1} ; {p1} does not .
- It is not {p2} but {p1} who owns the {o1} in {c1} .
- The {o1} in {c1} is owned by {p1} , not by {p2} .

= The plant is [used|grown] as a {u1} in {k1} and as a {u2} in {k2} .
+ In {k1} the plant is used as a {u1} , and in {k2} as a {u2} .
+ As a {u2} the plant is used in {k2} , and as a {u1} in {k1} .
- The plant is used as a {u2} in {k1} and as a {u1} in {k2} .
- In {k2} the plant is used as a {u1} , and in {k1} as a {u2} .

= {p1} , the {job1} , was a friend of {p2} , the {job2} .
+ {p2} , the {job2} , was a friend of {p1} , the {job1} .
+ The {job1} {p1} was a friend of the {job2} {p2} .
- {p1} , the {job2} , was a friend of {p2} , the {job1} .
- The {job2} {p1} was a friend of the {job1} {p2} .

= The army of {k1} [defeated|overcame] the army of {k2} near {c1} in {y1} .
+ Near {c1} , the army of {k2} was defeated by the army of {k1} in {y1} .
+ In {y1} , the army of {k1} defeated that of {k2} near {c1} .
- The army of {k2} defeated the army of {k1} near {c1} in {y1} .
- Near {c1} , the army of {k1} was defeated by the army of {k2} in {y1} .

= Only {p1} knew that {p2} had hidden the {o1} .
+ {p1} alone knew that {p2} had hidden the {o1} .
+ That {p2} had hidden the {o1} was known only to {p1} .
- Only {p2} knew that {p1} had hidden the {o1} .
- {p1} knew that only {p2} had hidden the {o1} .

= From {y1} to {y2} he lived in {c1} , and then he moved to {c2} with {p1} .
+ He lived in {c1} from {y1} to {y2} and then moved to {c2} with {p1} .
+ He moved to {c2} with {p1} after he had lived in {c1} from {y1} to {y2} .
- From {y1} to {y2} he lived in {c2} , and then he moved to {c1} with {p1} .
- From {y1} to {y2} he lived in {c1} with {p1} , and then he moved to {c2} alone .

= She speaks {l1} and {l2} well , but she cannot read {l3} .
+ She cannot read {l3} , but she speaks {l2} and {l1} well .
+ She speaks both {l2} and {l1} well , but cannot read {l3} .
- She speaks {l1} and {l3} well , but she cannot read {l2} .
- She can read {l3} , but she does not speak {l1} and {l2} well .

= The {w1} building was built before the {w2} one and rebuilt after {y1} .
+ The {w1} building , rebuilt after {y1} , was built before the {w2} one .
+ The {w2} building was built after the {w1} one , which was rebuilt after {y1} .
- The {w1} building was built after the {w2} one and rebuilt before {y1} .
- The {w2} building was built before the {w1} one , which was rebuilt after {y1} .

= {p1} gave {p2} a {o1} and got a {o2} [in return|in exchange] .
+ {p1} got a {o2} from {p2} in return for a {o1} .
+ {p2} gave {p1} a {o2} in return for a {o1} .
- {p1} gave {p2} a {o2} and got a {o1} in return .
- {p1} got a {o1} from {p2} in return for a {o2} .
"""

POOLS: dict[str, list[str]] = {
    "p": words("""Alma Verdier, Colin Marsh, Jonas Ekberg, Petra Novotny, Hugh Tennant, Samira Haddad,
        Owen Castell, Bianca Ferro, Leopold Strand, Mabel Oakes, Rajan Pillai, Ingrid Voss, Desmond Achebe,
        Carla Nunes, Fergus Lyle, Yuki Tanabe, Stefan Baran, Nell Harding, Amos Whitfield, Zofia Lis,
        Marco Santini, Dora Kemp, Ivor Blaine, Leila Nasser, Peter Hallam, Greta Solano, Silas Monk,
        Anouk Dumas, Toby Marlow, Esther Quayle, Boris Petrov, Molly Fairbank"""),
    "c": words("""Ashbury, Calverton, Dornwick, Elmsford, Fallbrook, Garrison, Hartwell, Ironton, Kenmore,
        Larchmont, Midvale, Norwood, Oakdale, Pinehurst, Quincy, Redhill, Stanmore, Trenton, Upland, Wexford,
        Yorkton, Brindisi, Salerno, Malmo, Tampere, Bergen, Ghent, Linz, Porto, Leiden, Varna, Kazan"""),
    "k": words("""Norway, Bolivia, Kenya, Portugal, Austria, Nepal, Chile, Hungary, Morocco, Finland, Peru,
        Greece, Ghana, Estonia, Vietnam, Belgium"""),
    "r": words("""Tarna, Oltul, Kessel, Moravel, Stonewater, Vedra, Lomna, Pargo, Birch, Amsel, Crow, Tizna,
        Sarmel, Wolf, Heron, Bistra"""),
    "job": words("""mayor, bishop, governor, doctor, painter, sheriff, librarian, gardener, surgeon,
        conductor, judge, translator, secretary, photographer, carpenter, lawyer"""),
    "s": words("""chemistry, history, geography, music, law, physics, biology, drawing, philosophy,
        economics, geology, mathematics, anatomy, theology, botany, astronomy"""),
    "v": words("""trucks, farms, hotels, ships, mills, houses, horses, cinemas, shops, engines, pubs,
        barges, mines, newspapers, buses, vineyards"""),
    "o": words("""violin, boat, lamp, painting, sword, map, necklace, clock, carriage, diary, statue,
        telescope, piano, crown, camera, desk"""),
    "a": words("""English, French, shorter, original, second, modern, Spanish, early, German, revised,
        later, stone, American, wooden, digital, Italian"""),
    "an": words("""otter, badger, falcon, hare, weasel, marten, puffin, raven, stork, turtle, beaver, gull,
        owl, hedgehog, newt, crane"""),
    "club": words("""Rovers, Choir, Rangers, Orchestra, Times, Council, Wanderers, Ballet, United, Eagles,
        Herald, Academy, Athletic, Guild, Falcons, Theatre"""),
    "l": words("""Dutch, Polish, Arabic, Latin, Swedish, Greek, Hindi, Turkish, Danish, Czech, Korean,
        Welsh, Finnish, Russian, Persian, Catalan"""),
    "d": words("north, south, east, west, northeast, southwest, upstream, downstream"),
    "m": words("""festival, congress, race, tournament, exhibition, auction, debate, concert, fair, summit,
        trial, regatta, contest, reunion, workshop, gala"""),
    "i": words("""piano, guitar, drums, flute, cello, trumpet, organ, harp, banjo, violin, clarinet, bass,
        oboe, mandolin, viola, saxophone"""),
    "u": words("""spice, medicine, dye, vegetable, fuel, perfume, sweetener, fibre, poison, soap, fodder,
        tea, sedative, hedge, varnish, tonic"""),
}
POOLS["w"] = words("brick, stone, wooden, white, corner, taller, round, Gothic, eastern, glass, marble, red")
POOLS["a3"] = words("paved, wider, gravel, private, straight, coastal, concrete, new")
POOLS["a4"] = words("first, popular, unfinished, last, famous, medical, banned, early")
RANGES = {"y": (1806, 2012), "z": (1951, 2012), "n": (12, 990)}


@dataclass(frozen=True)
class Frame:
    """Wordings of one statement, and wordings of statements that look like it."""

    same: list[str]
    different: list[str]


def _frames(text: str) -> list[Frame]:
    blocks = [lines(block) for block in text.strip().split("\n\n")]
    return [
        Frame([line[2:] for line in block if line[0] in "=+"], [line[2:] for line in block if line[0] == "-"])
        for block in blocks
    ]


FRAMES = _frames(FRAMES_TEXT)


def rows(split: Split, rng: Random, taken: set[str]) -> list[Row]:
    """Distinct rows in the shape of PAWS: id (counts from 0 in each split), sentence1, sentence2, label."""
    pairs = unique(lambda: _row(split, rng), lambda row: str(row["sentence1"]), taken, NUM_ROWS[split])
    return [{"id": i, **pair} for i, pair in enumerate(pairs)]


def _row(split: Split, rng: Random) -> Row:
    """Held-out frames make half of validation and test; either sentence may come first."""
    frame = draw(rng, FRAMES, split, 0.5)
    label = int(rng.random() < POSITIVE_SHARE)
    if label:
        first, second = rng.sample(frame.same, 2)
    else:
        first, second = rng.sample([rng.choice(frame.same), rng.choice(frame.different)], 2)
    values: dict[str, str] = {}
    for slot in sorted(set(SLOT.findall(first + second))):
        values[slot] = _value(rng, slot, split, set(values.values()))
    return {"sentence1": _write(rng, first, values), "sentence2": _write(rng, second, values), "label": label}


def _write(rng: Random, template: str, values: dict[str, str]) -> str:
    text = choose(rng, template).format(**values)
    return text[0].upper() + text[1:]


def _value(rng: Random, slot: str, split: Split, used: set[str]) -> str:
    """Different digits, different values; years and numbers grow with the digit."""
    kind = slot if slot in POOLS else slot.rstrip("0123456789")
    while True:
        if kind in RANGES:
            low, high = RANGES[kind]
            half = (high - low) // 2
            value = str(rng.randrange(low, low + half) + (half if slot.endswith("2") else 0))
        else:
            value = draw(rng, POOLS[kind], split, 0.3)
        if value not in used:
            return value
