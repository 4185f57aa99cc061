"""Write a domain of law from a file of Chinese conversations: a folder of texts and a FAQ, for `minimind adapt`.

    python -m benchmarks.law_domain sft_zh.jsonl.zst law

A conversation is about law when its one question and answer hold at least four words of law. Short ones become a
FAQ, a table; others become texts, Markdown and every fourth a web page.
"""

import argparse
import csv
import re
from html import escape
from pathlib import Path

from minimind.data.sources.documents import Document, read_documents

WORDS = re.compile("法律|律师|合同|起诉|判刑|离婚|赔偿|刑法|民法|法院|债务|抚养|劳动仲裁|违约|诉讼")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--texts", type=int, default=40)
parser.add_argument("--questions", type=int, default=120)
parser.add_argument("--longest", type=int, default=160, help="characters of a question with its answer in the FAQ")
options = parser.parse_args()

pairs = []
for item in read_documents(options.source):
    if isinstance(item, Document) and [m["role"] for m in item.messages] == ["user", "assistant"]:
        question, answer = (message["content"] for message in item.messages)
        if len(WORDS.findall(question + answer)) >= 4:
            pairs.append((question, answer))
short = [pair for pair in pairs if len("".join(pair)) <= options.longest][: options.questions]
long = [pair for pair in pairs if pair not in short][: options.texts]

folder = options.out / "texts"
folder.mkdir(parents=True, exist_ok=True)
for number, (question, answer) in enumerate(long):
    if number % 4 == 3:
        page = f'<meta charset="utf-8"><nav>menu</nav><h1>{escape(question)}</h1><p>{escape(answer)}</p>'
        (folder / f"{number:03}.html").write_text(page, encoding="utf-8")
    else:
        (folder / f"{number:03}.md").write_text(f"# {question}\n\n{answer}\n", encoding="utf-8")
with (options.out / "faq.csv").open("w", encoding="utf-8", newline="") as file:
    csv.writer(file).writerows([("question", "answer"), *short])
print(f"{len(pairs):,} conversations about law; {len(long)} texts, {len(short)} questions in {options.out}")
