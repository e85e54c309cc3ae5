"""Companies, colleges, clubs."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.facts_mlqa.names import Names, names
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[Names, list[Fact]]] = {
    "company": (
        names(
            "सुगम उद्योग = Sugam Udyog, नवदीप मोटर्स = Navdeep Motors, प्रगति वर्क्स = Pragati Works, हिमालयन क्राफ़्ट्स = Himalayan Crafts, उजाला एंटरप्राइज़ेज़ = Ujala Enterprises, सह्याद्रि ट्रेडर्स = Sahyadri Traders, विकास इंडस्ट्रीज़ = Vikas Industries, तरंग लिमिटेड = Tarang Limited, भास्कर मशीनरी = Bhaskar Machinery, हरियाली उद्योग = Hariyali Udyog, कोणार्क मिल्स = Konark Mills, अंबर ट्रेडिंग = Ambar Trading"
        ),
        [
            Fact(
                [
                    "{name} एक भारतीय कंपनी है, जिसकी स्थापना {year} में {man} ने की थी।",
                    "{man} ने {year} में {name} नाम की कंपनी की स्थापना की।",
                ],
                {
                    "year": ["When was {name} founded?", "In what year did {name} start?"],
                    "man": ["Who founded {name}?", "Who is the founder of {name}?"],
                },
            ),
            Fact(
                ["कंपनी का मुख्यालय {town} में है।", "इसका प्रधान कार्यालय {town} में स्थित है।"],
                {"town": ["Where is the head office of {name}?", "In which town is {name} based?"]},
            ),
            Fact(
                ["यह कंपनी {product} बनाती है।", "कंपनी मुख्य रूप से {product} बनाती और बेचती है।"],
                {"product": ["What does {name} make?", "What are the products of {name}?"]},
            ),
            Fact(
                ["इसमें {people} कर्मचारी काम करते हैं।", "कंपनी में लगभग {people} लोग काम करते हैं।"],
                {"people": ["How many people work for {name}?", "What is the number of employees of {name}?"]},
            ),
            Fact(
                ["{recent} से {woman} इसकी अध्यक्ष हैं।", "{recent} में {woman} कंपनी की नई अध्यक्ष बनीं।"],
                {
                    "recent": ["Since which year has {name} had a new head?"],
                    "woman": ["Who is the head of {name}?", "Who became the chair of the company?"],
                },
            ),
            Fact(
                [
                    "इसके {percent} प्रतिशत उत्पाद {country} भेजे जाते हैं।",
                    "{country} को इसका {percent} प्रतिशत माल निर्यात होता है।",
                ],
                {
                    "percent": ["What percentage of its goods does {name} export?"],
                    "country": [
                        "To which country does {name} export?",
                        "Which country buys a large share of its goods?",
                    ],
                },
            ),
            Fact(
                [
                    "पिछले साल कंपनी का मुनाफ़ा {crore} करोड़ रुपये रहा।",
                    "कंपनी ने पिछले साल {crore} करोड़ रुपये का मुनाफ़ा कमाया।",
                ],
                {"crore": ["How many crore rupees of profit did {name} make last year?"]},
            ),
            Fact(
                [
                    "कंपनी का दूसरा कारख़ाना {station} में {modern} में खुला।",
                    "{modern} में {station} में इसका दूसरा कारख़ाना शुरू हुआ।",
                ],
                {
                    "station": ["Where did {name} open its second factory?"],
                    "modern": ["When did the second factory of {name} open?"],
                },
            ),
        ],
    ),
    "college": (
        names(
            "ज्ञानोदय महाविद्यालय = Gyanodaya College, सरस्वती विद्यापीठ = Saraswati Vidyapith, नवभारत महाविद्यालय = Navbharat College, वसंत विद्यालय = Vasant School, आलोक महाविद्यालय = Alok College, गुरुकुल कौशल = Gurukul Kaushal, मानस विद्यापीठ = Manas Vidyapith, श्रम विद्यालय = Shram School, विवेक महाविद्यालय = Vivek College, संगम विद्यापीठ = Sangam Vidyapith, अरुणोदय विद्यालय = Arunodaya School, कीर्ति महाविद्यालय = Kirti College"
        ),
        [
            Fact(
                [
                    "{name} {town} का सबसे पुराना शिक्षण संस्थान है, जो {year} में खुला।",
                    "{town} में स्थित {name} की शुरुआत {year} में हुई।",
                ],
                {
                    "town": ["In which town is {name} located?", "Where is {name}?"],
                    "year": ["When was {name} opened?", "In which year did {name} begin?"],
                },
            ),
            Fact(
                ["इसके पहले प्रधानाचार्य {man} थे।", "{man} इसके पहले प्रधानाचार्य बने।"],
                {"man": ["Who was the first principal of {name}?", "Who first headed {name}?"]},
            ),
            Fact(
                ["आज यहाँ {people} विद्यार्थी पढ़ते हैं।", "इस समय यहाँ {people} छात्र-छात्राएँ पढ़ रहे हैं।"],
                {"people": ["How many students attend {name}?", "What is the number of students at {name}?"]},
            ),
            Fact(
                ["यह संस्थान {subject} की पढ़ाई के लिए प्रसिद्ध है।", "यहाँ का {subject} विभाग देश भर में जाना जाता है।"],
                {"subject": ["For which subject is {name} famous?", "Which department of {name} is well known?"]},
            ),
            Fact(
                ["शुरू में कक्षाएँ {tree} के पेड़ के नीचे लगती थीं।", "पहले साल बच्चे {tree} के पेड़ के नीचे पढ़ते थे।"],
                {"tree": ["Under which tree were the first classes of {name} held?"]},
            ),
            Fact(
                ["पुस्तकालय का नाम {woman} के नाम पर रखा गया है।", "यहाँ का पुस्तकालय {woman} के नाम पर है।"],
                {
                    "woman": [
                        "After whom is the library of {name} named?",
                        "Whose name does the library of {name} bear?",
                    ]
                },
            ),
            Fact(
                [
                    "कॉलेज की {sport} टीम ने {recent} में राज्य प्रतियोगिता जीती।",
                    "{recent} में यहाँ की {sport} टीम राज्य विजेता बनी।",
                ],
                {
                    "sport": ["In which sport did the team of {name} win the state title?"],
                    "recent": ["In what year did the team win the state competition?"],
                },
            ),
            Fact(
                [
                    "यहाँ का {percent} प्रतिशत ख़र्च राज्य सरकार देती है।",
                    "राज्य सरकार इसके ख़र्च का {percent} प्रतिशत उठाती है।",
                ],
                {"percent": ["What percentage of the costs of {name} does the state pay?"]},
            ),
        ],
    ),
    "club": (
        names(
            "नगर वीर क्लब = Nagar Veer Club, तूफ़ान क्लब = Toofan Club, सितारा क्लब = Sitara Club, हिम चीता क्लब = Snow Leopard Club, बिजली क्लब = Bijli Club, सागर क्लब = Sagar Club, केसरी क्लब = Kesari Club, उड़ान क्लब = Udaan Club, चट्टान क्लब = Chattan Club, आँधी क्लब = Aandhi Club, रॉयल क्लब = Royal Club, शक्ति क्लब = Shakti Club"
        ),
        [
            Fact(
                ["{name} {town} का एक {sport} क्लब है।", "{town} का {name} एक जाना-माना {sport} क्लब है।"],
                {
                    "town": ["In which town is {name} based?", "Where does {name} come from?"],
                    "sport": ["Which sport does {name} play?"],
                },
            ),
            Fact(
                ["{year} में कुछ छात्रों ने इसकी स्थापना की।", "क्लब की स्थापना {year} में हुई।"],
                {"year": ["When was {name} founded?", "In what year was {name} set up?"]},
            ),
            Fact(
                [
                    "इसका घरेलू मैदान {station} में है, जहाँ {seats} दर्शक बैठ सकते हैं।",
                    "टीम {station} के मैदान पर खेलती है, जिसमें {seats} दर्शकों के लिए जगह है।",
                ],
                {
                    "station": ["Where is the home ground of {name}?"],
                    "seats": [
                        "How many spectators fit into the ground of {name}?",
                        "What is the capacity of the home ground?",
                    ],
                },
            ),
            Fact(
                ["टीम की जर्सी का रंग {colour} है।", "खिलाड़ियों की जर्सी का रंग {colour} होता है।"],
                {
                    "colour": [
                        "What is the colour of the jersey of {name}?",
                        "Which colour do the players of {name} wear?",
                    ]
                },
            ),
            Fact(
                ["इस समय टीम के कप्तान {man} हैं।", "{man} टीम के कप्तान हैं।"],
                {"man": ["Who is the captain of {name}?", "Who leads the team of {name}?"]},
            ),
            Fact(
                ["क्लब ने {few} बार राष्ट्रीय ख़िताब जीता है।", "अब तक क्लब {few} राष्ट्रीय ख़िताब जीत चुका है।"],
                {
                    "few": [
                        "How many national titles has {name} won?",
                        "How often has {name} won the national title?",
                    ]
                },
            ),
            Fact(
                ["{recent} में टीम ने {country} का दौरा किया।", "टीम {recent} में {country} के दौरे पर गई।"],
                {
                    "recent": ["When did {name} tour abroad?"],
                    "country": ["Which country did {name} tour?", "To which country did the team travel?"],
                },
            ),
            Fact(
                ["{woman} {modern} से टीम की कोच हैं।", "{modern} में {woman} को कोच बनाया गया।"],
                {"woman": ["Who is the coach of {name}?"], "modern": ["Since when has {name} had its coach?"]},
            ),
        ],
    ),
}
