"""Emotion: first-person sentences in the style of the dataset (lower case, no apostrophes), six labels.

The label comes from the main clause: an emotion word, or, where the word is vague, from what happened.
Another emotion may be named on the way ("i wanted to feel x but ...") and does not count.
"""

from __future__ import annotations

import re
from random import Random

from tools.samples.engine import Row, Split, choose, draw, lines, tidy, unique, words

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")
WEIGHTS = (22, 24, 14, 15, 14, 11)
NUM_ROWS: dict[Split, int] = {"train": 1200, "validation": 150, "test": 240}

ADJECTIVES: dict[str, list[str]] = {
    "sadness": words("""sad, lonely, miserable, heartbroken, gloomy, hopeless, humiliated, crushed, empty,
        drained, hurt, unloved, worthless, homesick, melancholy, sorrowful, guilty, ashamed, disappointed,
        defeated, neglected, numb, discouraged, mournful, ignored, unwelcome, rejected, regretful,
        devastated, isolated, dejected, tearful, depressed, awful, unhappy, low, beaten down, remorseful"""),
    "joy": words("""happy, glad, content, cheerful, proud, excited, thrilled, jolly, joyful, optimistic,
        hopeful, relaxed, peaceful, calm, elated, radiant, confident, blessed, lucky, inspired, energetic,
        delighted, playful, triumphant, satisfied, carefree, pleased, comfortable, festive, grateful,
        ecstatic, invigorated, successful, relieved, amused, refreshed, cheery, upbeat"""),
    "love": words("""loving, tender, affectionate, fond of {them}, caring, sympathetic, smitten, adoring,
        passionate, romantic, devoted, gentle, compassionate, loyal, enamoured, cherished, supportive,
        beloved, sentimental, adored, faithful, warm towards {them}, doting, treasured, full of love,
        close to {them}, in love, soft hearted, attached to {them}, nostalgic for {them}"""),
    "anger": words("""angry, mad, furious, annoyed, irritated, bitter, livid, seething, resentful,
        frustrated, grumpy, outraged, hostile, jealous, vengeful, irate, offended, insulted, impatient,
        cranky, enraged, agitated, incensed, infuriated, spiteful, hateful, fed up, disgusted, aggravated,
        grouchy, cross, snappish, wronged, envious, bitter inside"""),
    "fear": words("""afraid, scared, anxious, nervous, terrified, worried, panicky, petrified, uneasy,
        frightened, insecure, unsure, shaky, vulnerable, alarmed, jumpy, threatened, apprehensive,
        intimidated, tense, timid, paranoid, jittery, spooked, hesitant, fearful, unsafe, doubtful,
        distressed, frantic, wary, skittish, uncertain, helpless, pressured, restless"""),
    "surprise": words("""surprised, amazed, shocked, stunned, astonished, curious, flabbergasted,
        gobsmacked, impressed, dazed, startled, astounded, speechless, dumbfounded, awestruck, baffled,
        bewildered, puzzled, taken aback, caught off guard, mystified, intrigued, floored, thunderstruck,
        perplexed, in awe"""),
}
NOUNS: dict[str, list[str]] = {
    "sadness": words("sadness, grief, loneliness, regret, emptiness, shame, sorrow, despair, misery, guilt"),
    "joy": words("""joy, happiness, pride, hope, relief, delight, contentment, bliss, excitement,
        satisfaction"""),
    "love": words("love, tenderness, affection, devotion, longing, fondness, adoration, compassion, warmth"),
    "anger": words("""anger, rage, resentment, bitterness, irritation, fury, outrage, jealousy, annoyance,
        spite"""),
    "fear": words("fear, dread, panic, anxiety, worry, terror, unease, apprehension, nervousness, alarm"),
    "surprise": words("""surprise, wonder, amazement, disbelief, astonishment, shock, awe, bewilderment,
        curiosity"""),
}
EVENTS: dict[str, list[str]] = {
    "sadness": lines("""
        my best friend moved away without saying goodbye
        we buried {relative} [last week|on a rainy {day}]
        nobody came to the little dinner i had planned for {day}
        {friend} stopped answering my messages
        i failed the {exam} for the [second|third] time
        the house was silent after the kids left for {place}
        i lost the ring that {relative} left me
        everyone at the {event} forgot that it was my birthday
        our old dog died in her sleep
        {friend} told me the wedding was off
        i read the last letter that {relative} ever wrote
        i spent another {holiday} by myself in a rented room
        the doctor said that {relative} would not recover
        i did not get picked for the team again
        i had to give my cat away when we moved to {place}
        my parents sold the house where i grew up
        the friends i grew up with stopped inviting me
        i broke the only thing {relative} ever made for me
        he packed his bags and left before breakfast
        i looked at photos of people i will never see again
        my application was turned down without a word
        i let {friend} down when she needed me
        i missed the funeral of {relative}
        the garden we planted together had dried up and died"""),
    "joy": lines("""
        i finally passed the {exam}
        we spent the whole {day} swimming and laughing by the lake
        my little brother took his first steps
        {friend} and i danced in the kitchen until midnight
        i got the job that i had been dreaming about
        the sun came out just in time for the {event}
        i finished my first ten miles without stopping
        i woke up rested with nothing to do but read
        my painting won a prize at the {event}
        the whole family came together for {holiday}
        i cleaned the flat and baked bread for the first time
        my song got applause from the whole room
        the test results came back clear
        we reached the top of the hill and had a picnic there
        i paid off the last of my debts
        the choir sounded perfect on {day} night
        i got a full week off and booked a trip to {place}
        our team won the final in the last minute
        my sister called to say that the baby was healthy
        i laughed so hard at {friend} that my stomach hurt
        the first tomatoes in my garden turned red
        i learned to play that tune i always liked
        my boss praised the work i did all [spring|summer]
        i got to sing carols with the neighbours"""),
    "love": lines("""
        my husband brought me tea in bed [without being asked|again]
        i watched my daughter sleeping with her arms around the cat
        {friend} held my hand all the way through the operation
        my grandmother told me how she met grandpa in {place}
        we kissed under the old bridge on our anniversary
        i read the notes that he hides in my coat pockets
        i saw how patiently she cares for {relative}
        my son told me that i am his favourite person
        i rocked the newborn in my arms all night
        she wrote me a poem for {holiday}
        i sat with the old man next door and listened to his stories
        he knitted a blanket for our baby with his own hands
        the puppy fell asleep on my chest
        we renewed our vows in front of our children
        i remembered our first date at the {event}
        my wife drove all night just to see me for an hour
        i held him close in the dark and heard his heart beating
        i kept every card that {relative} sent me
        she whispered my name before she fell asleep
        i cooked his favourite soup when he was ill
        my little girl drew our family holding hands
        we slow danced to our song in the empty hall
        i looked into her eyes across the table
        i hugged {relative} at the station and could not let go"""),
    "anger": lines("""
        my neighbour played the drums at three in the morning again
        {friend} took the credit for the report i wrote
        the airline cancelled my flight and blamed me for it
        someone scratched my car and drove off
        my landlord kept the deposit for no reason
        he lied to my face about the money
        the man behind me kept kicking my seat
        she read my diary and laughed about it with {friend}
        they raised the rent for the third time this year
        my boss shouted at me in front of everyone
        my brother borrowed my {thing} and broke it
        the call centre hung up on me after an hour
        a stranger kicked my dog at the park
        the kids next door threw eggs at my window
        {friend} cancelled on me five minutes before the {event}
        people kept pushing in front of me in the queue
        the company refused to pay us for the extra hours
        they parked across my drive for the whole {day}
        he called me stupid in front of my children
        the referee cheated us out of the match
        my flatmate ate my food and denied it
        they sent me the wrong {thing} twice and refused a refund
        my cousin made jokes about my accent all evening
        the builders tore down the wrong wall and walked off"""),
    "fear": lines("""
        i heard footsteps in the empty house
        the doctor asked me to come back for more tests
        i had to speak in front of four hundred people
        the plane dropped and the lights went out
        a man followed me from the station
        the brakes stopped working on the way down the hill
        i woke up and could not remember locking the door
        i walked home alone through the dark tunnel
        the water kept rising around the car
        my {exam} was only an hour away
        the letter said that half of us would lose our jobs
        i looked down from the edge of the roof
        the dog in the yard started to growl at me
        my son did not come home and his phone was off
        the lift got stuck between two floors
        there was a snake under my sleeping bag
        thunder shook the tent and the poles began to bend
        i saw the needle and knew it was my turn
        the ice cracked under my boots
        the fire alarm went off in the middle of the night
        i was about to move to {place} without knowing anyone
        someone tried the handle of my door at night
        i thought about the operation on {day}
        the bank wrote that i might lose the house"""),
    "surprise": lines("""
        a perfect stranger paid for my groceries
        i found my old {thing} in a shop in {place}
        {friend} turned out to speak fluent finnish
        my shy cousin walked on stage and began to rap
        it snowed in the middle of june
        i learned that my teacher used to be a spy
        the magician pulled my own watch out of a lemon
        {relative} showed up at the door after twenty years
        my plain little stone turned out to be worth a fortune
        the cat opened the fridge all by itself
        i met someone with exactly my name and my birthday
        fifty people jumped out from behind the sofa
        my quiet neighbour turned out to be a famous author
        i won a {thing} in a raffle that i never entered
        the twins turned out to be triplets
        a deer walked right into the {event}
        the results were the opposite of what i had predicted
        {friend} suddenly announced that she had married in secret
        the old radio started playing after years of silence
        i saw how small the room looked after all these years
        a parrot on the balcony greeted me in my own voice
        the lost letter arrived forty years late
        my grandfather suddenly did a cartwheel on the lawn
        the quiz show called my number out of nowhere"""),
}
IMPLIED: dict[str, list[str]] = {
    "sadness": lines("""crying myself to sleep
        nothing i do will ever matter
        staying in bed with the curtains closed
        i have lost a part of myself
        i am the only person left on earth
        nobody would notice if i were gone
        my heart has been ripped in two
        the tears will never stop"""),
    "joy": lines("""dancing around the kitchen
        i could sing from the rooftops
        the whole world is smiling at me
        hugging the postman
        i am walking on air
        everything is finally falling into place
        skipping all the way home
        opening a bottle of something sparkling"""),
    "love": lines("""holding you and never letting go
        my heart belongs right here with {them}
        i have found the other half of my soul
        writing love letters all day
        wrapping my arms around {them}
        i would do anything to see {them} smile
        kissing {them} on the forehead
        i could spend my whole life next to {them}"""),
    "anger": lines("""throwing my phone at the wall
        screaming at the next person who talks to me
        slamming every door in the house
        telling them exactly what i think of them
        my blood is boiling
        punching a pillow
        writing a very nasty letter
        i am about to explode at {them}"""),
    "fear": lines("""running away and locking every door
        something terrible is about to happen
        hiding under the blanket
        my heart will jump out of my chest
        the walls are closing in on me
        somebody is watching me
        sleeping with the lights on
        checking the locks one more time"""),
    "surprise": lines("""someone pulled a rabbit out of a hat
        pinching myself to see if i am awake
        my jaw is still on the floor
        asking them to say it again because it cannot be true
        i am in a film with a crazy twist
        rubbing my eyes and looking twice
        i have landed on another planet
        i have no words for what i just saw"""),
}
VAGUE = words("""overwhelmed, a bit strange, all kinds of things, shaken up, so much right now, emotional,
        weird, rather odd, not like myself, intense, worked up, quite a lot, different""")
NEUTRAL = lines("""
    i got home from work
    i sat down to write this
    we drove back from {place}
    i opened my laptop this morning
    i looked at the clock
    {friend} and i had been talking for an hour
    i was on the train to {place}
    the {event} was over
    i put the {thing} back on the shelf
    it was {day} and the shops had closed
    i walked past the old {building}
    we were standing in line at the {building}
    i finished my coffee
    {friend} asked me how things were
    i was doing the dishes
    the phone rang at noon
    i thought about it [again|some more]
    i had dinner with {friend} and {relative}
    i read what i wrote here on {day}
    i took the bus to the {building}
    i talked to {relative} about it
    the lights came on at the {event}
    i was waiting for {friend} outside the {building}
    i got off the phone with {relative}""")
SLOTS: dict[str, list[str]] = {
    "relative": words("""my grandmother, my uncle, my father, my aunt, my grandpa, my mother, my godmother,
        my nan"""),
    "friend": words("""anna, my friend joe, my roommate, priya, my colleague, tom, my old friend lena,
        marcus, sofia, my neighbour, kim, my partner, daniel, jo, my classmate, ruth"""),
    "place": words("""the coast, lisbon, the city, norway, the village, ohio, the mountains, leeds,
        my hometown, madrid, the island, toronto, the north, glasgow, kerala, utrecht"""),
    "day": words("monday, saturday, sunday, friday, thursday, wednesday, tuesday, new years day"),
    "holiday": words("""christmas, easter, my birthday, the long weekend, diwali, new year, thanksgiving,
        midsummer"""),
    "exam": words("""driving test, chemistry exam, bar exam, entrance exam, final, language test, audition,
        maths exam"""),
    "event": words("""party, concert, school play, meeting, fair, wedding, reunion, match, class, market,
        workshop, parade, rehearsal, conference, picnic, recital"""),
    "thing": words("""guitar, camera, bike, lamp, jacket, watch, notebook, kettle, record player, tent,
        violin, scarf, chess set, umbrella, backpack, typewriter"""),
    "building": words("""library, station, museum, school, bakery, church, hospital, cinema, town hall, gym,
        harbour, bookshop, post office, theatre, chapel, arcade"""),
    "them": words("him, her, them, you, my family, everyone here, my friends, my wife"),
}
DEGREE = words("""so, really, very, a little, rather, completely, pretty, quite, extremely, incredibly,
        kind of, deeply""")
OPENERS = lines("""i have to admit that
    honestly
    today
    lately
    i guess
    to be honest
    right now
    you know
    im not going to lie
    all week
    it is late and
    i suppose
    i will just say that
    i keep telling people that
    no matter what they say
    as the day goes on""")
FRAMES = lines("""
    i feel {deg} {adj} [because|since|now that] {event}
    {event} and i [feel|felt|was feeling|am feeling] {deg} {adj}
    i [was feeling|felt] {deg} {adj} [when|after] {event}
    ive been feeling {deg} {adj} [ever since|because] {event}
    when {event} i [could not help feeling|started to feel|began to feel] {deg} {adj}
    im [still |]feeling {deg} {adj} [about it all |]because {event}
    i [cant|couldnt] stop feeling {adj} after {event}
    {event} which [left me feeling|made me feel|has me feeling] {deg} {adj}
    i thought i would feel {other} but {event} and [now|then] i [only |just |]feel {adj}
    im not feeling {other} [anymore|at all] because {event} and that makes me {deg} {adj}
    i [have|had|got] this [strong |sudden |deep |]feeling of {noun} [when|because|after] {event}
    a feeling of {noun} came over me [when|as|because] {event}
    i feel [nothing but|so much|a lot of] {noun} [because|since] {event}
    {event} and i feel like {implied}
    i feel like {implied} [because|since|now that] {event}
    i dont know why but i feel {deg} {adj} [whenever|every time] i remember that {event}
    {event} and [he|she|everyone|nobody] [saw|noticed] that i felt {deg} {adj}
    i didnt [expect|plan|want] to feel {adj} but {event}
    even though {neutral} i [still |]feel {deg} {adj} because {event}
    {neutral} and i [was|am] still feeling {deg} {adj} because {event}
    i feel {deg} {adj}
    i woke up feeling {deg} {adj} and it [lasted|stayed with me] until {neutral}
    im [sitting|lying] here feeling {adj} and [wondering|thinking] about what happened when {event}
    the more i think about how {event} the more i feel {adj}""")
CAUSE = re.compile(r"(because|ever since|since|now that) \{event\}")
"""Neutral events are no causes: they only tell when."""
TYPOS = {"because": "becuase", "really": "realy", "a lot": "alot", "friend": "freind", "started": "startd"}


def rows(split: Split, rng: Random, taken: set[str]) -> list[Row]:
    """Distinct rows in the shape of dair-ai/emotion: text, label (0..5)."""
    return unique(lambda: _row(split, rng), lambda row: str(row["text"]), taken, NUM_ROWS[split])


def _row(split: Split, rng: Random) -> Row:
    """The shares decide how hard the split is: own fillers, vague words and neutral events."""
    label = rng.choices(range(len(LABELS)), WEIGHTS)[0]
    emotion, other = LABELS[label], rng.choice([name for i, name in enumerate(LABELS) if i != label])
    frame = choose(rng, draw(rng, FRAMES, split, 0.2))
    is_vague = rng.random() < 0.08 and "{event}" in frame and "{other}" not in frame
    is_neutral = rng.random() < 0.35 and not is_vague
    if is_neutral:
        frame = CAUSE.sub(lambda match: rng.choice(("when {event}", "after {event}")), frame)
    values = {
        "deg": rng.choice(DEGREE) if rng.random() < 0.5 and not is_vague else "",
        "adj": rng.choice(VAGUE) if is_vague else draw(rng, ADJECTIVES[emotion], split, 0.1),
        "noun": draw(rng, NOUNS[emotion], split, 0.1),
        "implied": draw(rng, IMPLIED[emotion], split, 0.2),
        "other": draw(rng, ADJECTIVES[other], split, 0.2),
        "event": draw(rng, NEUTRAL if is_neutral else EVENTS[emotion], split, 0.3),
        "neutral": draw(rng, NEUTRAL, split, 0.5),
    }
    text = _fill(rng, frame, values, split)
    if rng.random() < 0.3:
        text = f"{draw(rng, OPENERS, split, 0.3)} {text}"
    return {"text": _typo(rng, tidy(text)), "label": label}


def _fill(rng: Random, frame: str, values: dict[str, str], split: Split) -> str:
    """Fill the frame, then the small slots inside its parts."""
    text = choose(rng, frame.format(**values))
    for name, items in SLOTS.items():
        while "{" + name + "}" in text:
            text = text.replace("{" + name + "}", draw(rng, items, split, 0.4), 1)
    return text


def _typo(rng: Random, text: str) -> str:
    """One row in sixteen keeps a slip of the keyboard."""
    if rng.random() < 1 / 16:
        for right, wrong in TYPOS.items():
            if right in text:
                return text.replace(right, wrong, 1)
    return text
