"""How each relation is said and asked in English. Braces name columns of the relation's rows (see facts.py).

noun        the thing asked for, to stand in the FRAMES
statements  the first is the one answer the model is taught; the others only stand in texts
asked       questions for training, besides the frames
held_out    questions for evaluation only, besides the held-out frames
"""

from minimind.world.tables import listed

FRAMES = listed("""
    What is {noun}?; Tell me {noun}.; Do you know {noun}?; Name {noun}.; I want to know {noun}.
    Please give me {noun}.; What's {noun}?; Could you say {noun}?; I have a question: what is {noun}?; {noun}?
""")
HELD_OUT_FRAMES = listed("""
    Can you tell me {noun}?; I would like to know what {noun} is.; Let me know {noun}, please.
    I forgot {noun}. What is it?
""")

WORDING = {
    "capital": {
        "noun": "the capital of {s}",
        "statements": ("The capital of {s} is {v}.", "{v} is the capital of {s}.", "{s} has {v} as its capital."),
        "asked": ("Which city is the capital of {s}?", "What is the capital city of {s}?"),
        "held_out": ("Which capital does {s} have?",),
    },
    "country": {
        "noun": "the country whose capital is {s}",
        "statements": ("{s} is the capital of {v}.", "The country whose capital is {s} is {v}."),
        "asked": ("{s} is the capital of which country?", "Which country has {s} as its capital?"),
        "held_out": ("Of which country is {s} the capital?",),
    },
    "continent": {
        "noun": "the continent of {s}",
        "statements": ("{s} is in {v}.", "{s} lies in {v}.", "The continent of {s} is {v}."),
        "asked": ("On which continent is {s}?", "Which continent is {s} in?"),
        "held_out": ("To which continent does {s} belong?",),
    },
    "symbol": {
        "noun": "the chemical symbol of {s}",
        "statements": (
            "The symbol of {s} is {v}.",
            "{v} is the chemical symbol of {s}.",
            "Chemists write {s} as {v}.",
        ),
        "asked": ("How do chemists write {s}?", "Which symbol stands for {s}?"),
        "held_out": ("What symbol does {s} have?",),
    },
    "number": {
        "noun": "the atomic number of {s}",
        "statements": (
            "The atomic number of {s} is {v}.",
            "{s} has the atomic number {v}.",
            "{s} is element number {v}.",
        ),
        "asked": ("Which number does {s} have among the elements?", "{s} is element number what?"),
        "held_out": ("Which atomic number does {s} have?",),
    },
    "class": {
        "noun": "the animal class of {a}",
        "statements": ("{a} is {va}.", "The class of {a} is {v}."),
        "asked": ("What kind of animal is {a}?", "Which class of animals does {a} belong to?"),
        "held_out": ("What class is {a} in?",),
    },
    "legs": {
        "noun": "the number of legs of {a}",
        "statements": ("{a} has {v} legs.", "The number of legs of {a} is {v}."),
        "asked": ("How many legs does {a} have?", "How many legs has {a}?"),
        "held_out": ("{a} has how many legs?",),
    },
    "sound": {
        "noun": "the sound of {a}",
        "statements": ("The sound of {a} is {v}.", "{a} makes the sound {v}.", '"{v}" is what {a} says.'),
        "asked": ("What sound does {a} make?", "What does {a} say?"),
        "held_out": ("Which sound comes from {a}?",),
    },
    "young": {
        "noun": "the name for the young of {a}",
        "statements": ("The young of {a} is called {va}.", "{va} is the young of {a}.", "A young {s} is {va}."),
        "asked": ("What do you call the young of {a}?", "What is the young of {a} called?"),
        "held_out": ("How is the young of {a} called?",),
    },
    "colour": {
        "noun": "the colour of {s}",
        "statements": ("The colour of {s} is {v}.", "{s} has the colour {v}.", "{s} is {v}."),
        "asked": ("What colour is {s}?", "Which colour does {s} have?"),
        "held_out": ("What colour does {s} have?",),
    },
    "opposite": {
        "noun": 'the opposite of "{s}"',
        "statements": (
            'The opposite of "{s}" is "{v}".',
            '"{v}" is the opposite of "{s}".',
            "{s} and {v} are opposites.",
        ),
        "asked": ('Which word is the opposite of "{s}"?', 'Which word means the opposite of "{s}"?'),
        "held_out": ('Which is the opposite word of "{s}"?',),
    },
    "unit": {
        "noun": "the number of {part} in {whole}",
        "statements": ("There are {v} {part} in {whole}.", "{whole} has {v} {part}."),
        "asked": ("How many {part} are there in {whole}?", "How many {part} does {whole} have?"),
        "held_out": ("{whole} has how many {part}?",),
    },
    "days": {
        "noun": "the number of days in {s}",
        "statements": ("{s} has {v} days.", "There are {v} days in {s}."),
        "asked": ("How many days does {s} have?", "How many days are there in {s}?"),
        "held_out": ("{s} has how many days?",),
    },
    "next month": {
        "noun": "the month after {s}",
        "statements": ("The month after {s} is {v}.", "{v} comes after {s}."),
        "asked": ("Which month comes after {s}?", "Which month follows {s}?"),
        "held_out": ("After {s}, which month comes?",),
    },
    "next day": {
        "noun": "the day after {s}",
        "statements": ("The day after {s} is {v}.", "{v} comes after {s}."),
        "asked": ("Which day comes after {s}?", "Which day follows {s}?"),
        "held_out": ("After {s}, which day comes?",),
    },
    "day before": {
        "noun": "the day before {s}",
        "statements": ("The day before {s} is {v}.", "{v} comes before {s}."),
        "asked": ("Which day comes before {s}?", "Which day is just before {s}?"),
        "held_out": ("Before {s}, which day comes?",),
    },
    "tool": {
        "noun": "the thing people use to {s}",
        "statements": ("To {s}, people use {v}.", "People {s} with {v}."),
        "asked": ("What do people use to {s}?", "What do I need to {s}?"),
        "held_out": ("With what do people {s}?",),
    },
    "worker": {
        "noun": "the job of the people who {s}",
        "statements": ("People who {s} have the job of {v}.", "The job of people who {s} is {v}."),
        "asked": ("What job do people who {s} have?", "Who has the job to {s}?"),
        "held_out": ("Which job is it to {s}?",),
    },
}
