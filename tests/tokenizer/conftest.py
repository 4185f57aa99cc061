import random

import pytest

from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import train

WORDS = ["the", "cat", "sees", "世界", "你好", "and", "a", "red", "house", "今天", "天气", "很好", "it's"]
WORDS += ["user", "assistant", "system", "think", "2026", "name", "{}", "\n", "\n\n\n"]


def generated_texts(count: int = 300, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(count)]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return generated_texts()


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train(texts, 380)
