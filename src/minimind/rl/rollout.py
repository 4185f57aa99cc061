"""Sample answers with the present weights, and lay them out as documents to train on.

Nothing is tokenized twice: a model learns from the very ids that it sampled, which a text made of them and encoded
again may not give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from minimind.data.batches.documents import MemoryDocuments
from minimind.infer.engine import Engine
from minimind.infer.request import Completion
from minimind.infer.sampler import SamplingParams
from minimind.rl.rewards import WEIGHTS, reward, reward_parts
from minimind.rl.types import Prompt, Rollout
from minimind.tokenizer import Tokenizer


def sample_groups(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    group_size: int,
    params: SamplingParams,
    seed: int,
    step: int,
    weights: Mapping[str, float] = WEIGHTS,
    first_group: int = 0,
) -> list[Rollout]:
    """`group_size` answers to each prompt, group by group, all in one batch of the engine.

    Answers depend on the model's present weights, the prompts and (seed, step, place) alone: so a resumed training
    samples the same. The recorded log-probabilities are those of the distribution that the tokens were sampled from
    only if `params` truncates nothing (top_p 1, top_k 0).

    weights      of the parts of the reward
    first_group  number of the first prompt: where several ranks share a step, each gives its own
    """
    groups = range(first_group, first_group + len(prompts))
    prompt_ids = [tokenizer.encode_chat(prompt.messages, add_generation_prompt=True)[0] for prompt in prompts]
    requests = [replace(params, seed=one) for group in groups for one in _seeds(seed, step, group, group_size)]
    engine.refresh()
    completions = engine.generate([ids for ids in prompt_ids for _ in range(group_size)], requests)
    return [
        _rollout(tokenizer, prompts[i // group_size], prompt_ids[i // group_size], completion, weights, group)
        for i, (completion, group) in enumerate(zip(completions, np.repeat(groups, group_size).tolist()))
    ]


def _seeds(seed: int, step: int, group: int, count: int) -> list[int]:
    return np.random.SeedSequence([seed, step, group]).generate_state(count, np.uint64).tolist()


def _rollout(
    tokenizer: Tokenizer,
    prompt: Prompt,
    prompt_ids: list[int],
    completion: Completion,
    weights: Mapping[str, float],
    group: int,
) -> Rollout:
    text = tokenizer.decode(completion.ids, skip_special=False).strip()  # a stray control token is a mistake
    parts = reward_parts(prompt, text, completion.stop_reason)
    ids, logprobs = completion.ids, completion.logprobs
    if completion.stop_id is not None:
        ids, logprobs = [*ids, completion.stop_id], [*logprobs, completion.stop_logprob]
    return Rollout(prompt_ids, ids, logprobs, text, completion.stop_reason, reward(parts, weights), parts, group)


def to_documents(rollouts: Sequence[Rollout], advantages_R: np.ndarray) -> MemoryDocuments:
    """A document of prompt and answer for each rollout, the answer trained on.

    Token columns, 0 in the prompt: `logprobs` as recorded, `advantages` of the whole answer. Document columns:
    `group`, `reward`, and a column `reward_…` for each part of it.
    """
    prompt = [np.zeros(len(rollout.prompt_ids), np.float32) for rollout in rollouts]
    answer = [np.ones(len(rollout.ids), np.float32) for rollout in rollouts]
    logprobs = [np.array(rollout.logprobs, np.float32) for rollout in rollouts]
    rewards = {"reward": [rollout.reward for rollout in rollouts]}
    rewards |= {f"reward_{name}": [rollout.parts[name] for rollout in rollouts] for name in rollouts[0].parts}
    return MemoryDocuments(
        ids=[np.array([*rollout.prompt_ids, *rollout.ids]) for rollout in rollouts],
        masks=[np.concatenate(both).astype(np.uint8) for both in zip(prompt, answer)],
        columns={
            "logprobs": [np.concatenate(both) for both in zip(prompt, logprobs)],
            "advantages": [np.concatenate([p, a * one]) for p, a, one in zip(prompt, answer, advantages_R)],
        },
        document_columns={
            "group": np.array([rollout.group for rollout in rollouts]),
            **{name: np.array(values, np.float32) for name, values in rewards.items()},
        },
    )
