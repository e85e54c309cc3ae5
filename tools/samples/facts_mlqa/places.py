"""Villages, forts, temples, bridges."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.facts_mlqa.names import Names, names
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[Names, list[Fact]]] = {
    "village": (
        names(
            "कमलखेड़ी = Kamalkhedi, देवसरगाँव = Devsargaon, धनपुर = Dhanpur, बिलासगाँव = Bilasgaon, नीमखेड़ी = Neemkhedi, पाटलगाँव = Patalgaon, सिंहपुर = Singhpur, जामुनगाँव = Jamungaon, बेरखेड़ी = Berkhedi, चंदनगाँव = Chandangaon, गोविंदपुर = Govindpur, टीलागाँव = Tilagaon"
        ),
        [
            Fact(
                [
                    "{name} {river} नदी के किनारे बसा एक [छोटा|शांत|पुराना] गाँव है।",
                    "{name} एक [छोटा|सुंदर] गाँव है, जो {river} नदी के तट पर बसा है।",
                ],
                {
                    "river": [
                        "On the banks of which river does {name} lie?",
                        "Which river flows past the village of {name}?",
                    ]
                },
            ),
            Fact(
                [
                    "[पिछली|2011 की] जनगणना के अनुसार यहाँ की जनसंख्या {people} है।",
                    "जनगणना के अनुसार यहाँ {people} लोग रहते हैं।",
                ],
                {"people": ["What is the population of {name}?", "How many people live in {name}?"]},
            ),
            Fact(
                ["यहाँ के किसान मुख्य रूप से {crop} की खेती करते हैं।", "गाँव के अधिकतर खेतों में {crop} की खेती होती है।"],
                {"crop": ["What do the farmers of {name} mainly grow?", "Which crop is mainly grown in {name}?"]},
            ),
            Fact(
                ["गाँव का पहला विद्यालय {year} में {man} ने खोला था।", "{year} में {man} ने यहाँ का पहला विद्यालय शुरू किया।"],
                {
                    "year": [
                        "In what year was the first school in {name} opened?",
                        "When did {name} get its first school?",
                    ],
                    "man": ["Who opened the first school in {name}?", "Who founded the village's first school?"],
                },
            ),
            Fact(
                [
                    "निकटतम रेलवे स्टेशन {station} है, जो गाँव से {km} किलोमीटर दूर है।",
                    "सबसे पास का रेलवे स्टेशन {station} यहाँ से {km} किलोमीटर की दूरी पर है।",
                ],
                {
                    "station": ["What is the nearest railway station to {name}?"],
                    "km": [
                        "How many kilometres is {name} from the nearest railway station?",
                        "How far away is the station, in kilometres?",
                    ],
                },
            ),
            Fact(
                [
                    "हर साल {month} में यहाँ पशुओं का मेला लगता है, जो {days} दिन तक चलता है।",
                    "{month} के महीने में लगने वाला यहाँ का पशु मेला {days} दिन चलता है।",
                ],
                {
                    "month": ["In which month is the cattle fair of {name} held?"],
                    "days": [
                        "How many days does the cattle fair last?",
                        "For how many days does the fair in {name} go on?",
                    ],
                },
            ),
            Fact(
                ["{year} में गाँव में पहली बार बिजली पहुँची।", "गाँव को बिजली {year} में मिली।"],
                {"year": ["When did electricity reach {name}?", "In which year did {name} get electric power?"]},
            ),
            Fact(
                ["गाँव की महिलाएँ {craft} बनाने के लिए जानी जाती हैं।", "यहाँ के कारीगर {craft} बनाकर बाज़ार में बेचते हैं।"],
                {
                    "craft": [
                        "What are the craftspeople of {name} known for making?",
                        "What do artisans in {name} make?",
                    ]
                },
            ),
            Fact(
                ["गाँव की वर्तमान सरपंच {woman} हैं, जिन्होंने {count} घरों में नल लगवाए।"],
                {
                    "woman": [
                        "Who is the current head of the village council of {name}?",
                        "Who had taps installed in the homes of {name}?",
                    ],
                    "count": ["In how many homes were taps installed?"],
                },
            ),
        ],
    ),
    "fort": (
        names(
            "केसरगढ़ = Kesargarh, रणजीतगढ़ = Ranjitgarh, भानुगढ़ = Bhanugarh, शेरकोट = Sherkot, चित्रकोट दुर्ग = Chitrakot Durg, पवनगढ़ = Pavangarh, मयूरगढ़ = Mayurgarh, धूमगढ़ = Dhumgarh, वज्रगढ़ = Vajragarh, सिंहकोट = Singhkot, हीरागढ़ = Hiragarh, चाँदकोट = Chandkot"
        ),
        [
            Fact(
                [
                    "{name} एक [प्राचीन|ऐतिहासिक] क़िला है, जिसे राजा {king} ने {old} में बनवाया था।",
                    "राजा {king} ने {old} में {name} का निर्माण कराया।",
                ],
                {
                    "king": ["Which king built {name}?", "Who had {name} built?"],
                    "old": ["In which year was {name} built?", "When was {name} constructed?"],
                },
            ),
            Fact(
                [
                    "क़िले की दीवारें {stone} से बनी हैं और {metres} मीटर ऊँची हैं।",
                    "{metres} मीटर ऊँची इसकी दीवारें {stone} से बनाई गई हैं।",
                ],
                {
                    "stone": ["What are the walls of {name} made of?", "Which material was used for the walls?"],
                    "metres": ["How high are the walls of {name} in metres?"],
                },
            ),
            Fact(
                [
                    "यह {mountain} पहाड़ी पर {height} फ़ुट की ऊँचाई पर स्थित है।",
                    "समुद्र तल से {height} फ़ुट ऊपर यह {mountain} पहाड़ी पर खड़ा है।",
                ],
                {
                    "mountain": ["On which hill does {name} stand?"],
                    "height": ["At what height in feet is {name} situated?"],
                },
            ),
            Fact(
                ["इसका मुख्य द्वार {direction} दिशा में है।", "क़िले का सबसे बड़ा द्वार {direction} की ओर खुलता है।"],
                {
                    "direction": [
                        "In which direction does the main gate of {name} face?",
                        "Which way does the main gate open?",
                    ]
                },
            ),
            Fact(
                [
                    "क़िले के भीतर भगवान {deity} का एक मंदिर और {few} कुएँ हैं।",
                    "भीतर {few} पुराने कुएँ और भगवान {deity} का मंदिर है।",
                ],
                {
                    "deity": ["To which god is the temple inside {name} dedicated?"],
                    "few": ["How many wells are there inside {name}?"],
                },
            ),
            Fact(
                [
                    "{year} में यहाँ एक संग्रहालय खोला गया, जिसमें {exhibit} रखी गई हैं।",
                    "यहाँ के संग्रहालय में, जो {year} में खुला, {exhibit} देखी जा सकती हैं।",
                ],
                {
                    "year": ["When was the museum in {name} opened?"],
                    "exhibit": [
                        "What can be seen in the museum of {name}?",
                        "What is kept in the museum of the fort?",
                    ],
                },
            ),
            Fact(
                ["क़िले की मरम्मत का काम {woman} की देखरेख में हुआ।", "मरम्मत के काम की देखरेख {woman} ने की।"],
                {
                    "woman": [
                        "Who supervised the repair of {name}?",
                        "Under whose supervision was the fort repaired?",
                    ]
                },
            ),
            Fact(
                ["निकटतम शहर {town} यहाँ से {km} किलोमीटर दूर है।", "यह {town} शहर से {km} किलोमीटर की दूरी पर है।"],
                {
                    "town": ["Which town is nearest to {name}?", "What is the closest city to the fort?"],
                    "km": ["How many kilometres away is the nearest town?"],
                },
            ),
        ],
    ),
    "temple": (
        names(
            "शिवालय धाम मंदिर = Shivalay Dham Temple, नागेशी मंदिर = Nageshi Temple, ज्योतिवन मंदिर = Jyotivan Temple, त्रिवेणी मंदिर = Triveni Temple, मंगलनाथ मंदिर = Mangalnath Temple, सोमपुरी मंदिर = Sompuri Temple, कल्पवृक्ष मंदिर = Kalpavriksha Temple, दीपेश्वर मंदिर = Deepeshwar Temple, अमृतेश्वर मंदिर = Amriteshwar Temple, वनदेव मंदिर = Vandev Temple, सहस्रधारा मंदिर = Sahasradhara Temple, शंखनाद मंदिर = Shankhnad Temple"
        ),
        [
            Fact(
                [
                    "{name} भगवान {deity} को समर्पित है और {town} में स्थित है।",
                    "{town} में स्थित {name} भगवान {deity} को समर्पित एक मंदिर है।",
                ],
                {
                    "deity": ["To which god is the {name} dedicated?"],
                    "town": ["In which town is the {name} situated?", "Where is the {name}?"],
                },
            ),
            Fact(
                ["इसका निर्माण {old} में राजा {king} ने करवाया था।", "राजा {king} ने इसे {old} में बनवाया था।"],
                {
                    "old": ["When was the {name} built?"],
                    "king": ["Who had the {name} built?", "Which king built the {name}?"],
                },
            ),
            Fact(
                ["मंदिर का शिखर {metres} मीटर ऊँचा है।", "इसके शिखर की ऊँचाई {metres} मीटर है।"],
                {"metres": ["How tall is the spire of the {name}?", "What is the height of the spire in metres?"]},
            ),
            Fact(
                ["भक्तों को यहाँ {sweet} का प्रसाद मिलता है।", "यह मंदिर {sweet} के प्रसाद के लिए प्रसिद्ध है।"],
                {
                    "sweet": [
                        "What is given to the devotees of the {name}?",
                        "Which sweet is offered at the {name}?",
                    ]
                },
            ),
            Fact(
                [
                    "हर {month} में यहाँ {days} दिन का उत्सव होता है।",
                    "{month} में होने वाला यहाँ का उत्सव {days} दिन चलता है।",
                ],
                {
                    "month": ["In which month is the festival of the {name} held?"],
                    "days": ["How long does the festival last in days?"],
                },
            ),
            Fact(
                ["गर्भगृह तक पहुँचने के लिए {count} सीढ़ियाँ चढ़नी पड़ती हैं।", "मंदिर तक {count} सीढ़ियाँ जाती हैं।"],
                {"count": ["How many steps lead up to the {name}?", "How many steps must visitors climb?"]},
            ),
            Fact(
                [
                    "आँगन में {tree} का एक बहुत पुराना पेड़ है।",
                    "मंदिर के आँगन में खड़ा {tree} का पेड़ सैकड़ों साल पुराना माना जाता है।",
                ],
                {"tree": ["What kind of tree stands in the courtyard of the {name}?"]},
            ),
            Fact(
                [
                    "{year} के भूकंप के बाद {man} ने इसकी मरम्मत कराई।",
                    "{man} ने {year} के भूकंप के बाद मंदिर को फिर से बनवाया।",
                ],
                {
                    "year": [
                        "In which year did an earthquake damage the {name}?",
                        "After the earthquake of which year was it repaired?",
                    ],
                    "man": ["Who had the {name} repaired?", "Who restored the temple after the earthquake?"],
                },
            ),
        ],
    ),
    "bridge": (
        names(
            "राजमार्ग सेतु = Rajmarg Setu, विजय सेतु = Vijay Setu, लोहा पुल = Loha Bridge, मैत्री सेतु = Maitri Setu, शताब्दी पुल = Shatabdi Bridge, इंद्रधनुष सेतु = Indradhanush Setu, तीर्थ पुल = Tirtha Bridge, जनता सेतु = Janata Setu, नवयुग सेतु = Navyug Setu, ताज पुल = Taj Bridge, हिमालय सेतु = Himalaya Setu, गाँधी पुल = Gandhi Bridge"
        ),
        [
            Fact(
                [
                    "{name} {river} नदी पर बना एक पुल है, जो {town} को {station} से जोड़ता है।",
                    "{river} नदी पर बना {name} {town} और {station} को जोड़ता है।",
                ],
                {"river": ["Which river does {name} cross?", "Over which river was {name} built?"]},
            ),
            Fact(
                ["इसका नक़्शा {engineer} ने बनाया था।", "इस पुल के मुख्य इंजीनियर {engineer} थे।"],
                {"engineer": ["Who designed {name}?", "Who was the engineer of {name}?"]},
            ),
            Fact(
                ["निर्माण {year} में शुरू हुआ और {few} साल चला।", "{year} में काम शुरू हुआ, जिसे पूरा होने में {few} साल लगे।"],
                {
                    "year": ["When did the construction of {name} begin?"],
                    "few": ["How many years did it take to build {name}?"],
                },
            ),
            Fact(
                ["पुल की लंबाई {length} मीटर है।", "यह पुल {length} मीटर लंबा है।"],
                {"length": ["How long is {name} in metres?", "What is the length of {name}?"]},
            ),
            Fact(
                ["इसके खंभे {stone} से बनाए गए हैं।", "पुल के खंभों को {stone} से बनाया गया।"],
                {"stone": ["What are the pillars of {name} made of?", "Which material was used for the pillars?"]},
            ),
            Fact(
                ["हर दिन {people} वाहन इस पर से गुज़रते हैं।", "इस पुल से रोज़ {people} वाहन निकलते हैं।"],
                {"people": ["How many vehicles use {name} every day?"]},
            ),
            Fact(
                ["उद्घाटन के दिन {woman} ने फीता काटा।", "{woman} ने इसका उद्घाटन किया।"],
                {"woman": ["Who opened {name}?", "Who cut the ribbon at the opening of {name}?"]},
            ),
            Fact(
                [
                    "{recent} में इस पर {crore} करोड़ रुपये की लागत से नई बत्तियाँ लगाई गईं।",
                    "नई बत्तियाँ {recent} में लगीं, जिन पर {crore} करोड़ रुपये ख़र्च हुए।",
                ],
                {
                    "recent": ["When were new lamps put up on {name}?"],
                    "crore": ["How many crore rupees did the new lamps cost?"],
                },
            ),
        ],
    ),
}
