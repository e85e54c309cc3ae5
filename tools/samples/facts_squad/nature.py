"""Species, and festivals through the year."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.engine import words
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[list[str], list[Fact]]] = {
    "species": (
        words(
            "Marsh pipkin, Lantern beetle, Silver-tailed teal, Crested dunwing, Moss gecko, Reed piper, Velvet shrike, Hollow-billed heron, Painted mudfrog, Dusk moth-owl"
        ),
        [
            Fact(
                [
                    "The {name} is [a small|a rare|an] animal found only in {region}.",
                    "Found only in {region}, the {name} was long thought to be extinct.",
                ],
                {"region": ["Where is the {name} found?", "In what area does the {name} live?"]},
            ),
            Fact(
                [
                    "It was first described in {year} by {person}, who named it after {namesake}.",
                    "{person}, who described it in {year}, named it after {namesake}.",
                ],
                {
                    "year": ["When was the {name} first described?"],
                    "person": ["Who first described the {name}?", "Who gave the animal its scientific name?"],
                    "namesake": ["After whom or what was the {name} named?"],
                },
            ),
            Fact(
                [
                    "Adults weigh up to {grams} grams and are {colouring}.",
                    "A full-grown animal is {colouring} and reaches {grams} grams.",
                ],
                {
                    "grams": [
                        "How many grams does an adult {name} weigh?",
                        "What is the maximum weight of the {name}?",
                    ],
                    "colouring": ["What colour is the {name}?", "What does a full-grown {name} look like?"],
                },
            ),
            Fact(
                [
                    "It feeds on {food}, which it finds by {sense}.",
                    "Its diet consists of {food}, found by {sense}.",
                ],
                {
                    "food": ["What does the {name} eat?", "On what does the {name} feed?"],
                    "sense": ["How does the {name} find its food?", "By what means does it find food?"],
                },
            ),
            Fact(
                ["The female lays {few} eggs in {nest}.", "In {nest} the female lays {few} eggs."],
                {
                    "few": ["How many eggs does the female {name} lay?"],
                    "nest": ["Where does the {name} lay its eggs?", "In what kind of place are the eggs laid?"],
                },
            ),
            Fact(
                [
                    "Its main enemies are {enemy}, against which it defends itself by {defence}.",
                    "When attacked by {enemy}, it protects itself by {defence}.",
                ],
                {
                    "enemy": ["What are the main enemies of the {name}?", "Which animals attack the {name}?"],
                    "defence": ["How does the {name} defend itself?", "How does it protect itself?"],
                },
            ),
            Fact(
                [
                    "A count in {recent} found {crew} animals, down from {copies} a century ago.",
                    "Only {crew} were left in {recent}, compared with {copies} a hundred years before.",
                ],
                {
                    "crew": [
                        "How many animals were found in {recent}?",
                        "How many of them were left in {recent}?",
                    ],
                    "copies": ["How many of the animals were there a century ago?"],
                },
            ),
            Fact(
                [
                    "The greatest threat to it is {threat}.",
                    "Biologists regard {threat} as the main danger to the species.",
                ],
                {
                    "threat": [
                        "What is the greatest threat to the {name}?",
                        "What do biologists regard as the main danger to it?",
                    ]
                },
            ),
        ],
    ),
    "festival": (
        words(
            "Festival of Lanterns at Orrow, Wickham Kite Days, Night of the Drums, Salt Fair of Merrin, Corvane Book Week, Harvest Walk of Tarn, Feast of Bells, Rainmakers' Carnival"
        ),
        [
            Fact(
                [
                    "The {name} is a [yearly|traditional] celebration held in {city} every {month}.",
                    "Every {month}, {city} celebrates the {name}.",
                ],
                {
                    "city": ["Where is the {name} held?", "Which city celebrates the {name}?"],
                    "month": ["In which month does the {name} take place?"],
                },
            ),
            Fact(
                [
                    "According to legend it goes back to {person}, who in {old} gave thanks for {thanks}.",
                    "Legend has it that {person} started it in {old} to give thanks for {thanks}.",
                ],
                {
                    "person": ["Who started the {name} according to legend?"],
                    "old": ["In what year does legend say that it began?"],
                    "thanks": ["For what was thanks given?", "Why was the {name} started, according to legend?"],
                },
            ),
            Fact(
                [
                    "It lasts {few} days and draws {population} visitors.",
                    "Some {population} visitors come during its {few} days.",
                ],
                {
                    "few": ["How many days does the {name} last?"],
                    "population": ["How many visitors does the {name} draw?", "How many people come to see it?"],
                },
            ),
            Fact(
                [
                    "On the first evening children carry {object} through the streets.",
                    "It opens with a procession of children who carry {object}.",
                ],
                {
                    "object": [
                        "What do children carry on the first evening?",
                        "What is carried in the opening procession of the {name}?",
                    ]
                },
            ),
            Fact(
                [
                    "The traditional dish is {dish}, which is shared with {guest}.",
                    "People share {dish} with {guest}.",
                ],
                {
                    "dish": ["What is the traditional dish of the {name}?", "What do people share?"],
                    "guest": ["With whom is the food shared?"],
                },
            ),
            Fact(
                [
                    "In {rail} it was banned because of {reason_ban}, but it was revived after {number} years.",
                    "Banned in {rail} because of {reason_ban}, it came back {number} years later.",
                ],
                {
                    "rail": ["When was the {name} banned?"],
                    "reason_ban": ["Why was the {name} banned?", "What was the reason for the ban?"],
                    "number": ["After how many years was the {name} revived?"],
                },
            ),
            Fact(
                [
                    "The music is played on {instrument} alone.",
                    "Only {instrument} may be played during the final night.",
                ],
                {"instrument": ["What instruments are played at the {name}?", "On what is the music played?"]},
            ),
            Fact(
                ["The costs are met by {institution}.", "{institution_cap} pays for the fireworks."],
                {"institution": ["Who meets the costs of the {name}?", "Who pays for it?"]},
            ),
        ],
    ),
}
