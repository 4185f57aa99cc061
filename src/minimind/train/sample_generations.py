"""What the model says while it learns: `samples.jsonl`, the same held-out prompts at every evaluation."""

from __future__ import annotations

from itertools import islice

import numpy as np

from minimind.data.batches.documents import Documents
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.tokenizer import Tokenizer
from minimind.train.metrics import JsonLines

PROMPT_TOKENS = 16  # of a text; a conversation is asked up to its first answer
ANSWER_TOKENS = 64


class SampleGenerations:
    """Greedy continuations of the first `count` held-out documents whose prompt has at most `longest` tokens."""

    def __init__(
        self, tokenizer: Tokenizer, data: Documents, held_out: np.ndarray, count: int, longest: int
    ) -> None:
        self.tokenizer = tokenizer
        prompts = (_prompt(data, int(document)) for document in held_out)
        self.prompts = list(islice((prompt for prompt in prompts if len(prompt) <= longest), count))

    def write(self, model: Transformer, step: int, file: JsonLines) -> None:
        """Append one line per prompt. The model's training state, compiled code included, is not touched."""
        if not self.prompts:
            return
        params = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS, stop_ids=self.tokenizer.stop_ids)
        answers = Engine(model).generate(self.prompts, params)
        for prompt, answer in zip(self.prompts, answers):
            said = [("user", prompt), ("assistant", answer.ids)]
            messages = [{"role": role, "content": self.tokenizer.decode(ids).strip()} for role, ids in said]
            file.write(step=step, conversations=messages)


def _prompt(data: Documents, document: int) -> list[int]:
    ids, mask = data.read(document)
    first_trained = int(np.flatnonzero(mask)[0]) if data.masked else PROMPT_TOKENS
    return ids[: max(1, first_trained)].tolist()
