"""Rivers, birds, lakes."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.facts_mlqa.names import Names, names
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[Names, list[Fact]]] = {
    "river": (
        names(
            "शैलजा नदी = Shailaja River, मृदुला नदी = Mridula River, केशवी नदी = Keshavi River, धवली नदी = Dhavali River, इंद्राणी नदी = Indrani River, सारंगी नदी = Sarangi River, फाल्गुनी नदी = Falguni River, गोमिनी नदी = Gomini River, कुसुमी नदी = Kusumi River, पाटली नदी = Patali River, मेघना धारा = Meghna Dhara, सुरभि नदी = Surabhi River"
        ),
        [
            Fact(
                [
                    "{name} {mountain} पर्वत से निकलती है और {town} के पास समुद्र में मिलती है।",
                    "{name} का उद्गम {mountain} पर्वत पर है और यह {town} के निकट सागर में गिरती है।",
                ],
                {
                    "mountain": ["Where does the {name} rise?", "On which mountain is the source of the {name}?"],
                    "town": ["Near which town does the {name} meet the sea?"],
                },
            ),
            Fact(
                ["इसकी कुल लंबाई {length} किलोमीटर है।", "यह नदी {length} किलोमीटर लंबी है।"],
                {"length": ["How long is the {name} in kilometres?", "What is the length of the {name}?"]},
            ),
            Fact(
                ["इसकी सबसे बड़ी सहायक नदी {river} है।", "{river} इसकी मुख्य सहायक नदी है।"],
                {
                    "river": [
                        "What is the largest tributary of the {name}?",
                        "Which river is the main tributary of the {name}?",
                    ]
                },
            ),
            Fact(
                [
                    "नदी पर बना पहला बाँध {year} में पूरा हुआ, जिसकी ऊँचाई {metres} मीटर है।",
                    "{year} में इस पर {metres} मीटर ऊँचा बाँध बनाया गया।",
                ],
                {
                    "year": ["When was the dam on the {name} completed?", "In what year was the river dammed?"],
                    "metres": ["How high is the dam on the {name} in metres?"],
                },
            ),
            Fact(
                ["इसके पानी से {count} गाँवों के खेत सींचे जाते हैं।", "इस नदी की नहरें {count} गाँवों तक पानी पहुँचाती हैं।"],
                {"count": ["How many villages get water from the {name}?"]},
            ),
            Fact(
                [
                    "{year} की बाढ़ में {town} का पुराना पुल बह गया था।",
                    "सबसे भयानक बाढ़ {year} में आई, जब {town} का पुल टूट गया।",
                ],
                {
                    "year": [
                        "In which year did the flood destroy the bridge?",
                        "When did the worst flood of the {name} come?",
                    ],
                    "town": [
                        "Which town's bridge was destroyed by the flood?",
                        "The bridge of which place was lost in the flood of {year}?",
                    ],
                },
            ),
            Fact(
                ["सर्दियों में इसके तट पर हज़ारों {bird} आते हैं।"], {"bird": ["Which birds come to the {name} in winter?"]}
            ),
            Fact(
                ["नदी के दोनों ओर {tree} के घने जंगल हैं।", "इसके किनारों पर {tree} के पेड़ बहुत मिलते हैं।"],
                {
                    "tree": [
                        "Which trees grow along the {name}?",
                        "What kind of trees are found on the river banks?",
                    ]
                },
            ),
        ],
    ),
    "bird": (
        names(
            "नीलकंठी फुदकी = Neelkanthi warbler, चाँदनी बुलबुल = Chandni bulbul, घाटी मैना = valley myna, ताल बटेर = pond quail, स्वर्ण चकोरी = golden chakori, रात कोयली = night koel, वन गौरैया = forest sparrow, काली टिटहरी = black lapwing, पहाड़ी लवा = hill lark, नीली पतरिंगी = blue bee-eater, झाड़ी बबूना = bush white-eye, रेत फाख़्ता = sand dove"
        ),
        [
            Fact(
                [
                    "{name} एक छोटी चिड़िया है, जो {mountain} पर्वत के जंगलों में पाई जाती है।",
                    "{mountain} पर्वत के जंगलों में {name} नाम की चिड़िया मिलती है।",
                ],
                {
                    "mountain": [
                        "In the forests of which mountain is the {name} found?",
                        "Where does the {name} live?",
                    ]
                },
            ),
            Fact(
                ["इसका वज़न लगभग {grams} ग्राम होता है।", "एक वयस्क चिड़िया का वज़न {grams} ग्राम तक होता है।"],
                {"grams": ["How much does the {name} weigh in grams?", "What is the weight of an adult bird?"]},
            ),
            Fact(
                ["यह मुख्य रूप से {insect} खाती है।", "यह चिड़िया अधिकतर {insect} खाकर जीती है।"],
                {"insect": ["What does the {name} mainly eat?", "What is the main food of the {name}?"]},
            ),
            Fact(
                ["नर के पंखों का रंग {colour} होता है।", "नर को उसके पंखों के रंग से पहचाना जाता है, जो {colour} होता है।"],
                {
                    "colour": [
                        "What is the colour of the wings of the male {name}?",
                        "How are the wings of the male coloured?",
                    ]
                },
            ),
            Fact(
                ["मादा {month} में {few} अंडे देती है।", "{month} के महीने में मादा {few} अंडे देती है।"],
                {
                    "month": ["In which month does the {name} lay eggs?"],
                    "few": ["How many eggs does the female {name} lay?"],
                },
            ),
            Fact(
                ["यह अपना घोंसला {tree} के पेड़ पर बनाती है।", "घोंसला प्रायः {tree} के पेड़ पर बनाया जाता है।"],
                {"tree": ["On which tree does the {name} build its nest?", "Where does the {name} nest?"]},
            ),
            Fact(
                ["{year} में {man} ने पहली बार इसका वर्णन किया।", "इसका पहला वैज्ञानिक वर्णन {man} ने {year} में लिखा।"],
                {"year": ["When was the {name} first described?"], "man": ["Who first described the {name}?"]},
            ),
            Fact(
                ["आज केवल {count} जोड़े बचे हैं।", "एक सर्वेक्षण के अनुसार अब इसके {count} जोड़े ही बचे हैं।"],
                {"count": ["How many pairs of the {name} are left?"]},
            ),
        ],
    ),
    "lake": (
        names(
            "पद्मिनी झील = Padmini Lake, चंदन झील = Chandan Lake, हंसिनी झील = Hansini Lake, भीमसर झील = Bhimsar Lake, रजत झील = Rajat Lake, मोतीताल झील = Motital Lake, गंधर्व झील = Gandharva Lake, कमलिनी झील = Kamalini Lake, सूरजताल झील = Surajtal Lake, मीनाक्षी झील = Meenakshi Lake, वनसर झील = Vansar Lake, तारिणी झील = Tarini Lake"
        ),
        [
            Fact(
                [
                    "{name} {town} के {direction} में स्थित मीठे पानी की झील है।",
                    "मीठे पानी की {name} {town} शहर के {direction} में है।",
                ],
                {
                    "town": ["Near which town is {name} situated?"],
                    "direction": ["In which direction from the town does {name} lie?"],
                },
            ),
            Fact(
                ["इसकी अधिकतम गहराई {metres} मीटर है।", "झील {metres} मीटर तक गहरी है।"],
                {"metres": ["How deep is {name} in metres?", "What is the greatest depth of {name}?"]},
            ),
            Fact(
                ["झील का क्षेत्रफल {km} वर्ग किलोमीटर है।", "यह झील {km} वर्ग किलोमीटर में फैली हुई है।"],
                {"km": ["What is the area of {name} in square kilometres?", "How large is {name}?"]},
            ),
            Fact(
                ["राजा {king} ने {old} में इसे खुदवाया था।", "इसे {old} में राजा {king} के आदेश पर खोदा गया था।"],
                {
                    "king": ["Which king had {name} dug?", "On whose orders was {name} dug?"],
                    "old": ["In which year was {name} dug?"],
                },
            ),
            Fact(
                ["{river} नदी का पानी इस झील में आता है।", "झील में {river} नदी से पानी आता है।"],
                {"river": ["Which river feeds {name}?", "From which river does {name} get its water?"]},
            ),
            Fact(
                ["{month} में यहाँ {bird} देखे जा सकते हैं।", "यहाँ हर {month} में {bird} आते हैं।"],
                {
                    "month": ["In which month do the birds come to {name}?"],
                    "bird": ["Which birds can be seen at {name}?", "What birds visit {name}?"],
                },
            ),
            Fact(
                ["झील के बीच बने टापू पर {tree} के {count} पेड़ हैं।"],
                {
                    "tree": ["Which trees grow on the island in {name}?"],
                    "count": ["How many trees are there on the island in {name}?"],
                },
            ),
            Fact(
                ["{recent} में सरकार ने यहाँ मछली पकड़ने पर रोक लगा दी।", "यहाँ {recent} से मछली पकड़ना मना है।"],
                {
                    "recent": [
                        "When was fishing in {name} banned?",
                        "Since when has fishing been forbidden in {name}?",
                    ]
                },
            ),
        ],
    ),
}
