"""Towns, railways, islands."""
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
}
