"""Universities, companies, observatories, museums."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.engine import words
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[list[str], list[Fact]]] = {
    "university": (
        words(
            "Halvern University, Caldmoor College, University of Estavia, Penhallow Institute, Northmarch University, Larkfield College, Tavistone Academy, University of Port Rell, Ostrava Heights College, Quillfeather Institute"
        ),
        [
            Fact(
                [
                    "{name} is a [private|public] institution in {city}, founded in {year} by {person}.",
                    "Founded by {person} in {year}, {name} is one of the oldest institutions in {city}.",
                ],
                {
                    "city": ["In which city is {name}?", "Where is {name} located?"],
                    "year": ["When was {name} founded?"],
                    "person": ["Who founded {name}?", "Who was the founder of {name}?"],
                },
            ),
            Fact(
                [
                    "It began with {crew} students and a single course in {subject}.",
                    "At first it offered only {subject} and had {crew} students.",
                ],
                {
                    "crew": [
                        "How many students did {name} have at first?",
                        "With how many students did it begin?",
                    ],
                    "subject": [
                        "What was the only course at the beginning?",
                        "Which subject was taught first at {name}?",
                    ],
                },
            ),
            Fact(
                ['Its motto means "{motto}".', 'The motto above the gate reads "{motto}" in translation.'],
                {"motto": ["What does the motto of {name} mean?", "What is the motto of {name} in translation?"]},
            ),
            Fact(
                [
                    "Women were admitted in {rail}, after a campaign led by {person2}.",
                    "After {person2} had campaigned for years, women were allowed to enrol in {rail}.",
                ],
                {
                    "rail": ["When were women first admitted to {name}?"],
                    "person2": [
                        "Who led the campaign for the admission of women?",
                        "Who fought for women to be admitted to {name}?",
                    ],
                },
            ),
            Fact(
                [
                    "The library holds {copies} volumes, among them {treasure}.",
                    "Among the {copies} volumes of its library is {treasure}.",
                ],
                {
                    "copies": ["How many volumes does the library of {name} hold?"],
                    "treasure": [
                        "What special item does the library own?",
                        "Which treasure is kept in the library of {name}?",
                    ],
                },
            ),
            Fact(
                [
                    "Today {population} students are enrolled, {percent} percent of them from abroad.",
                    "About {percent} percent of its {population} students come from other countries.",
                ],
                {
                    "population": [
                        "How many students does {name} have today?",
                        "How large is the student body of {name}?",
                    ],
                    "percent": ["What percentage of the students come from abroad?"],
                },
            ),
            Fact(
                [
                    "Its sports teams are called the {team} and play in {colours}.",
                    "The teams, known as the {team}, wear {colours}.",
                ],
                {
                    "team": ["What are the sports teams of {name} called?", "What name do the teams go by?"],
                    "colours": [
                        "What colours do the teams of {name} wear?",
                        "In which colours do the {team} play?",
                    ],
                },
            ),
            Fact(
                [
                    "In {recent} a laboratory for {field} was opened with a gift of {millions} million dollars.",
                    "A gift of {millions} million dollars paid for the laboratory for {field}, opened in {recent}.",
                ],
                {
                    "field": [
                        "For what was a laboratory opened?",
                        "What is studied in the laboratory opened in {recent}?",
                    ],
                    "millions": ["How many million dollars were given for the laboratory?"],
                    "recent": ["When was the laboratory of {name} opened?"],
                },
            ),
        ],
    ),
    "company": (
        words(
            "Brightwell & Sons, Norrland Instruments, Hesper Foods, Calloway Textiles, Vantor Marine, Ludgate Clockworks, Amberline Glass, Fennick Brothers, Stellmark Paper, Ironbridge Cycles"
        ),
        [
            Fact(
                [
                    "{name} is a manufacturer of {product} based in {city}.",
                    "Based in {city}, {name} makes {product}.",
                ],
                {
                    "product": ["What does {name} make?", "What is manufactured by {name}?"],
                    "city": ["Where is {name} based?", "In what city is {name}?"],
                },
            ),
            Fact(
                [
                    "It was set up in {year} by {person} with money borrowed from {lender}.",
                    "{person} started the firm in {year} with a loan from {lender}.",
                ],
                {
                    "year": ["In what year was {name} set up?"],
                    "person": ["Who set up {name}?", "Who started the firm?"],
                    "lender": [
                        "Who lent the founder the money?",
                        "Where did the money to start {name} come from?",
                    ],
                },
            ),
            Fact(
                [
                    "The first workshop was in {workshop}.",
                    "Work began in {workshop}, which the founder rented for a few coins a week.",
                ],
                {"workshop": ["Where was the first workshop of {name}?", "In what kind of place did work begin?"]},
            ),
            Fact(
                [
                    "Sales grew after {cause}, and by {honour} the firm employed {population} people.",
                    "By {honour}, thanks to {cause}, it had {population} workers.",
                ],
                {
                    "cause": ["What caused the sales of {name} to grow?", "What made the firm grow?"],
                    "population": ["How many people worked for {name} by {honour}?"],
                    "honour": ["By which year did the firm have {population} workers?"],
                },
            ),
            Fact(
                [
                    "A strike over {grievance} closed the factory for {days} days.",
                    "The factory stood still for {days} days when the workers went on strike over {grievance}.",
                ],
                {
                    "grievance": [
                        "What was the strike about?",
                        "Over what did the workers of {name} go on strike?",
                    ],
                    "days": ["For how many days was the factory closed?", "How long did the strike last?"],
                },
            ),
            Fact(
                [
                    "In {recent} it bought its rival {rival} for {millions} million dollars.",
                    "It paid {millions} million dollars for its rival {rival} in {recent}.",
                ],
                {
                    "rival": ["Which rival did {name} buy?", "What company was bought by {name}?"],
                    "millions": ["How many million dollars did {name} pay for its rival?"],
                    "recent": ["When did {name} buy {rival}?"],
                },
            ),
            Fact(
                [
                    'Its slogan, "{motto}", was invented by {person2}.',
                    '{person2} came up with the slogan "{motto}".',
                ],
                {
                    "motto": ["What is the slogan of {name}?"],
                    "person2": ["Who invented the slogan of {name}?", "Who came up with the slogan?"],
                },
            ),
            Fact(
                [
                    "About {percent} percent of its output is sold in {place}.",
                    "{place} takes about {percent} percent of what it produces.",
                ],
                {
                    "percent": ["What percentage of its output is sold in {place}?"],
                    "place": [
                        "Where is about {percent} percent of the output of {name} sold?",
                        "What is the most important market of {name}?",
                    ],
                },
            ),
        ],
    ),
    "observatory": (
        words(
            "Mount Selwyn Observatory, Kestrel Ridge Observatory, Blackmoor Observatory, Zenith House, Altavista Dome, Polar Gate Observatory, Ravenscar Observatory, Cedar Peak Observatory"
        ),
        [
            Fact(
                [
                    "{name} stands at {height} metres above the sea in {region}.",
                    "Built {height} metres above sea level, {name} overlooks {region}.",
                ],
                {
                    "height": [
                        "How many metres above the sea does {name} stand?",
                        "At what altitude was {name} built?",
                    ],
                    "region": ["Where does {name} stand?", "What does {name} overlook?"],
                },
            ),
            Fact(
                [
                    "Its main telescope, nicknamed {nickname}, has a mirror of {inches} inches.",
                    "The main telescope has a {inches}-inch mirror and is known as {nickname}.",
                ],
                {
                    "nickname": [
                        "What is the nickname of the main telescope?",
                        "What is the telescope of {name} known as?",
                    ],
                    "inches": ["How many inches is the mirror of the telescope?"],
                },
            ),
            Fact(
                [
                    "The site was chosen in {rail} because of {sky}.",
                    "{sky_cap} led to the choice of the site in {rail}.",
                ],
                {
                    "rail": ["When was the site of {name} chosen?"],
                    "sky": ["Why was the site chosen?", "What made the site of {name} attractive?"],
                },
            ),
            Fact(
                [
                    "{person} was its first director and stayed for {number} years.",
                    "For {number} years it was directed by {person}.",
                ],
                {
                    "person": ["Who was the first director of {name}?", "Who directed {name} for {number} years?"],
                    "number": ["How many years did {person} stay as director?"],
                },
            ),
            Fact(
                [
                    "In {honour} astronomers there discovered {discovery}.",
                    "The discovery of {discovery} was made there in {honour}.",
                ],
                {
                    "discovery": ["What was discovered at {name}?", "Which discovery was made in {honour}?"],
                    "honour": ["When was {discovery} discovered?"],
                },
            ),
            Fact(
                [
                    "The mirror was carried up the mountain by {transport}.",
                    "Workers brought the mirror to the top using {transport}.",
                ],
                {
                    "transport": [
                        "How was the mirror brought up the mountain?",
                        "By what means did the mirror reach the top?",
                    ]
                },
            ),
            Fact(
                [
                    "Since {recent} it has been threatened by {threat_sky}.",
                    "{threat_sky_cap} has made observations harder since {recent}.",
                ],
                {
                    "threat_sky": ["What threatens {name}?", "What has made observations harder?"],
                    "recent": ["Since when have observations at {name} been under threat?"],
                },
            ),
            Fact(
                [
                    "It is run by {institution} and open to the public on {weekday}s.",
                    "Visitors are welcome on {weekday}s; the owner is {institution}.",
                ],
                {
                    "institution": ["Who runs {name}?", "Who owns {name}?"],
                    "weekday": ["On which day of the week is {name} open to the public?"],
                },
            ),
        ],
    ),
    "museum": (
        words(
            "Museum of Weights and Ropes, Bellweather Gallery, Hall of Forgotten Games, Tidewater Museum, Old Mint Museum, House of Looms, Museum of Northern Skies, Pemberley Glass Museum, Gallery of Small Machines, Museum of Salt"
        ),
        [
            Fact(
                ["The {name} in {city} shows {collection}.", "In {city}, the {name} exhibits {collection}."],
                {
                    "city": ["In which city is the {name}?"],
                    "collection": ["What does the {name} show?", "What is exhibited in the {name}?"],
                },
            ),
            Fact(
                [
                    "It grew out of the private collection of {person}, a {job}.",
                    "Its core is the collection of {person}, who had worked as a {job}.",
                ],
                {
                    "person": ["Whose private collection did the {name} grow out of?"],
                    "job": ["What was the profession of {person}?", "As what had the collector worked?"],
                },
            ),
            Fact(
                [
                    "The building was once {former} and was converted in {honour}.",
                    "Before its conversion in {honour} the building was {former}.",
                ],
                {
                    "former": ["What was the building of the {name} before?", "What was the building once?"],
                    "honour": ["When was the building converted?"],
                },
            ),
            Fact(
                [
                    "Its most valuable piece is {treasure}, bought for {millions} million dollars.",
                    "{treasure_cap}, its most valuable piece, cost {millions} million dollars.",
                ],
                {
                    "treasure": ["What is the most valuable piece of the {name}?"],
                    "millions": ["How many million dollars did the most valuable piece cost?"],
                },
            ),
            Fact(
                [
                    "In {recent} thieves entered through {entry} and took {object2}.",
                    "{object2_cap} was stolen in {recent} by thieves who came in through {entry}.",
                ],
                {
                    "entry": ["How did the thieves get into the {name}?"],
                    "object2": ["What did the thieves take?", "What was stolen from the {name}?"],
                    "recent": ["When did the theft happen?"],
                },
            ),
            Fact(
                ["Admission is free for {group}.", "Only {group} do not pay to get in."],
                {"group": ["Who gets into the {name} for free?", "For whom is admission free?"]},
            ),
            Fact(
                [
                    "About {population} people visit it each year, most of them in {month}.",
                    "Each year it has {population} visitors; the busiest month is {month}.",
                ],
                {
                    "population": ["How many people visit the {name} each year?"],
                    "month": ["What is the busiest month at the {name}?"],
                },
            ),
            Fact(
                [
                    "A new wing, designed by {person2}, is devoted to {theme}.",
                    "{person2} designed the new wing, whose subject is {theme}.",
                ],
                {
                    "person2": ["Who designed the new wing?"],
                    "theme": [
                        "To what is the new wing of the {name} devoted?",
                        "What is the subject of the new wing?",
                    ],
                },
            ),
        ],
    ),
}
