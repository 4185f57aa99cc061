"""A bot that answers over HTTP, with OpenAI's client: the same code talks to any server of that kind.

    minimind serve runs/expert/faq --port 8000          (in another terminal)
    python examples/faq_bot.py --url http://127.0.0.1:8000/v1 "When does the library open?"

Needs: pip install openai
"""

import argparse

from openai import OpenAI

parser = argparse.ArgumentParser(description="Ask a served model.")
parser.add_argument("questions", nargs="+")
parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
options = parser.parse_args()

client = OpenAI(base_url=options.url, api_key="none")
model = client.models.list().data[0].id

for question in options.questions:
    print(f"{question}\n  ", end="")
    messages = [{"role": "user", "content": question}]
    stream = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=200, stream=True
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
