"""Poets, scientists, films."""
# ruff: noqa: E501  (one fact, one line: sentences, then questions by slot)

from __future__ import annotations

from tools.samples.facts_mlqa.names import Names, names
from tools.samples.passages import Fact

DOMAINS: dict[str, tuple[Names, list[Fact]]] = {
    "poet": (
        names(
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
        names(
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
    "film": (
        names(
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
}
