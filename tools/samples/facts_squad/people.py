"""Novelists, explorers, novels."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.engine import words
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[list[str], list[Fact]]] = {
    "novelist": (
        words(
            "Margit Hollander, Edith Corrigan, Ilse Farnbach, Rosalind Achebe-Moore, Clara Winterbourne, Yelena Dorsk, Beatrix Lomond, Amara Quist, Odile Fontenay, Harriet Sandoval"
        ),
        [
            Fact(
                [
                    "{name} was a [novelist|writer] born in {city} in {birth}, the daughter of a {job}.",
                    "Born in {birth} to a {job} in {city}, {name} became one of the best-read novelists of her time.",
                ],
                {
                    "city": ["Where was {name} born?", "What was the birthplace of {name}?"],
                    "birth": ["When was {name} born?", "In what year was {name} born?"],
                    "job": ["What did the father of {name} do?", "What was the occupation of her father?"],
                },
            ),
            Fact(
                [
                    "She studied {subject} at the University of {city2} but left without a degree because of {reason}.",
                    "Because of {reason}, she had to give up her studies of {subject} in {city2}.",
                ],
                {
                    "subject": ["What did {name} study?", "Which subject did {name} read at university?"],
                    "reason": [
                        "Why did {name} leave university without a degree?",
                        "What made {name} give up her studies?",
                    ],
                    "city2": ["In which city did {name} attend university?"],
                },
            ),
            Fact(
                [
                    "Her first novel, {book}, appeared in {first} and sold {copies} copies within a year.",
                    "{first} saw the publication of her first novel, {book}, of which {copies} copies were sold in twelve months.",
                ],
                {
                    "book": [
                        "What was the title of the first novel of {name}?",
                        "What is her first novel called?",
                    ],
                    "first": ["When was her first novel published?", "In what year did {book} appear?"],
                    "copies": ["How many copies did {book} sell in its first year?"],
                },
            ),
            Fact(
                [
                    "Critics praised her for {quality}, although {person} called the plots thin.",
                    "Although {person} found her plots thin, most critics admired {quality}.",
                ],
                {
                    "quality": ["For what did critics praise {name}?", "What did most critics admire?"],
                    "person": ["Who called her plots thin?", "Which critic disliked the plots of {name}?"],
                },
            ),
            Fact(
                [
                    "From {honour} she lived in {place}, where she wrote {number} more books.",
                    "In {honour} she moved to {place} and wrote another {number} books there.",
                ],
                {
                    "place": ["Where did {name} live from {honour}?", "Where did she move in {honour}?"],
                    "number": ["How many more books did {name} write there?"],
                    "honour": ["In what year did {name} move?"],
                },
            ),
            Fact(
                [
                    "Her husband, the painter {man}, illustrated most of them.",
                    "Most of the illustrations were made by {man}, whom she had married in secret.",
                ],
                {"man": ["Who illustrated most of the books of {name}?", "To whom was {name} married?"]},
            ),
            Fact(
                [
                    "In {honour} she received the {award} for {book}.",
                    "The {award} was given to her in {honour} for {book}.",
                ],
                {
                    "award": ["Which prize did {name} receive?", "What award was {book} given?"],
                    "book": ["For which book did {name} win a prize?"],
                    "honour": ["When did she win the {award}?"],
                },
            ),
            Fact(
                [
                    "She died of {illness} at the age of {age} and left her papers to {institution}.",
                    "After her death at the age of {age}, caused by {illness}, her papers went to {institution}.",
                ],
                {
                    "illness": ["What did {name} die of?", "What was the cause of her death?"],
                    "age": ["How old was {name} when she died?", "At what age did {name} die?"],
                    "institution": ["To whom did {name} leave her papers?", "Where did her papers go?"],
                },
            ),
        ],
    ),
    "explorer": (
        words(
            "Tobias Renquist, Anselm Okoro, Jasper Thorvald, Mateo Villaseca, Lucien Abernathy, Henrik Solberg-Day, Cormac Delacroix, Isidore Banfield, Piet van Houtman, Rufus Ellingworth"
        ),
        [
            Fact(
                [
                    "{name} was an explorer from {city} who [mapped|charted] {region} in {expedition}.",
                    "In {expedition} the explorer {name}, a native of {city}, charted {region}.",
                ],
                {
                    "city": ["Where did {name} come from?", "Of which city was {name} a native?"],
                    "region": ["What did {name} map?", "Which area was charted by {name}?"],
                    "expedition": ["In what year did {name} chart {region}?"],
                },
            ),
            Fact(
                [
                    "As a boy he worked as a {job} to support his family.",
                    "He had gone to work as a {job} at the age of {boy} years.",
                ],
                {
                    "job": ["As what did {name} work when he was a boy?", "What was his first job?"],
                    "boy": ["At what age did {name} go to work?"],
                },
            ),
            Fact(
                [
                    "His ship, the {ship}, carried a crew of {crew} and provisions for {months} months.",
                    "He sailed on the {ship} with {crew} men and food for {months} months.",
                ],
                {
                    "ship": ["What was the name of the ship of {name}?", "On which ship did he sail?"],
                    "crew": ["How many men sailed with {name}?", "How large was his crew?"],
                    "months": ["For how many months were there provisions on board?"],
                },
            ),
            Fact(
                [
                    "The expedition was paid for by {institution}, which hoped to find {goods}.",
                    "{institution_cap} financed the voyage in the hope of finding {goods}.",
                ],
                {
                    "institution": ["Who paid for the expedition of {name}?", "Who financed the voyage?"],
                    "goods": [
                        "What did the sponsors hope to find?",
                        "What was the expedition expected to discover?",
                    ],
                },
            ),
            Fact(
                [
                    "During the second winter {percent} percent of the men fell ill with {illness}.",
                    "{illness_cap} struck {percent} percent of the crew in the second winter.",
                ],
                {
                    "percent": ["What percentage of the crew fell ill?"],
                    "illness": [
                        "Which illness struck the crew in the second winter?",
                        "From what did the men suffer?",
                    ],
                },
            ),
            Fact(
                [
                    "He was saved by {people_group}, who taught him {skill}.",
                    "{people_group_cap} came to his rescue and showed him {skill}.",
                ],
                {
                    "people_group": ["Who saved {name}?", "By whom was {name} rescued?"],
                    "skill": [
                        "What was {name} taught by his rescuers?",
                        "What did the people who saved him show him?",
                    ],
                },
            ),
            Fact(
                [
                    "On his return he published {book}, dedicated to {person}.",
                    "His account of the journey, {book}, is dedicated to {person}.",
                ],
                {
                    "book": [
                        "What is the title of the book that {name} wrote about his journey?",
                        "What did he publish on his return?",
                    ],
                    "person": ["To whom did {name} dedicate his book?"],
                },
            ),
            Fact(
                [
                    "A {landform} in {place} bears his name today.",
                    "Today a {landform} in {place} is named after him.",
                ],
                {
                    "landform": ["What is named after {name} today?", "What bears the explorer's name?"],
                    "place": ["Where is the {landform} that is named after {name}?"],
                },
            ),
        ],
    ),
    "novel": (
        words(
            "The Tin Orchard, A Map of Winter, Seven Keys for Isabel, The Lighthouse Ledger, Under the Paper Moonlight, The Cartographer's Niece, Ashes in the Teacup, The Slow Ferry, No Letters on Sunday, The Glass Ferryman"
        ),
        [
            Fact(
                [
                    "{name} is a novel by {person}, first published in {year}.",
                    "First published in {year}, {name} is the best-known novel of {person}.",
                ],
                {
                    "person": ["Who wrote {name}?", "Who is the author of {name}?"],
                    "year": ["When was {name} first published?", "In what year did {name} come out?"],
                },
            ),
            Fact(
                [
                    "It tells the story of a {job} who inherits {object2} from {relative}.",
                    "The hero, a {job}, is left {object2} by {relative}.",
                ],
                {
                    "job": ["What is the profession of the hero of {name}?", "Whose story does {name} tell?"],
                    "object2": ["What does the hero inherit?"],
                    "relative": ["From whom does the hero inherit {object2}?"],
                },
            ),
            Fact(
                [
                    "Most of the action takes place in {place} during {period}.",
                    "The book is set in {place} during {period}.",
                ],
                {
                    "place": ["Where does most of the action of {name} take place?", "Where is {name} set?"],
                    "period": ["During what time is {name} set?", "When does the action take place?"],
                },
            ),
            Fact(
                [
                    "The manuscript was rejected by {few} publishers because of {flaw}.",
                    "{few} publishers turned it down on account of {flaw}.",
                ],
                {
                    "few": ["How many publishers rejected {name}?"],
                    "flaw": [
                        "Why was the manuscript of {name} rejected?",
                        "On account of what did publishers turn it down?",
                    ],
                },
            ),
            Fact(
                [
                    "It has been translated into {number} languages and has sold {copies} copies.",
                    "{copies} copies have been sold, in {number} languages.",
                ],
                {
                    "number": ["Into how many languages has {name} been translated?"],
                    "copies": ["How many copies of {name} have been sold?"],
                },
            ),
            Fact(
                [
                    "A film version by {person2} won the {award}.",
                    "The film that {person2} made of it received the {award}.",
                ],
                {
                    "person2": ["Who made a film of {name}?", "Who directed the film version?"],
                    "award": ["Which award did the film version of {name} win?"],
                },
            ),
            Fact(
                ["Scholars read it as a book about {theme}.", "According to most scholars its theme is {theme}."],
                {
                    "theme": [
                        "What do scholars think that {name} is about?",
                        "What is its theme according to most scholars?",
                    ]
                },
            ),
            Fact(
                [
                    "The author wrote it in {months} months while working for {institution}.",
                    "It took {months} months to write, since the author also worked for {institution}.",
                ],
                {
                    "months": ["How many months did it take to write {name}?"],
                    "institution": ["For whom did the author work while writing {name}?"],
                },
            ),
        ],
    ),
}
