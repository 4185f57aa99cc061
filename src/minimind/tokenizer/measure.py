"""How well a vocabulary fits a language: UTF-8 bytes per token, the higher the fewer tokens a text takes."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from minimind.tokenizer.tokenizer import Tokenizer, well_formed
from minimind.tokenizer.windows import WINDOW

SAMPLES = [
    "今天的天气很好，我们一起去公园散步吧。",
    "人工智能正在改变人们学习和工作的方式。",
    "这本书有三百二十页，我用了两个星期才读完。",
    "请把下面的句子翻译成英文，并解释每个词的意思。",
    "水在一百摄氏度时沸腾，在零摄氏度时结冰。",
    "他说：“只要坚持下去，就一定能看到结果。”",
    "The weather is fine today, so let us go for a walk in the park.",
    "Artificial intelligence is changing the way people learn and work.",
    "This book has 320 pages, and it took me two weeks to read it.",
    "Please translate the following sentence and explain every word in it.",
    "Water boils at 100 degrees Celsius and freezes at 0.",
    '"If you keep going," she said, "you will see results in the end."',
]

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_LATIN = re.compile(r"[A-Za-z]")


def language(text: str) -> str:
    """ "zh" or "en", by script; a Chinese character says about as much as four letters."""
    return "zh" if 4 * len(_HAN.findall(text)) > len(_LATIN.findall(text)) else "en"


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str] = SAMPLES) -> dict[str, float]:
    """UTF-8 bytes per token for each language that occurs in `texts`, and of all of them ("all")."""
    sizes: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    texts = iter(texts)
    while batch := list(islice(texts, 1000)):
        short = iter(tokenizer.encode_batch([text for text in batch if len(text) <= WINDOW]))
        for text in batch:
            long = len(text) > WINDOW
            count = sum(len(window.ids) for window in tokenizer.windows(text)) if long else len(next(short))
            for name in (language(text), "all"):
                sizes[name] += len(well_formed(text).encode())
                tokens[name] += count
    return {name: sizes[name] / tokens[name] for name in ("zh", "en", "all") if tokens[name]}
