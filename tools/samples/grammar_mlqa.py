"""MLQA hi.en: Hindi passages about invented places, people and things; English questions; Hindi answers.

Every domain fixes the gender of its noun, people are spoken of in the respectful plural, and slot values are
words whose oblique form equals the direct one, so that agreement is right in every combination.
"""

from __future__ import annotations

from random import Random

from tools.samples.engine import Row, Split, unique, words
from tools.samples.facts_mlqa import DOMAINS
from tools.samples.passages import Entity, Fact, ask, askable, row_id, write_passage

# The Hub has no train split: a recipe divides `validation` by title. It is large enough for that here too, and the
# files beside it serve the roles when the sample is read as one file per role.
NUM_ROWS: dict[Split, int] = {"train": 312, "validation": 312, "test": 104}
ENTITIES: dict[Split, slice] = {"train": slice(0, 4), "validation": slice(4, 10), "test": slice(10, 12)}
QUESTIONS_PER_PASSAGE: dict[Split, int] = {"train": 3, "validation": 2, "test": 2}

POOLS: dict[str, list[str]] = {
    "river": words("""मंजरी, सोनधारा, कावली, नीलगंगा, चंद्रवती, हिमजा, रेवाली, तमसिनी, वेणुका, शिप्रिका,
        पारिणी, अरुणा"""),
    "crop": words("गेहूँ, सरसों, कपास, मूँगफली, धान, जौ, अलसी, हल्दी, अदरक, अरहर, तिल, सूरजमुखी"),
    "craft": words("""मिट्टी के बर्तन, बाँस की टोकरियाँ, ऊनी शॉल, लकड़ी के खिलौने, लाख की चूड़ियाँ,
        रंगीन दरियाँ, पत्थर की मूर्तियाँ, रेशमी साड़ियाँ, चमड़े के जूते, ताँबे के दीपक"""),
    "man": words("""रमेश वर्मा, केशव मिश्र, हरीश नेगी, गोविंद राव, मोहन भार्गव, देवेंद्र सिंह, अशोक पाटिल,
        नरेश त्यागी, विनोद शाह, सुरेश नायर, प्रकाश दुबे, इमरान खान, जगदीश मेहता, रघुवीर सहगल"""),
    "woman": words("""सुनीता जोशी, कमला देवी, मीरा सेन, शारदा पिल्लै, रुक्मिणी राव, फ़ातिमा बेग, उषा किरण,
        लता चौहान, वसुधा भट्ट, नंदिनी घोष, सरोज तिवारी, गीता रावत"""),
    "town": words("""रामनगरी, सूर्यगढ़, मधुपुर, शांतिनगर, कृष्णपुर, नवलगंज, बेलगाँव, विजयगढ़, सीतापुरम,
        दीपनगर, गुलाबगंज, अमृतनगर, कमलपुर, तारागढ़"""),
    "station": words("पीपलगाँव, लालगंज, मानपुर, सदरनगर, आमगाँव, शिवगंज, बड़नगर, छोटीखेड़ी"),
    "month": words("जनवरी, फ़रवरी, मार्च, अप्रैल, मई, जून, जुलाई, अगस्त, सितंबर, अक्टूबर, नवंबर, दिसंबर"),
    "stone": words("""लाल बलुआ पत्थर, सफ़ेद संगमरमर, काले ग्रेनाइट, पीले चूना पत्थर, स्लेटी बेसाल्ट,
        पकी हुई ईंटों"""),
    "subject": words("""गणित, रसायन विज्ञान, खगोल विज्ञान, दर्शनशास्त्र, इतिहास, वनस्पति विज्ञान,
        अर्थशास्त्र, भौतिकी, संगीत, भूगोल"""),
    "university": words("""सागरमाला विश्वविद्यालय, हिमगिरि विश्वविद्यालय, नालगंगा विश्वविद्यालय,
        प्रभात विश्वविद्यालय, शारदापीठ विश्वविद्यालय, अरावली महाविद्यालय"""),
    "award": words("""ज्ञानदीप पुरस्कार, स्वर्णकमल सम्मान, राज्य गौरव सम्मान, भारती पुरस्कार,
        रत्नमाला पुरस्कार, विश्वमित्र सम्मान"""),
    "book": words("""नदी के उस पार, धूप का टुकड़ा, अधूरा आकाश, सात पहाड़, मिट्टी की गंध, आख़िरी चिट्ठी,
        नीली खिड़की, पत्थर और पानी, साँझ का सूरज, लौटते हुए पक्षी"""),
    "job": words("शिक्षक, डाक बाबू, वकील, डॉक्टर, किसान, लोहार, संगीतकार, दर्ज़ी, पुजारी, इंजीनियर"),
    "king": words("महेंद्रपाल, विक्रमसेन, सूरजभान, जयवर्धन, अजितसिंह, चंद्रकेतु, रणधीर, भीमदेव"),
    "deity": words("शिव, विष्णु, गणेश, सूर्य, हनुमान, कृष्ण"),
    "product": words("""साइकिलें, सौर पैनल, सिलाई मशीनें, दवाइयाँ, काग़ज़, बिजली के पंखे, जूते, ट्रैक्टर,
        साबुन, घड़ियाँ"""),
    "country": words("नेपाल, श्रीलंका, जापान, कीनिया, ब्राज़ील, जर्मनी, मिस्र, इंडोनेशिया, कनाडा, वियतनाम"),
    "sweet": words("""गुड़ के लड्डू, केसर की खीर, तिल की चिक्की, नारियल की बर्फ़ी, चावल के पुए,
        सूजी की कतली, दूध के पेड़े"""),
    "tree": words("पीपल, बरगद, नीम, देवदार, साल, बाँस, आम, चीड़, महुआ"),
    "insect": words("कीड़े, जंगली बेर, छोटी मछलियाँ, घास के बीज, मकड़ियाँ, टिड्डियाँ"),
    "colour": words("गहरा नीला, चमकीला हरा, हल्का भूरा, सुनहरा पीला, काला, सिंदूरी लाल, धूसर"),
    "bird": words("सारस, बगुले, पेलिकन, चकवे, राजहंस, तीतर, किंगफ़िशर"),
    "sport": words("कबड्डी, हॉकी, फ़ुटबॉल, क्रिकेट, वॉलीबॉल, खो-खो"),
    "instrument": words("सितार, बाँसुरी, तबला, सारंगी, वीणा, संतूर, शहनाई, सरोद"),
    "engineer": words("""हेनरी वॉकर, जॉर्ज एलिस, विश्वनाथ आचार्य, थॉमस ग्रे, पी. के. सान्याल, आर्थर बेल,
        माधव कुलकर्णी"""),
    "exhibit": words("""ताड़पत्र की पांडुलिपियाँ, सोने की मुहरें, काँसे की मूर्तियाँ, पुरानी तस्वीरें,
        राजसी पोशाकें, चाँदी की थालियाँ, लोहे की तलवारें, मिट्टी की गुड़ियाँ"""),
    "direction": words("उत्तर, दक्षिण, पूर्व, पश्चिम, उत्तर-पूर्व, दक्षिण-पश्चिम"),
    "mountain": words("नीलशिखर, कैलागिरि, धवलकूट, सोमगिरि, हिमकूट, रत्नगिरि, मेघशिला, वज्रकूट"),
    "disease": words("दमा, बुख़ार, जोड़ों के दर्द, सिरदर्द, अपच, खाँसी"),
}
RANGES: dict[str, tuple[int, int, int]] = {
    "year": (1851, 2009, 1),
    "birth": (1868, 1889, 1),
    "first": (1899, 1919, 1),
    "honour": (1920, 1939, 1),
    "born": (1941, 1972, 1),
    "modern": (1996, 2009, 1),
    "release": (1948, 2009, 1),
    "recent": (2012, 2022, 1),
    "few": (2, 19, 1),
    "old": (1412, 1790, 1),
    "people": (1240, 98700, 10),
    "km": (4, 96, 1),
    "metres": (12, 240, 1),
    "height": (1210, 4890, 5),
    "length": (45, 780, 5),
    "count": (14, 460, 1),
    "age": (73, 97, 1),
    "days": (3, 14, 1),
    "seats": (1200, 48000, 100),
    "crore": (3, 95, 1),
    "percent": (21, 93, 1),
    "grams": (25, 880, 5),
    "minutes": (75, 185, 1),
}


def rows(split: Split, rng: Random, taken: set[str]) -> list[Row]:
    """Distinct rows in the shape of MLQA: id, title, context, question, answers. No title is in two splits."""
    batches = [
        _title_rows(rng, split, entity, facts)
        for names, facts in DOMAINS.values()
        for entity in names[ENTITIES[split]]
    ]
    rng.shuffle(batches)
    iterator = iter([row for batch in batches for row in batch])
    return unique(lambda: next(iterator), lambda row: str(row["id"]), taken, NUM_ROWS[split])


def _title_rows(rng: Random, split: Split, names: tuple[str, str], facts: list[Fact]) -> list[Row]:
    """Two passages about one thing: the first fact introduces it in both, the others are dealt out."""
    entity = Entity(*names)
    first, *others = facts
    rng.shuffle(others)
    half = len(others) // 2
    rows: list[Row] = []
    intro: dict[str, str] = {}
    for dealt in (others[:half], others[half:]):
        chosen = [first, *dealt[: rng.choice((3, 4))]]
        passage = write_passage(rng, entity, chosen, _value, intro)
        for key in rng.sample(askable(passage, chosen), QUESTIONS_PER_PASSAGE[split]):
            question = ask(rng, passage, entity, chosen, key)
            text, start = passage.slots[key]
            rows.append(
                {
                    "id": row_id(passage.context, question, 40),
                    "title": entity.name,
                    "context": passage.context,
                    "question": question,
                    "answers": {"text": [text], "answer_start": [start]},
                }
            )
    return rows


def _value(rng: Random, slot: str) -> str:
    """A value for ``year2`` comes from the pool or range ``year``."""
    kind = slot.rstrip("0123456789")
    if kind in RANGES:
        return str(rng.randrange(*RANGES[kind]))
    return rng.choice(POOLS[kind])
