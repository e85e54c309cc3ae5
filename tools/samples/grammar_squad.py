"""SQuAD: English encyclopedic passages about invented things, answers as spans.

Titles never cross splits; one domain is read in validation only and one in test only.
"""

from __future__ import annotations

from random import Random

from tools.samples.engine import Row, Split, draw, unique, words
from tools.samples.facts_squad import DOMAINS
from tools.samples.passages import Entity, Fact, Passage, ask, askable, row_id, write_passage

NUM_ROWS: dict[Split, int] = {"train": 280, "validation": 72, "test": 112}
OWN_DOMAIN: dict[Split, str] = {"validation": "festival", "test": "observatory"}
ENTITIES: dict[Split, slice] = {"train": slice(0, 7), "validation": slice(7, 8), "test": slice(8, 10)}
QUESTIONS_PER_PASSAGE = 2

POOLS: dict[str, list[str]] = {
    "river": words("""River Tamble, River Orne, River Wexel, Little Arrow River, River Cadmer, River Solt,
        Heron River, River Ashby, River Munna, River Pell"""),
    "city": words("""Carrowgate, Lindhaven, Montreval, Eskdale City, Port Almira, Wexbridge, Novakirk,
        Santa Perla, Tarrington, Holmsund, Belcastel, Umbria Bay, Kingsferry, Altenburg Mills"""),
    "people_group": words("""Flemish weavers, Baltic fishermen, Moravian miners, Basque shepherds,
        Welsh quarrymen, Norse traders, wandering tinkers, Huguenot refugees, seal hunters,
        Armenian merchants"""),
    "attraction": words("""the clean water, the rich soil, the tin in the hills, the sheltered harbour,
        the low taxes, the abundant timber, the salt springs, the herring"""),
    "industry": words("""wool spinning, whaling, slate mining, barrel making, rope making, glass blowing,
        herring fishing, brick making, beekeeping, seaweed farming"""),
    "person": words("""Josiah Penrose, Eleanor Vance, Matthias Brandt, Lucinda Okafor, Samuel Thackery,
        Greta Lindqvist, Aldous Fairweather, Noor Rahimi, Walter Pimm, Constance Adeyemi, Viktor Halasz,
        Ruth Calder, Emil Stravos, Philippa Drake, Tomas Arrieta, Hannah Greenlaw, Cyril Umber, Lena Maddox"""),
    "building": words("""the corn exchange, the old town hall, the covered market, the parish church,
        the theatre, the customs house, the wooden bridge, the grammar school"""),
    "event": words("""a regatta, a cheese fair, a chess tournament, a brass band contest, a lantern parade,
        a sheepdog trial, a poetry competition, a raft race"""),
    "month": words("January, February, March, April, May, June, July, August, September, October, November"),
    "job": words("""clockmaker, schoolteacher, ferryman, cabinet maker, country doctor, telegraph clerk,
        saddler, printer, gardener, chimney sweep, piano tuner, pharmacist, bookbinder, baker"""),
    "subject": words("""chemistry, law, botany, theology, geology, medicine, architecture, ancient Greek,
        mechanics"""),
    "reason": words("""her father's debts, a long illness, the outbreak of war, a quarrel with the dean,
        the birth of a son, a shortage of money, failing eyesight"""),
    "book": words("""The Salt Road, Winter Accounts, Nine Rivers, A Borrowed Coat, Letters from the Edge,
        The Quiet Shore, Dust and Bells, The Far Pasture, Stone Weather, The Ninth Harbour"""),
    "quality": words("""her sharp dialogue, her sense of humour, the beauty of her landscapes,
        her feeling for animals, the honesty of her style, her minor characters"""),
    "place": words("""the Azores, northern Italy, a village in Wales, southern Norway, the Black Forest,
        Patagonia, the Scottish Highlands, central Anatolia, the Atlas Mountains, New Zealand, Nova Scotia"""),
    "award": words("""Golden Quill, Marchmont Prize, Silver Compass, Laurel of the North, Whitlock Medal,
        Orion Award, Ivory Lamp"""),
    "illness": words("pneumonia, scurvy, typhoid fever, a heart attack, malaria, influenza, blood poisoning"),
    "institution": words("""the Royal Society of Letters, the city library, the Northern Geographic Union,
        a convent in Bruges, the Museum of Trade, the national archive, a group of private donors,
        the Merchants' Guild, the Ministry of Works, the Hansen Foundation"""),
    "region": words("""the delta of the Orun, the Keld Peninsula, the Marrow Islands, the Upper Tarn Valley,
        the lowlands of Vesper, the Greyback Range, the Sorrel Plateau, the Amber Marshes, the Blue Fjords,
        the Camber Hills"""),
    "shore": words("""the Keld Peninsula, the coast of Lower Vesper, the mouth of the Orun, Cape Sorrow,
        the western tip of Brennia, Point Umber, the Gulf of Sarn, Long Strand"""),
    "man": words("""Edmund Rask, Julian Marsh, Theodore Finch, Pascal Durand, Gilbert Amory, Nikolai Brandt,
        Oscar Penn"""),
    "ship": words("""Morning Star, Halcyon, Iron Duchess, Petrel, Good Intent, Santa Lucia, Northern Light,
        Sea Thistle"""),
    "goods": words("""copper ore, a northern passage, amber, granite, rare spices, coal, whale oil, timber,
        china clay"""),
    "skill": words("""how to build a snow house, how to dry fish, how to read the stars, how to drive dogs,
        how to make boats from skins, how to find water in the sand"""),
    "landform": words("strait, glacier, lake, mountain pass, cape, waterfall, bay"),
    "motto": words("""Patience opens doors, Built to be kept, Light from many lamps, Measure twice,
        Never idle, From the roots, Nothing without work, Steady as the tide"""),
    "treasure": words("""a map drawn on whale skin, a prayer book from Cordoba, a clock without hands,
        a globe of silver, a carved chess set, a letter of Isaac Newton, a mechanical swan,
        a tapestry of the seasons"""),
    "team": words("Kingfishers, Red Foxes, Stonecutters, Night Herons, Lancers, Thunderers, Blue Hares"),
    "colours": words("""green and gold, black and white, crimson, purple and silver, sky blue,
        orange and navy"""),
    "field": words("""the study of earthquakes, marine biology, artificial limbs, bee diseases, solar cells,
        the chemistry of soil, speech disorders"""),
    "product": words("""barometers, tinned soup, sewing machines, rowing boats, wall clocks, stained glass,
        bicycles, writing paper, wool blankets, pocket knives"""),
    "lender": words("""an aunt, a local priest, a widow next door, the savings bank, a retired sea captain,
        an uncle in America, a friendly innkeeper"""),
    "workshop": words("""a disused chapel, the cellar of an inn, a horse stable, a boathouse,
        a rented attic, a former bakery, a railway arch"""),
    "cause": words("""an order from the navy, a gold medal at the world fair, a cut in the price of coal,
        the invention of a new glaze, a lucky advertisement, the closure of a rival"""),
    "grievance": words("""the length of the night shift, unpaid holidays, the dismissal of a foreman,
        dangerous machines, the price of canteen food, a cut in wages"""),
    "rival": words("""Hartmann Tools, Bexley Works, Osprey Limited, Drummond Brothers, Kappel and Co,
        Merridew Mills"""),
    "namesake": words("""a lighthouse keeper, his youngest daughter, a Greek river god,
        the queen of Denmark, a village schoolmaster, the ship's cook"""),
    "colouring": words("""dark brown with white spots, bright green, grey with a red throat, pale yellow,
        striped black and orange, almost transparent, dull blue"""),
    "food": words("""water snails, pine seeds, ants, fallen fruit, freshwater crabs, lichen, wild honey,
        grass roots"""),
    "sense": words("""smell alone, listening for vibrations, watching other animals,
        touching the ground with its whiskers, following the scent of rain"""),
    "nest": words("""hollow logs, burrows in the sand, old bird nests, floating leaves, cracks in the rock,
        piles of moss"""),
    "enemy": words("foxes, sea eagles, grass snakes, wild cats, large pike, owls, stray dogs"),
    "defence": words("""playing dead, spraying a bitter liquid, digging itself in, jumping into the water,
        changing its colour, making a noise like a rattle"""),
    "threat": words("""the draining of the wetlands, pesticides, light pollution, imported rats,
        road traffic, the trade in pets, dry summers"""),
    "thanks": words("""the end of a plague, a rich harvest, the return of the fishing fleet,
        a victory over pirates, rain after three dry years, the birth of twins"""),
    "object": words("paper fish, wooden masks, candles in turnips, branches of willow, silver bells, kites"),
    "dish": words("""barley soup, smoked eel, honey dumplings, goose with plums, chestnut bread,
        pickled herring, lamb stew"""),
    "guest": words("""a stranger, the oldest neighbour, visiting sailors, the fire brigade,
        newly married couples"""),
    "reason_ban": words("""the noise, the danger of fire, a dispute over land, rising costs,
        a series of accidents, the fear of disease, protests of the clergy"""),
    "instrument": words("bagpipes, wooden flutes, copper drums, cow horns, fiddles, accordions"),
    "nickname": words("""Old Faithful Annie, Big Bertram, Goliath, The Patient Lady, Little Giant,
        Black Peter, Cyclops"""),
    "sky": words("""the dry air, the dark nights, its distance from any town, the steady winds,
        the lack of clouds"""),
    "discovery": words("""a moon of Neptune, a comet with two tails, a pair of colliding galaxies,
        a ring of dust, an unusually cold star, eleven asteroids"""),
    "transport": words("oxen, a cable railway, forty mules, an airship, sledges, a rebuilt fire engine"),
    "threat_sky": words("""light from the nearby airport, forest fire smoke, a planned motorway,
        the lack of funds, satellite traffic"""),
    "weekday": words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "decline": words("""the opening of a motorway, the closing of the mines, a landslide,
        the arrival of buses, a rise in fares"""),
    "helper": words("a second engine, a cog wheel, a steam winch, a diesel locomotive from the harbour"),
    "object2": words("""a ruined windmill, a locked trunk, a stamp collection, a talking clock,
        a bronze crown, a racing pigeon, a case of violins"""),
    "relative": words("""an unknown cousin, a grandmother in exile, a godfather, a great-uncle,
        a former teacher"""),
    "period": words("""a long drought, the last days of the empire, the gold rush, a single snowstorm,
        the great flood, the years after the war"""),
    "flaw": words("""its length, its unhappy ending, the many dialects in it, its mockery of judges,
        its odd spelling"""),
    "theme": words("""the price of ambition, loneliness, the end of childhood, memory and guilt, migration,
        trust between strangers, the history of tools"""),
    "hill": words("Beacon Hill, Mount Orrick, the Widow's Peak, Gull Head, Cairn Dubh, Signal Rock"),
    "remains": words("stone circles, shell heaps, iron rings, painted caves, a row of wells, clay tablets"),
    "power": words("solar panels, tidal energy, a wind turbine, an undersea cable, vegetable oil"),
    "collection": words("""antique scales, board games from six continents, fishing gear, early typewriters,
        musical boxes, carpets from the east, coins and medals, models of bridges"""),
    "former": words("""a prison, a tobacco factory, a swimming bath, a fire station, a granary,
        an orphanage, a convent"""),
    "entry": words("the skylight, a coal chute, the laundry room, an open balcony door, the heating tunnel"),
    "group": words("""children under twelve, students of history, blind visitors, retired miners,
        local residents"""),
}
RANGES: dict[str, tuple[int, int, int]] = {
    "year": (1801, 1899, 1),
    "old": (1120, 1690, 1),
    "rail": (1851, 1909, 1),
    "recent": (1984, 2019, 1),
    "birth": (1851, 1879, 1),
    "first": (1889, 1909, 1),
    "honour": (1911, 1939, 1),
    "age": (61, 96, 1),
    "expedition": (1761, 1869, 1),
    "km": (6, 340, 1),
    "population": (1200, 64000, 50),
    "percent": (11, 88, 1),
    "hours": (3, 14, 1),
    "copies": (2500, 96000, 500),
    "number": (4, 38, 1),
    "crew": (14, 190, 1),
    "months": (7, 30, 1),
    "boy": (8, 13, 1),
    "millions": (2, 95, 1),
    "days": (4, 60, 1),
    "grams": (30, 900, 5),
    "few": (2, 19, 1),
    "height": (210, 3900, 5),
    "inches": (24, 140, 2),
}


def rows(split: Split, rng: Random, taken: set[str]) -> list[Row]:
    """Distinct rows in the shape of SQuAD, four per title: id, title, context, question, answers."""
    batches = [
        _title_rows(rng, split, name, facts)
        for domain, (names, facts) in DOMAINS.items()
        for name in _names(split, domain, names)
    ]
    rng.shuffle(batches)
    iterator = iter([row for batch in batches for row in batch])
    return unique(lambda: next(iterator), lambda row: str(row["id"]), taken, NUM_ROWS[split])


def _names(split: Split, domain: str, names: list[str]) -> list[str]:
    if domain in OWN_DOMAIN.values():
        return names if OWN_DOMAIN.get(split) == domain else []
    return names[ENTITIES[split]]


def _title_rows(rng: Random, split: Split, name: str, facts: list[Fact]) -> list[Row]:
    """Two passages about one thing: the first fact introduces it in both, the others are dealt out."""
    entity = Entity(name, name)
    first, *others = facts
    rng.shuffle(others)
    rows: list[Row] = []
    intro: dict[str, str] = {}
    for dealt in (others[:4], others[3:]):
        chosen = [first, *dealt]
        passage = write_passage(rng, entity, chosen, lambda rng, slot: _value(rng, slot, split), intro)
        for key in rng.sample(askable(passage, chosen), QUESTIONS_PER_PASSAGE):
            question = ask(rng, passage, entity, chosen, key)
            rows.append(
                {
                    "id": row_id(passage.context, question, 24),
                    "title": name.replace(" ", "_"),
                    "context": passage.context,
                    "question": question,
                    "answers": _answers(passage, key, split),
                }
            )
    return rows


def _answers(passage: Passage, key: str, split: Split) -> dict[str, list[str] | list[int]]:
    """Training has one answer; validation and test also accept the span without its article, as annotators do."""
    text, start = passage.slots[key]
    spans = [(text, start)]
    article = text.split(" ")[0]
    if split != "train" and article in ("a", "an", "the", "The", "A", "An") and " " in text:
        spans.append((text[len(article) + 1 :], start + len(article) + 1))
    return {"text": [span for span, _ in spans], "answer_start": [begin for _, begin in spans]}


def _value(rng: Random, slot: str, split: Split) -> str:
    """``year2`` draws as ``year``; ``building_cap`` as ``building``, capitalised for the start of a sentence."""
    kind = slot.removesuffix("_cap")
    kind = kind if kind in POOLS else kind.rstrip("0123456789")
    if kind in RANGES:
        value = rng.randrange(*RANGES[kind])
        return f"{value:,}" if kind in ("population", "copies") else str(value)
    value_text = draw(rng, POOLS[kind], split, 0.3)
    return value_text[0].upper() + value_text[1:] if slot.endswith("_cap") else value_text
