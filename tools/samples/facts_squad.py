"""What the English passages say: domains, each with its invented things and facts.

The first fact of a domain introduces the thing; slots are pools and ranges of grammar_squad.
"""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.engine import words
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[list[str], list[Fact]]] = {
    "town": (
        words(
            "Arlesby, Kettlemoor, Port Vellan, Dunhollow, Saltmere, Orrington Falls, Brackwater, Thornley Cross, Millhaven Spa, Greywick"
        ),
        [
            Fact(
                [
                    "{name} is a [market|harbour|small] town on the {river}, about {km} kilometres [north|south|east|west] of {city}.",
                    "Lying on the {river}, {name} is a town some {km} kilometres from {city}.",
                ],
                {
                    "river": ["On which river does {name} lie?", "What river flows past {name}?"],
                    "km": [
                        "How many kilometres is {name} from {city}?",
                        "About how far is it from {name} to {city}?",
                    ],
                    "city": ["Which city is {km} kilometres from {name}?"],
                },
            ),
            Fact(
                [
                    "The settlement was founded in {old} by {people_group}, who came for {attraction}.",
                    "In {old}, {people_group} settled there because of {attraction}.",
                ],
                {
                    "old": ["In what year was {name} founded?", "When was the settlement established?"],
                    "people_group": ["Who founded {name}?", "Which people first settled in {name}?"],
                    "attraction": [
                        "Why did the first settlers come to {name}?",
                        "What attracted {people_group} to the place?",
                    ],
                },
            ),
            Fact(
                [
                    "At the [last|latest] census it had a population of {population}.",
                    "{population} people were counted there at the last census.",
                ],
                {
                    "population": [
                        "What was the population of {name} at the last census?",
                        "How many people lived in {name} when they were last counted?",
                    ]
                },
            ),
            Fact(
                [
                    "For most of the nineteenth century its economy depended on {industry}, which employed {percent} percent of the men.",
                    "Until the First World War, {percent} percent of the local men worked in {industry}.",
                ],
                {
                    "industry": [
                        "On what did the economy of {name} depend?",
                        "What trade employed most of the men of {name}?",
                    ],
                    "percent": ["What percentage of the men worked in {industry}?"],
                },
            ),
            Fact(
                [
                    "A fire in {year} destroyed {building}, and the present one was designed by {person}.",
                    "{building_cap} burned down in {year}; its successor is the work of the architect {person}.",
                ],
                {
                    "year": ["When did the fire take place?", "In which year did {name} suffer a fire?"],
                    "building": ["What did the fire destroy?", "Which building was lost in the fire of {year}?"],
                    "person": ["Who designed the new building?", "Who was the architect of the present building?"],
                },
            ),
            Fact(
                [
                    "Since {recent}, the town has held {event} every {month}.",
                    "Every {month} the town holds {event}, which began in {recent}.",
                ],
                {
                    "recent": ["Since when has {name} held its yearly event?"],
                    "event": ["What does {name} hold every {month}?", "What takes place in {name} each {month}?"],
                    "month": ["In which month does {name} hold {event}?"],
                },
            ),
            Fact(
                [
                    "The railway reached {name} in {rail}, shortening the journey to the capital from two days to {hours} hours.",
                    "With the arrival of the railway in {rail}, a trip to the capital took only {hours} hours.",
                ],
                {
                    "rail": ["When did the railway reach {name}?"],
                    "hours": [
                        "How many hours did the trip to the capital take by train?",
                        "How long was the journey to the capital once the railway had come?",
                    ],
                },
            ),
            Fact(
                [
                    "The council has been led since {recent} by {person}, a former {job}.",
                    "Its mayor, {person}, worked as a {job} before being elected in {recent}.",
                ],
                {
                    "person": ["Who leads the council of {name}?", "Who is in charge of the town?"],
                    "job": [
                        "What was the job of {person} before entering politics?",
                        "As what did the head of the council work before?",
                    ],
                },
            ),
        ],
    ),
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
    "railway": (
        words(
            "Vale of Corrin Line, Copper Coast Railway, Highmoor Light Railway, Lindle Valley Line, Great Eastern Narrow Gauge, Tamarack Pass Railway, Isle Tramway, Quarryman's Line, Heron Bay Branch, Saddle Mountain Railway"
        ),
        [
            Fact(
                [
                    "The {name} is a railway of {km} kilometres between {city} and {city2}.",
                    "Running for {km} kilometres, the {name} connects {city} with {city2}.",
                ],
                {"km": ["How many kilometres long is the {name}?", "What is the length of the {name}?"]},
            ),
            Fact(
                [
                    "It was opened in {rail} to carry {goods} to the coast.",
                    "Built to bring {goods} down to the harbour, it opened in {rail}.",
                ],
                {
                    "rail": ["When was the {name} opened?"],
                    "goods": ["What was the {name} built to carry?", "What did the first trains carry?"],
                },
            ),
            Fact(
                [
                    "The engineer {person} had to build {crew} bridges and {few} tunnels.",
                    "{few} tunnels and {crew} bridges were built under the engineer {person}.",
                ],
                {
                    "person": [
                        "Who was the engineer of the {name}?",
                        "Under whose direction was the {name} built?",
                    ],
                    "crew": ["How many bridges does the {name} have?"],
                    "few": ["How many tunnels had to be built?"],
                },
            ),
            Fact(
                [
                    "Its first locomotive, called {nickname}, is now on display in {institution}.",
                    "{nickname}, the first locomotive, can be seen in {institution}.",
                ],
                {
                    "nickname": [
                        "What was the first locomotive called?",
                        "What was the name of the first engine of the {name}?",
                    ],
                    "institution": [
                        "Where is the first locomotive of the {name} now?",
                        "Where can {nickname} be seen?",
                    ],
                },
            ),
            Fact(
                [
                    "Traffic fell after {decline}, and the last regular train ran in {honour}.",
                    "After {decline} there were fewer passengers, and regular service ended in {honour}.",
                ],
                {
                    "decline": [
                        "What made the traffic of the {name} fall?",
                        "After what did the number of passengers drop?",
                    ],
                    "honour": ["When did the last regular train run?"],
                },
            ),
            Fact(
                [
                    "Volunteers led by {person2} repaired the track and reopened it in {recent}.",
                    "It was reopened in {recent} by volunteers under {person2}.",
                ],
                {
                    "person2": ["Who led the volunteers?", "Under whose lead was the {name} repaired?"],
                    "recent": ["When was the {name} reopened?"],
                },
            ),
            Fact(
                [
                    "The steepest part lies near {place}, where trains are pushed by {helper}.",
                    "Near {place}, on the steepest part, {helper} helps the trains uphill.",
                ],
                {
                    "place": ["Where is the steepest part of the {name}?"],
                    "helper": [
                        "What helps the trains on the steepest part?",
                        "What pushes the trains of the {name} uphill?",
                    ],
                },
            ),
            Fact(
                [
                    "Every {month} a special train serves {dish} to its guests.",
                    "A dinner train, which offers {dish}, runs each {month}.",
                ],
                {
                    "dish": ["What is served on the special train?", "What can guests of the dinner train eat?"],
                    "month": ["In which month does the special train run?"],
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
    "island": (
        words(
            "Isle of Carrow, Tamsin Island, Great Pellam, Saint Orba, Wrackholm, Little Fenno, Stormay, Isla Cordal, Nuthatch Key, Vessel Island"
        ),
        [
            Fact(
                [
                    "{name} is an island of {km} square kilometres off {shore}.",
                    "Off {shore} lies {name}, an island of {km} square kilometres.",
                ],
                {
                    "km": ["How many square kilometres does {name} cover?", "What is the area of {name}?"],
                    "shore": ["Off which land does {name} lie?", "Where is {name}?"],
                },
            ),
            Fact(
                [
                    "It has {population} inhabitants, most of whom live from {industry}.",
                    "Most of its {population} inhabitants make their living from {industry}.",
                ],
                {
                    "population": ["How many inhabitants does {name} have?"],
                    "industry": [
                        "How do most inhabitants of {name} make a living?",
                        "From what do most people on the island live?",
                    ],
                },
            ),
            Fact(
                [
                    "The highest point, {hill}, rises to {height} metres.",
                    "Its highest point is {hill}, at {height} metres.",
                ],
                {
                    "hill": ["What is the highest point of {name}?"],
                    "height": ["How high is {hill}, in metres?", "What is the height of the highest point?"],
                },
            ),
            Fact(
                [
                    "The first people to live there were {people_group}, who left behind {remains}.",
                    "{remains_cap} were left there by {people_group}, the first inhabitants.",
                ],
                {
                    "people_group": ["Who were the first people to live on {name}?"],
                    "remains": [
                        "What did the first inhabitants leave behind?",
                        "What remains of the first people of {name}?",
                    ],
                },
            ),
            Fact(
                [
                    "In {year} the {ship} was wrecked on its reef with {crew} people on board.",
                    "The {ship}, with {crew} people on board, ran onto its reef in {year}.",
                ],
                {
                    "year": ["In what year was the ship wrecked?"],
                    "ship": ["Which ship was wrecked off {name}?"],
                    "crew": ["How many people were on board the {ship}?"],
                },
            ),
            Fact(
                [
                    "The lighthouse was built by {person} and is powered by {power}.",
                    "{person} built the lighthouse, which now runs on {power}.",
                ],
                {
                    "person": ["Who built the lighthouse of {name}?"],
                    "power": ["What powers the lighthouse?", "On what does the lighthouse run?"],
                },
            ),
            Fact(
                [
                    "Cars have been forbidden there since {recent} because of {reason_ban}.",
                    "Because of {reason_ban}, no cars have been allowed since {recent}.",
                ],
                {
                    "recent": ["Since when have cars been forbidden on {name}?"],
                    "reason_ban": ["Why are there no cars on {name}?", "What is the reason for the ban on cars?"],
                },
            ),
            Fact(
                [
                    "A ferry to {city} runs every {weekday} and takes {hours} hours.",
                    "Every {weekday} a ferry leaves for {city}, a trip of {hours} hours.",
                ],
                {
                    "city": ["Where does the ferry from {name} go?"],
                    "weekday": ["On which day does the ferry run?"],
                    "hours": ["How many hours does the ferry take?", "How long is the trip by ferry?"],
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
