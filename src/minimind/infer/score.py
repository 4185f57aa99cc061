"""What a model thinks of a text that is there already: the log-probability of every token after the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from minimind.infer.engine import Engine
from minimind.infer.events import Token
from minimind.infer.inputs import Inputs


def score(
    engine: Engine, ids: Sequence[int], top_logprobs: int, adapter: str | None = None
) -> Iterator[list[Token]]:
    """The tokens of `ids` in chunks, as the engine prefills prompts: between two of them it may do other work.

    Log-probabilities are in nats, of the model's own distribution; nan for the first token: nothing is before it.
    """
    yield [Token(ids[0])]
    cache = None
    for start in range(0, len(ids) - 1, engine.prefill_tokens):
        stop = min(start + engine.prefill_tokens, len(ids) - 1)
        with engine.lock, torch.inference_mode():
            network = engine.network
            cache = cache or network.cache(1, len(ids) - 1)
            hidden_ND = network.hidden(Inputs().prefill(cache, ids[:-1], start, stop, adapter))
            logprobs_NV = network.logits(hidden_ND).float().log_softmax(-1)
            targets_N1 = torch.tensor(ids[start + 1 : stop + 1], device=logprobs_NV.device)[:, None]
            own_N = logprobs_NV.gather(-1, targets_N1)[:, 0].tolist()
            values_NK, ids_NK = (
                part.tolist() for part in logprobs_NV.topk(min(top_logprobs, logprobs_NV.shape[-1]))
            )
        yield [
            Token(token, logprob=own, top_logprobs=tuple(Token(i, logprob=v) for i, v in zip(others, values)))
            for token, own, others, values in zip(ids[start + 1 : stop + 1], own_N, ids_NK, values_NK)
        ]
