import pytest

from minimind.tokenizer.train import train

SENTENCES = [
    "The quick brown fox jumps over the lazy dog. ",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "x = f(1, 2)\n",
]


@pytest.fixture(scope="session")
def tokenizer():
    """A small real tokenizer."""
    return train(SENTENCES * 20, vocab_size=400)
