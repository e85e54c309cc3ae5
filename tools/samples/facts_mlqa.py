"""What the Hindi passages say: domains, each with its invented things (Hindi, English name) and facts.

The first fact of a domain introduces the thing; slots are pools and ranges of grammar_mlqa.
"""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.passages import Fact

Names = list[tuple[str, str]]


def _names(text: str) -> Names:
    """'हिंदी = English' items, comma separated."""
    pairs = [item.split("=") for item in text.split(",")]
    return [(hindi.strip(), english.strip()) for hindi, english in pairs]


DOMAINS: dict[str, tuple[Names, list[Fact]]] = {
    "village": (
        _names(
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
    "river": (
        _names(
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
    "poet": (
        _names(
            "आनंद प्रसाद भारद्वाज = Anand Prasad Bharadwaj, सोमेश्वर दत्त = Someshwar Dutt, हरिनाथ शुक्ल = Harinath Shukla, बलवंत अरोड़ा = Balwant Arora, रघुनंदन पंत = Raghunandan Pant, यूसुफ़ अंसारी = Yusuf Ansari, चिंतामणि देव = Chintamani Dev, लक्ष्मण गौतम = Lakshman Gautam, दिनेश उपाध्याय = Dinesh Upadhyay, बशीर अहमद = Bashir Ahmad, काशीनाथ ओझा = Kashinath Ojha, नरहरि दास = Narhari Das"
        ),
        [
            Fact(
                [
                    "{name} हिंदी के [प्रसिद्ध|जाने-माने] कवि थे, जिनका जन्म {birth} में {town} में हुआ था।",
                    "हिंदी के कवि {name} का जन्म {birth} में {town} में हुआ।",
                ],
                {
                    "birth": ["When was {name} born?", "What is the year of birth of {name}?"],
                    "town": ["Where was {name} born?", "In which town was the poet {name} born?"],
                },
            ),
            Fact(
                ["उनके पिता {job} थे और माता का नाम {woman} था।", "उनकी माता {woman} थीं और पिता पेशे से {job} थे।"],
                {
                    "job": [
                        "What did the father of {name} do for a living?",
                        "What was the profession of his father?",
                    ],
                    "woman": ["What was the name of the mother of {name}?", "Who was the poet's mother?"],
                },
            ),
            Fact(
                [
                    "उन्होंने {university} से {subject} की शिक्षा ली।",
                    "उनकी उच्च शिक्षा {university} में हुई, जहाँ उन्होंने {subject} की पढ़ाई की।",
                ],
                {
                    "university": [
                        "At which university did {name} study?",
                        "Where did {name} receive his higher education?",
                    ],
                    "subject": ["What subject did {name} study?"],
                },
            ),
            Fact(
                ['उनका पहला कविता संग्रह "{book}" {first} में प्रकाशित हुआ।', '{first} में उनकी पहली पुस्तक "{book}" छपी।'],
                {
                    "book": [
                        "What was the title of the first book of {name}?",
                        "What is the poet's first collection called?",
                    ],
                    "first": [
                        "When was his first book published?",
                        "In which year did the first collection of {name} appear?",
                    ],
                },
            ),
            Fact(
                ["उन्हें {honour} में {award} दिया गया।", "{honour} में उन्हें {award} मिला।"],
                {
                    "award": ["Which award did {name} receive?", "What prize was given to {name}?"],
                    "honour": ["In what year was {name} given the award?"],
                },
            ),
            Fact(
                ["{age} वर्ष की आयु में {town} में उनका निधन हुआ।", "उनका देहांत {town} में {age} वर्ष की उम्र में हुआ।"],
                {
                    "age": ["At what age did {name} die?", "How old was {name} when he died?"],
                    "town": ["Where did {name} die?"],
                },
            ),
            Fact(
                ["कविता के अलावा वे {instrument} भी बजाते थे।", "उन्हें {instrument} बजाने का भी शौक़ था।"],
                {
                    "instrument": [
                        "Which instrument did {name} play?",
                        "What did the poet like to play besides writing?",
                    ]
                },
            ),
            Fact(
                ["{man} को वे अपना गुरु मानते थे।", "उनके गुरु {man} थे।"],
                {"man": ["Who was the teacher of {name}?", "Whom did {name} regard as his master?"]},
            ),
        ],
    ),
    "scientist": (
        _names(
            "अनुराधा सक्सेना = Anuradha Saxena, मालती देशपांडे = Malati Deshpande, ज़ैनब क़ुरैशी = Zainab Qureshi, शकुंतला अय्यर = Shakuntala Iyer, पद्मा गोस्वामी = Padma Goswami, रेखा मजूमदार = Rekha Majumdar, इला कपूर = Ila Kapoor, सुमित्रा हेगड़े = Sumitra Hegde, वंदना ठाकुर = Vandana Thakur, कल्याणी मेनन = Kalyani Menon, तारा बोस = Tara Bose, निर्मला पुरी = Nirmala Puri"
        ),
        [
            Fact(
                [
                    "{name} एक [भारतीय|प्रसिद्ध] वैज्ञानिक हैं, जो {university} में {subject} पढ़ाती हैं।",
                    "वैज्ञानिक {name} {university} में {subject} की प्रोफ़ेसर हैं।",
                ],
                {
                    "university": ["At which university does {name} teach?", "Where is {name} a professor?"],
                    "subject": ["Which subject does {name} teach?"],
                },
            ),
            Fact(
                [
                    "उनका जन्म {born} में {town} में एक {job} के परिवार में हुआ।",
                    "वे {born} में {town} में एक {job} के घर पैदा हुईं।",
                ],
                {
                    "born": ["In which year was {name} born?"],
                    "town": ["In which town was {name} born?", "Where was {name} born?"],
                },
            ),
            Fact(
                ["बचपन में उन्हें {man} ने विज्ञान पढ़ाया।", "उनके पहले शिक्षक {man} थे।"],
                {"man": ["Who taught {name} as a child?", "Who was her first teacher?"]},
            ),
            Fact(
                [
                    "{modern} में उन्होंने {tree} की छाल से {disease} की दवा बनाई।",
                    "उन्होंने {modern} में {disease} के लिए {tree} के पत्तों से एक दवा तैयार की।",
                ],
                {
                    "modern": ["When did {name} develop the medicine?"],
                    "tree": [
                        "From which tree did {name} make a medicine?",
                        "Which tree is the source of her medicine?",
                    ],
                    "disease": [
                        "For which complaint did {name} develop a medicine?",
                        "What does the medicine of {name} treat?",
                    ],
                },
            ),
            Fact(
                ["उनके {count} शोधपत्र प्रकाशित हो चुके हैं।", "अब तक उन्होंने {count} शोधपत्र लिखे हैं।"],
                {"count": ["How many research papers has {name} published?", "How many papers has she written?"]},
            ),
            Fact(
                ["{recent} में सरकार ने उन्हें {award} से सम्मानित किया।", "उन्हें {recent} में {award} मिला।"],
                {
                    "recent": ["In what year was {name} honoured?"],
                    "award": ["With which award was {name} honoured?", "What award did {name} get?"],
                },
            ),
            Fact(
                [
                    "उन्होंने तीन वर्ष {country} की एक प्रयोगशाला में काम किया।",
                    "वे कुछ समय तक {country} में भी शोध करती रहीं।",
                ],
                {"country": ["In which country did {name} also do research?", "Abroad, where did {name} work?"]},
            ),
            Fact(
                ["ख़ाली समय में वे {instrument} बजाती हैं।"],
                {
                    "instrument": [
                        "What does {name} play in her free time?",
                        "Which instrument does the scientist play?",
                    ]
                },
            ),
            Fact(
                ['उनकी आत्मकथा "{book}" का अनुवाद {man} ने किया।'],
                {
                    "book": ["What is the title of the autobiography of {name}?"],
                    "man": ["Who translated the autobiography of {name}?"],
                },
            ),
        ],
    ),
    "fort": (
        _names(
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
        _names(
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
    "company": (
        _names(
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
    "bird": (
        _names(
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
    "film": (
        _names(
            "सूनी गलियाँ = Sooni Galiyan, दूसरा किनारा = Doosra Kinara, पतंग की डोर = Patang Ki Dor, बारिश के बाद = Barish Ke Baad, एक टिकट शाम का = Ek Ticket Shaam Ka, चौथा पहर = Chautha Pahar, रेत का घर = Ret Ka Ghar, मेले में खोए = Mele Mein Khoye, खुली किताब = Khuli Kitab, आधी चाय = Aadhi Chai, लाल बत्ती = Lal Batti, ख़ाली मकान = Khali Makan"
        ),
        [
            Fact(
                [
                    '"{name}" {release} में बनी एक हिंदी फ़िल्म है, जिसका निर्देशन {man} ने किया।',
                    '{man} के निर्देशन में बनी फ़िल्म "{name}" {release} में प्रदर्शित हुई।',
                ],
                {
                    "release": ["In which year was the film {name} released?", "When did {name} come out?"],
                    "man": ["Who directed {name}?", "Who is the director of the film {name}?"],
                },
            ),
            Fact(
                ["फ़िल्म में मुख्य भूमिका {woman} ने निभाई।", "मुख्य नायिका की भूमिका में {woman} हैं।"],
                {"woman": ["Who played the lead in {name}?", "Which actress has the main part in {name}?"]},
            ),
            Fact(
                ["यह {town} के एक {job} की कहानी है।", "कहानी {town} में रहने वाले एक {job} के बारे में है।"],
                {
                    "town": ["In which town is the story of {name} set?"],
                    "job": [
                        "What is the profession of the main character of {name}?",
                        "Whose story does {name} tell?",
                    ],
                },
            ),
            Fact(
                ["फ़िल्म की लंबाई {minutes} मिनट है।", "यह फ़िल्म {minutes} मिनट लंबी है।"],
                {"minutes": ["How many minutes long is {name}?", "What is the running time of {name}?"]},
            ),
            Fact(
                ["इसके बनाने में {crore} करोड़ रुपये ख़र्च हुए।", "फ़िल्म का बजट {crore} करोड़ रुपये था।"],
                {"crore": ["What was the budget of {name} in crore rupees?"]},
            ),
            Fact(
                [
                    "इसकी शूटिंग {river} नदी के तट पर {days} दिन तक चली।",
                    "अधिकतर दृश्य {river} नदी के किनारे {days} दिन में फ़िल्माए गए।",
                ],
                {
                    "river": ["Along which river was {name} shot?"],
                    "days": ["How many days did the shooting take?"],
                },
            ),
            Fact(
                [
                    "फ़िल्म के गीतों में {instrument} की धुन बहुत पसंद की गई।",
                    "गीतों में बजने वाली {instrument} की धुन लोगों को याद रही।",
                ],
                {"instrument": ["Which instrument was liked in the songs of {name}?"]},
            ),
            Fact(
                ["इसे सर्वश्रेष्ठ फ़िल्म का {award} मिला।", "अगले वर्ष फ़िल्म ने {award} जीता।"],
                {"award": ["Which award did {name} win?", "What prize did the film receive?"]},
            ),
        ],
    ),
    "lake": (
        _names(
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
    "college": (
        _names(
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
    "bridge": (
        _names(
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
    "club": (
        _names(
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
