"""A grammar of short English stories: a plot is a row of beats, a beat is a choice of sentences.

Slots: hero, friend (names), he / him / his (the hero's), animal, place, thing, food, colour, weather, time.
"""

from minimind.world.tables import listed

SLOTS = {
    "place": listed("""
        in the forest; by the river; in the park; on the beach; in the garden; at the market
        near the old bridge; on the farm; in the village; by the lake; behind the school; in the library
        on the hill; at the station
    """),
    "thing": listed("""
        ball; kite; book; key; hat; lamp; toy boat; basket; raincoat; map; clock; drum; box; scarf; cup
        small bell; pencil; blanket
    """),
    "food": listed("""
        bread; an apple; a cake; soup; some cherries; rice; honey; a pear; noodles; cheese; a cookie
        a peach
    """),
    "animal": listed("""
        cat; dog; fox; rabbit; bird; duck; frog; mouse; bear; horse; turtle; monkey; sheep; deer; wolf; goat
    """),
    "colour": listed("red; blue; green; yellow; white; black; brown; grey; pink; purple"),
    "weather": listed("""
        It was sunny.; It was raining.; The wind was strong.; Snow was falling.; The sky was grey.
        It was warm.
    """),
    "time": listed("""
        One morning; One evening; One day; On Sunday; In spring; In summer; Last winter; After school
        On a cold day; Before lunch
    """),
}

PLOTS = {
    "lost thing": (
        (
            "{time}, {hero} could not find {his} {thing}.",
            "{time}, {hero} lost a {thing} {place}.",
            "{hero} had a {colour} {thing}. {time}, it was gone.",
        ),
        ("{weather}", "{hero} was sad.", "{hero} looked under the bed and behind the door.", "Nobody had seen it."),
        (
            '"Can you help me?" {hero} asked {friend}.',
            "{friend} came and helped to look.",
            "{friend} saw that {hero} was sad and asked why.",
        ),
        (
            "They looked everywhere {place}.",
            "Together they went to look {place}.",
            "A little {animal} was sitting {place}.",
        ),
        (
            "At last they found the {thing} under a tree.",
            "There it was: a {animal} was sleeping on the {thing}!",
            "{friend} saw something {colour} in the grass. It was the {thing}.",
        ),
        ("{hero} was very happy.", '"Thank you!" said {hero}.', "From then on {hero} took good care of it."),
    ),
    "hungry animal": (
        (
            "{time}, {hero} met a hungry {animal} {place}.",
            "A small {colour} {animal} was sitting {place}. {hero} saw it.",
            "{hero} heard a sound {place}. It was a {animal}.",
        ),
        ("{weather}", "The {animal} was thin and tired.", "The {animal} had not eaten all day."),
        (
            "{hero} had {food} and gave half of it to the {animal}.",
            '"Do you want {food}?" asked {hero}.',
            "{hero} ran home and came back with {food}.",
        ),
        ("The {animal} ate and ate.", "The {animal} was happy and jumped.", "Then the {animal} was full."),
        (
            "The next day the {animal} came back and brought a {thing}.",
            "After that, the {animal} followed {hero} everywhere.",
            '{friend} saw it and said: "You have a good heart."',
        ),
        ("They became good friends.", "Since that day {hero} is never alone.", "A kind deed is never lost."),
    ),
    "learning": (
        listed("""
            {hero} wanted to learn to swim.; {hero} wanted to play the piano.; {hero} could not ride a bicycle.
            {hero} wanted to draw a {animal}.
        """),
        ("The first try went wrong.", "It was hard.", "{hero} fell and was sad.", '"I cannot do it," said {hero}.'),
        (
            '"Try again," said {friend}. "I will help you."',
            '{friend} said: "Nobody can do it on the first day."',
            "{friend} showed {him} how to do it.",
        ),
        (
            "So {hero} tried again every day.",
            "{hero} worked hard for a week.",
            "They met {place} every evening and tried again.",
        ),
        ("Then, all at once, it worked!", "And one day it worked.", "At the end of the month {hero} could do it."),
        ("{hero} laughed.", "{hero} was proud.", "Who tries again learns in the end."),
    ),
    "gift": (
        (
            "It was the birthday of {friend}. {hero} wanted to give {friend} a gift.",
            "{time}, {hero} thought about a gift for {friend}.",
        ),
        (
            "But {hero} had no money.",
            "{hero} looked at everything at the market, but nothing was right.",
            "A {thing} was too dear.",
        ),
        (
            "So {hero} made a {thing} out of paper.",
            "So {hero} painted a {colour} {animal}.",
            "So {hero} packed {food} in {colour} paper.",
        ),
        ("{weather}", "{hero} put it in a {colour} box.", "Then {hero} walked to the house of {friend}."),
        (
            '"This is the best gift of all," said {friend}.',
            "{friend} opened it and laughed for joy.",
            "{friend} was so happy that nobody spoke for a while.",
        ),
        ("They ate {food} together.", "A gift from the heart is the best.", "It was a wonderful day."),
    ),
    "storm": (
        ("{time}, {hero} and {friend} were playing {place}.", "{hero} and {friend} went for a walk {place}."),
        ("Suddenly it began to rain.", "Then a storm came up.", "Black clouds covered the sky."),
        (
            "A {animal} ran to them. It was afraid.",
            "{friend} was afraid of the thunder.",
            "They had no umbrella and got wet.",
        ),
        (
            '"Come, we will hide under the bridge," said {hero}.',
            "{hero} found an old house and they went inside.",
            "{hero} held the hand of {friend}.",
        ),
        ("They waited and told stories.", "They sang a song until the rain stopped.", "They shared {food}."),
        (
            "Then the sun came out, and they saw a rainbow.",
            "Soon the sky was blue again.",
            "In the evening they were home.",
        ),
    ),
    "honest": (
        (
            "{time}, {hero} found a {thing} {place}.",
            "There was a {colour} {thing} lying {place}. {hero} picked it up.",
        ),
        ("It was beautiful.", "{hero} wanted to keep it.", "Nobody was there.", "{weather}"),
        (
            '"Whose is it?" thought {hero}.',
            "But {hero} thought: somebody is looking for it.",
            "Then {hero} saw {friend}, who was crying.",
        ),
        (
            '"Is this your {thing}?" asked {hero}.',
            "{hero} gave the {thing} back to {friend}.",
            "{hero} went from door to door and asked.",
        ),
        ("It was the {thing} of {friend}.", '"Yes, it is mine!" said {friend}. "Thank you!"'),
        ("{friend} gave {hero} {food}.", "{hero} felt light and glad.", "Being honest makes two people happy."),
    ),
    "animals": (
        (
            "A {animal} and a turtle lived {place}.",
            "Long ago, a {colour} {animal} lived {place}.",
            "There was once a {animal} who was very proud.",
        ),
        (
            '"I am the fastest of all," said the {animal}.',
            "The {animal} always wanted to be first.",
            "The {animal} laughed at everyone who was slow.",
        ),
        (
            "One day the {animal} fell into a hole.",
            "{time}, the {animal} got lost in the forest.",
            "{time}, the {animal} could not find any food.",
        ),
        ("Nobody heard it.", "It called for help.", "{weather}", "The night was long and cold."),
        (
            "At last a slow turtle came and helped.",
            "A small mouse showed it the way.",
            "An old bird brought {food}.",
        ),
        (
            "From that day on, the {animal} laughed at nobody.",
            '"Thank you, my friend," said the {animal}.',
            "The {animal} learned that small ones can be great helpers.",
        ),
    ),
}
