"""What the dialogues are about: scenes with their endings and summaries.

``A:`` and ``B:`` speak, a line with ``~`` may be left out; ``? `` starts an ending, ``> `` is a summary of it.
"""

SCENES_TEXT = """
# meeting
~A: Hey {B}, [how's it going?|what's up?|long time no see!]
~B: [All good, you?|Not bad, just tired|Busy as always 😅]
A: Do you want to [go to|check out] {place} {when}?
? yes
B: [Sounds great!|Sure, why not|I'd love to]
A: [Shall we meet|Let's meet] at {time}?
B: [Perfect|Works for me|Ok], see you there
> {A} and {B} [will meet at|are going to] {place} {when} at {time}.
> {B} agrees to go to {place} with {A} {when}. They meet at {time}.
? no
B: I can't, I have to {chore} :(
A: [What a pity|Oh no], what about {when2}?
B: {when2} is [fine|perfect]
A: [Great|Cool], I'll pick you up
> {B} has to {chore} {when}, so {A} and {B} will go to {place} {when2}.
> {A} will pick {B} up {when2} and they will go to {place}.

# borrow
A: {B}, [can I borrow|could you lend me|may I have] your {thing} [for a day|]?
B: [What for?|Sure, what do you need it for?]
A: I need it for {event} {when}
? yes
B: ok, but [bring it back|I need it back] {when2}
A: [Of course, thank you!|Promise! You're the best]
> {B} will lend {A} {B_his} {thing} for {event}. {A} has to return it {when2}.
> {A} borrows {B}'s {thing} for {event} and will give it back {when2}.
? no
B: Sorry, it's [broken|at the repair shop]
B: But {C} has [one too|a nice one], ask {C_him}
A: [Good idea|Thanks], I'll text {C_him}
> {B}'s {thing} is broken, so {A} will ask {C} for one.
> {A} needs a {thing} for {event}. {B} can't help but tells {A_him} to ask {C}.

# late
A: where are you?? [we're all waiting|it's already {time}]
B: [Sorry sorry|I know I know], I'm stuck [in traffic|on the train]
A: how long will it take you?
? soon
B: [about|like] {minutes} minutes
A: [Fine|Ok], we'll [order|start] without you
B: [Order me a|Get me a] {drink} please
> {B} will be {minutes} minutes late. {A} will start without {B_him} and order {B_him} a {drink}.
> {B} is stuck and will come in {minutes} minutes. {B_he_cap} wants a {drink}.
? never
B: [No idea, nothing is moving|they say at least two hours]
A: Then [go home|don't come], we can do it {when2}
B: [Are you sure?|You're not angry?]
A: No worries!
> {B} is stuck, so {A} tells {B_him} to go home. They will meet {when2}.
> {B} can't make it and the meeting is moved to {when2}.

# lost
A: [OMG|Ugh], I can't find my {small}!
B: [When did you last see it?|Where did you last have it?]
A: I think [I had it|I used it] at {place}
? found
B: [Wait|Hang on], {C} found something there {when3}
A: [Really??|Please tell me it's mine]
B: it's {colour}, right?
A: Yes! [Thank god|I'm so relieved]
> {A} lost {A_his} {colour} {small}, but {C} found it at {place}.
> {C} has found {A}'s {small} at {place}.
? lost
B: [Did you call them?|Have you asked the staff?]
A: yes, nobody has seen it [:(|😭]
B: [I'll help you look {when}|We can look together {when}]
A: [Thanks|You're a star]
> {A} lost {A_his} {small} at {place}. {B} will help {A_him} look for it {when}.
> {B} and {A} will look for {A}'s {small} {when}.

# exam
A: [Did you study|Have you prepared] for the {subject} exam?
B: [Not really|A little], [I don't get chapter {num}|chapter {num} is impossible]
? together
A: [Come over|Come to mine] {when} and we'll do it together
B: [You're a lifesaver!|Thank youuu] I'll bring {food}
> {B} doesn't understand chapter {num}, so {A} will study {subject} with {B_him} {when}. {B} will bring {food}.
> {A} and {B} will study for the {subject} exam {when}.
? tutor
A: me neither, but {C} is [really good|great] at {subject}
B: [does {C_he} charge?|is it expensive?]
A: Only {num} euros an hour
B: ok, [send me {C_his} number|I'll write to {C_him}]
> {A} recommends {C} to {B} as a {subject} tutor. {C} charges {num} euros an hour.
> {B} needs help with {subject} and will contact {C}.

# present
A: What [are we getting|should we get] {C} for {C_his} [birthday|graduation]?
B: [How about|Maybe] a {thing}?
? agree
A: [Love it|Great idea]! How much is it?
B: around {num} euros [each|per person]
A: ok, I'll [order it|buy it] {when}
> {A} and {B} will buy {C} a {thing}. It costs about {num} euros each.
> {A} will order a {thing} as a present for {C} {when}.
? already
A: {C_he_cap} already has one [lol|haha]
B: Hmm. Then tickets for {event}?
A: [Better|Yes!], {C_he} [will love it|loves that]
> {A} and {B} decide to buy {C} tickets for {event}, as {C_he} already has a {thing}.
> {C} has a {thing} already, so {A} and {B} will give {C_him} tickets for {event}.

# pet
A: We're going to {city} {when}. [Could you|Can you] look after our {pet}?
B: [Sure|Hm, how long?|I love your {pet}!]
A: It's only for {num2} days
? yes
B: No problem, [just leave me the key|bring the food to my place]
A: [You're an angel|Thank you so much]. I'll bring you {food} from {city}!
> {B} will take care of {A}'s {pet} for {num2} days while {A} is in {city}.
> {A} is going to {city} {when} and {B} will look after the {pet}. {A} will bring {B} {food}.
? allergic
B: I would, but I'm allergic [😢|to animals], remember?
A: oh right, [sorry|I forgot]
B: My neighbour {C} [does it sometimes|likes animals]. I'll ask {C_him}
> {B} is allergic and can't look after {A}'s {pet}. {B_he_cap} will ask {C}.
> {A} is looking for someone to care for {A_his} {pet}. {B} will ask {B_his} neighbour {C}.

# noise
A: Hi {B}, [this is {A} from upstairs|it's {A} from flat {num}]
B: [Hi!|Oh hi,] is something wrong?
A: The music is [a bit|really] loud and my [son|baby|daughter] can't sleep
? quiet
B: [I'm so sorry|Sorry, I didn't notice]! I'll turn it down
A: [Thanks|Thank you], good night
> {A}'s child can't sleep because of {B}'s music. {B} will turn it down.
> {B} apologises to {A} for the loud music and will turn it down.
? elsewhere
B: It isn't me, [it's {C} from next door|I think it's {C}]
A: Oh, [my mistake|sorry]. Do you have {C_his} number?
B: No, but [just knock|{C_he} is at home now]
> {A} complains about loud music, but it is {C} who plays it, not {B}.
> {A} thought that {B} was playing loud music. {B} says that it is {C}.

# sick
A: I [won't|can't] come {when}, I've got [a fever|the flu|a terrible cold]
B: [Oh no|Poor you]! [Do you need anything?|Can I help?]
? bring
A: [Some|Maybe some] {food} and tissues would be nice
B: I'll be there at {time}
A: [Just leave it at the door|Don't come too close haha]
> {A} is ill. {B} will bring {A_him} {food} and tissues at {time}.
> {A} can't come {when} because {A_he} is ill. {B} will bring {A_him} {food}.
? rest
A: No, {C} is [taking care of me|with me]
B: ok, [rest|get well soon]! I'll tell the others
> {A} is ill and won't come {when}. {C} is taking care of {A_him}.
> {B} will tell the others that {A} is ill.

# job
A: [So?|Well?] How was the interview at the {workplace}?
? got
B: I got it!!! [🎉|:D]
A: [Congratulations!|Wow, amazing!] When do you start?
B: {when2}, [I'm so nervous|can't wait]
A: we have to celebrate {when}
> {B} got the job at the {workplace} and starts {when2}. {A} wants to celebrate.
> {B} starts working at the {workplace} {when2}.
? failed
B: [Terrible|Awful], I was {minutes} minutes late and [forgot everything|spilled {drink} on my CV]
A: [Oh dear|No way]... what did they say?
B: that they [will call|would let me know] {when2}
> {B}'s interview at the {workplace} went badly because {B_he} was late. They will let {B_him} know {when2}.
> {B} was {minutes} minutes late for {B_his} interview at the {workplace}.

# recipe
A: [How do you make|What do you put in] your {dish}?
B: [It's easy|Family secret ;)]
B: {ingredient}, {ingredient2} and [lots of|a bit of] {ingredient3}
? has
A: and how long in the oven?
B: {minutes} minutes
A: [Great|Thanks], I'll make it for {C} {when}
> {B} tells {A} how to make {dish}. {A} will cook it for {C} {when}.
> {A} will make {B}'s {dish} for {C}. It needs {minutes} minutes in the oven.
? lacks
A: I don't have any {ingredient2}. [Can I leave it out?|Does it matter?]
B: [No way|Never]! I have some, come and get it
A: ok, [coming|be there in {minutes}]
> {A} wants to make {dish} but has no {ingredient2}. {B} will give {A_him} some.
> {B} will give {A} {ingredient2} for {dish}.

# airport
A: My [plane|flight] lands at {time} {when}. [Can you pick me up?|Any chance of a lift?]
? yes
B: [Of course|Sure thing]. Which terminal?
A: Terminal {num2}
B: I'll wait [at the exit|by the cafe]. [Big suitcase?|How many bags?]
A: [just a backpack|two, sorry!]
> {B} will pick {A} up from the airport at {time} {when}.
> {A} lands at {time} {when} at terminal {num2}. {B} will fetch {A_him}.
? bus
B: I'm working until late [:/|that day]
A: [ok no problem|Never mind]
B: There's a bus every {minutes} minutes, or ask {C}
A: I'll take the bus
> {B} can't pick {A} up from the airport because {B_he} works. {A} will take the bus.
> {A} arrives {when} at {time} and will take the bus, since {B} has to work.

# series
A: I'm [so bored|bored to death]. What should I watch?
B: Have you seen {film}?
? new
A: no, [is it good?|what is it about?]
B: [It's about|It's the story of] {plot}. {C} and I watched it twice!
A: ok, I'll watch it [tonight|{when}]
> {B} recommends {film} to {A}. It is about {plot}.
> {A} is bored and will watch {film}, which {B} recommended.
? seen
A: [Twice!|Yes, hated it]
B: Haha. Then [try a book|go for a walk] :P
A: [very funny|thanks for nothing]
> {A} is bored. {A_he_cap} has already seen {film}, so {B} can't help {A_him}.
> {A} has seen {film} already and {B} jokes about {A_his} boredom.

# moving
A: I'm moving to {city} {when2}, [can you help with the boxes?|I need strong arms 💪]
? yes
B: [Count me in|I'm in]! Do you have a van?
A: {C} [has one|lends me {C_his}]
B: And what do I get?
A: {food} and {drink} for everyone!
> {B} will help {A} move to {city} {when2}. They will use {C}'s van.
> {A} is moving to {city} {when2}. {B} will help and {C} lends {A_him} a van.
? back
B: my back [hurts|is killing me], the doctor says no lifting
A: [Oh|I see]. You could [watch the kids|make the sandwiches]
B: That I can do :)
> {B} can't lift boxes because of {B_his} back, but {B_he} will help {A} in another way.
> {A} is moving to {city}. {B} has a bad back, so {B_he} won't carry boxes.

# tickets
A: Tickets for {event} are [out|on sale]!! {num} euros
B: [wow|omg], [that's a lot|that's expensive]
? buy
A: [Come on|Please], it's once in a lifetime
B: [Fine|Ok ok], get me one. I'll pay you back {when}
A: [Yay|Done]! Row {num2}
> {A} bought {B} a ticket for {event}. {B} will pay {A_him} back {when}.
> {A} and {B} are going to {event}. A ticket costs {num} euros.
? skip
B: I have to save for [the rent|a new {thing}]
A: then I'll go with {C}
B: [Have fun|Send me videos]!
> {B} finds the tickets for {event} too expensive. {A} will go with {C}.
> {A} will go to {event} with {C}, because {B} is saving money.

# device
A: My {device} [won't start|is dead|makes a strange noise]
B: Did you try [turning it off and on|a different cable]?
A: [Of course I did|Yes, {num2} times]
? repair
B: bring it to me {when}, I'll [have a look|open it up]
A: [Thank you!|You're my hero]
> {A}'s {device} is not working. {B} will have a look at it {when}.
> {B} will try to repair {A}'s {device} {when}.
? new
B: How old is it?
A: {num2} years
B: [Then|I guess] it's time for a new one. {C} works in a shop and gets discounts
A: [good to know|I'll call {C_him}]
> {A}'s {device} is broken. {B} advises {A_him} to get a new one through {C}.
> {A} needs a new {device} and can get a discount from {C}.

# doctor
A: [Did you see|Have you been to] the {specialist}?
? fine
B: yes, {when3}. Everything is [fine|ok]
A: [Phew|I'm so glad]
B: I only have to [take pills|do exercises] for {num2} weeks
> {B} saw the {specialist} {when3} and everything is fine. The treatment takes {num2} weeks.
> {A} is glad that {B}'s visit to the {specialist} went well.
? afraid
B: no, I [cancelled|didn't go]... I'm scared
A: {B}! You [promised|have to go]. I'll come with you
B: [Really?|Would you?] ok, {when} at {time} then
> {B} is afraid of the {specialist}, so {A} will go with {B_him} {when}.
> {B} cancelled {B_his} visit to the {specialist}. {B_he_cap} will go {when} at {time} with {A}.

# groceries
A: I'm at the [shop|supermarket]. [Do we need anything?|What should I get?]
B: {ingredient}, {ingredient2} and {food}
? all
A: [Got it|ok]. Anything else?
B: [A {drink} for me|Surprise me] ;)
> {A} is shopping and will buy {ingredient}, {ingredient2} and {food}.
> {B} asks {A} to buy {ingredient}, {ingredient2} and {food}.
? out
A: There's no {ingredient2} left
B: [Really?|Again?] Then get {ingredient3}
A: And the queue is endless, I'll be home at {time}
> {A} will buy {ingredient3} because there is no {ingredient2}. {A_he_cap} will be home at {time}.
> The shop has no {ingredient2}, so {B} asks {A} for {ingredient3}.

# gossip
A: [Guess who|You won't believe who] I saw at {place} {when3}!
B: [Tell me!|Who??]
A: {C} with [your cousin|our boss|the new guy from work]
? dating
B: I know, they've been together for {num2} months
A: [What?? And you didn't tell me|Why do I never know anything]
B: it was a secret [🤫|haha]
> {A} saw {C} with someone at {place}. {B} knew that they have been together for {num2} months.
> {B} tells {A} that {C} has been in a relationship for {num2} months.
? work
B: They're just [working on a project|preparing {event}] together
A: [Boring!|Oh, I see|And I thought...]
> {A} saw {C} at {place} with someone. {B} says that they only work together.
> {B} explains to {A} that {C} and the other person are just colleagues.

# gym
A: [Are you coming|Coming] to {sport} {when}?
? yes
B: yes, [but I have no shoes|if someone gives me a lift]
A: I have [a spare pair|room in the car], I'll be at yours at {time}
B: [Super|Thanks]
> {A} and {B} are going to {sport} {when}. {A} will be at {B}'s place at {time}.
> {A} will help {B} so that {B_he} can come to {sport} {when}.
? quit
B: I [quit|cancelled my membership] :(
A: [Why?|What happened?]
B: No time since I started [my course|working] at the {workplace}
A: [Pity|We'll miss you]
> {B} gave up {sport} because {B_he} has no time since {B_he} started at the {workplace}.
> {B} won't come to {sport} anymore as {B_he} is too busy.

# holiday
A: I'm planning [the summer|our holidays]. {city} or {city2}?
? first
B: [{city}|Definitely {city}]! The [food|beach] is amazing
A: {C} says it rains all the time
B: {C} [complains about everything|has never been there] [lol|xd]
A: ok, I'll book {city}
> {B} recommends {city} for the holidays and {A} will book it.
> {A} will go to {city} on {B}'s advice, although {C} says it is rainy.
? second
B: {city2}, [it's cheaper|we have friends there]
A: [True|Good point], the flight is only {num} euros
B: Book it {when}!
> {A} and {B} choose {city2} for the holidays. The flight costs {num} euros.
> {A} will book a trip to {city2}.

# party
A: [Party at my place|Housewarming] {when}! [You in?|Are you coming?]
? brings
B: [Yesss|Of course]! What can I bring?
A: {food} would be great, {C} [makes|brings] the {dish}
B: ok! when does it start?
A: At {time}
> {A} is having a party {when} at {time}. {B} will bring {food} and {C} {dish}.
> {B} will come to {A}'s party {when} and bring {food}.
? babysit
B: I have no babysitter [:(|for the kids]
A: Bring them, [{C}'s kids will be there too|we have a garden]
B: [Really? Then yes!|Great, thank you!]
> {B} will come to {A}'s party {when} with {B_his} kids.
> {B} has no babysitter, so {A} tells {B_him} to bring the kids to the party {when}.

# notes
A: I [missed|slept through] {subject} {when3}. [Did you take notes?|Can I have your notes?]
? send
B: [Sure|Yup], <file_photo>
B: <file_photo>
A: [You're the best|Thanks a lot]! Any homework?
B: chapter {num}, for {when2}
> {A} missed {subject}. {B} sends {A_him} {B_his} notes and says that chapter {num} is due {when2}.
> {B} shares {B_his} {subject} notes with {A}.
? absent
B: I wasn't there [either|myself], I had to {chore}
A: [lol|oh no]
B: {C} [writes everything down|always has them]
A: ok, I'll ask {C_him}
> {A} and {B} both missed {subject}. {A} will ask {C} for notes.
> {B} has no {subject} notes because {B_he} had to {chore}.

# lift
A: [How are you getting to|Are you driving to] {event} {when}?
? drive
B: by car, I have [two seats|one seat] left
A: [May I come along?|Take me with you!]
B: [Sure|Ok], be ready at {time}. {C} is coming too
> {B} will drive {A} and {C} to {event} {when}. They leave at {time}.
> {A} gets a lift to {event} with {B} and {C}.
? train
B: by train, my car is [broken|in the garage] again
A: [Let's go together|Me too] then. The {time} one?
B: yes, meet you on platform {num2}
> {A} and {B} will take the {time} train to {event} {when}.
> {B}'s car is broken, so {B_he} and {A} are going to {event} by train.
"""
