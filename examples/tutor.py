"""A tutor that answers students' questions, one line each, and remembers the lesson so far.

    python examples/tutor.py runs/quickstart/chat
    echo "How many legs does a spider have?" | python examples/tutor.py runs/quickstart/chat --temperature 0

What a small model says must be checked: it answers with the same confidence what it knows and what it does not.
"""

import argparse
import sys

from minimind import Model

parser = argparse.ArgumentParser(description="A tutor that answers students' questions.")
parser.add_argument("model", help="a model or run directory")
parser.add_argument("--role", default="", help="a system message, for models that were trained with some")
parser.add_argument("--temperature", type=float, default=0.3)
parser.add_argument("--remember", type=int, default=4, help="earlier questions that the tutor sees (default: 4)")
options = parser.parse_args()

tutor = Model.load(options.model)
system = [{"role": "system", "content": options.role}] if options.role else []
lesson = []

for line in sys.stdin:
    if not (question := line.strip()):
        continue
    lesson.append({"role": "user", "content": question})
    seen = [*system, *lesson[-2 * options.remember - 1 :]]
    answer = tutor.chat(seen, temperature=options.temperature, max_tokens=200)
    lesson.append(answer)
    print(f"{question}\n  {answer['content']}\n")
