"""Sampled groups and the documents made of them, with a model that says random things."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.random_models import random_model

from minimind.data.batches.loader import pack_once
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs
from minimind.losses.policy import ppo_loss
from minimind.rl.envs.single_turn import SingleTurn
from minimind.rl.rewards import Rewards
from minimind.rl.rewards.compose import Part
from minimind.rl.rewards.verify import correct, ended
from minimind.rl.rollout import episode_seeds, run_episodes, to_documents
from minimind.rl.types import Prompt
from minimind.tokenizer import Tokenizer
from minimind.world.sample import user

# A tenth of the tokens end an answer, so that some answers end and some are cut off.
PARAMS = SamplingParams(temperature=0.8, top_p=1.0, max_tokens=6, stop_ids=tuple(range(2, 400, 10)))
PROMPTS = [Prompt([user(text)], ["a"], lambda answer: "a" in answer) for text in ("the cat", "山", "a big old dog")]
GROUP_SIZE = 5


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def model(tokenizer):
    return random_model(vocab_size=tokenizer.vocab_size, std=0.1)


@pytest.fixture(scope="module")
def sample(model, tokenizer):
    engine = Engine(model)

    def play(prompts=PROMPTS, seed=0, iteration=1, first_group=0, longest=65):
        groups = [first_group + at for at in range(len(prompts)) for _ in range(GROUP_SIZE)]
        seeds = [
            one for group in dict.fromkeys(groups) for one in episode_seeds(seed, iteration, group, GROUP_SIZE)
        ]
        envs = [SingleTurn(prompts[group - first_group]) for group in groups]
        found = run_episodes(engine, tokenizer, envs, PARAMS, seeds, longest)
        rewards = Rewards([Part("correct", 1.0, correct), Part("ended", 0.1, ended)])
        return rewards([replace(one, group=group) for one, group in zip(found, groups)])

    return play


@pytest.fixture(scope="module")
def rollouts(sample):
    return sample()


@pytest.fixture(scope="module")
def advantages():
    return np.linspace(-1, 1, len(PROMPTS) * GROUP_SIZE).astype(np.float32)


def test_groups_of_answers(rollouts, tokenizer):
    assert [rollout.group for rollout in rollouts] == [0] * 5 + [1] * 5 + [2] * 5
    assert {rollout.stop_reason for rollout in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        prompt = PROMPTS[rollout.group]
        asked = tokenizer.encode_chat(prompt.messages, add_generation_prompt=True)[0]
        assert rollout.ids[: len(asked)] == asked
        assert rollout.mask == [0] * len(asked) + [1] * (len(rollout.ids) - len(asked))
        assert len(rollout.ids) == len(rollout.logprobs)
        assert rollout.length == sum(logprob < 0 for logprob in rollout.logprobs)
        ended = rollout.stop_reason == "stop"
        sampled = rollout.ids[len(asked) :]
        said = sampled[:-1] if ended else sampled
        assert not set(said) & set(PARAMS.stop_ids)
        assert ended == (sampled[-1] in PARAMS.stop_ids)
        assert len(said) == PARAMS.max_tokens or ended
        assert rollout.text == tokenizer.decode(said, skip_special=False).strip()
        assert [message["role"] for message in rollout.messages] == ["user", "assistant"]
        right = ended and prompt.grade(rollout.text)
        assert rollout.parts == {"correct": right, "ended": ended}
        assert rollout.reward == pytest.approx(right + 0.1 * ended)
    assert len({tuple(rollout.ids) for rollout in rollouts}) > len(PROMPTS)


def test_episodes_depend_on_their_seed_alone(sample, rollouts):
    assert [one.ids for one in sample()] == [one.ids for one in rollouts]
    ids = [rollout.ids for rollout in rollouts]
    assert [rollout.ids for rollout in sample(seed=1)] != ids
    assert [rollout.ids for rollout in sample(iteration=2)] != ids
    shares = [*sample(PROMPTS[:1]), *sample(PROMPTS[1:], first_group=1)]  # as two processes share them
    assert [(rollout.group, rollout.ids) for rollout in shares] == [(one.group, one.ids) for one in rollouts]


def test_an_episode_ends_where_its_sequence_does(sample, rollouts):
    """Cut off in the middle of an answer, or before it."""
    longest = max(len(one.ids) - one.length for one in rollouts) + 2
    for cut, whole in zip(sample(longest=longest), rollouts):
        assert cut.ids == whole.ids[:longest]
        if len(whole.ids) > longest:
            assert cut.stop_reason == "length"
    empty = sample(longest=3)
    assert [(one.ids, one.stop_reason) for one in empty] == [([], "length")] * len(rollouts)


def test_documents_hold_prompt_and_answer(rollouts, advantages):
    by_token = [np.arange(len(rollout.ids)) for rollout in rollouts]
    documents = to_documents(rollouts, {"advantages": advantages.tolist(), "order": by_token})
    for i, rollout in enumerate(rollouts):
        ids, mask = documents.read(i)
        assert ids.tolist() == rollout.ids
        assert mask.tolist() == rollout.mask
        columns = {name: documents.read_column(name, i).tolist() for name in documents.token_columns}
        assert columns["logprobs"] == pytest.approx(rollout.logprobs)
        assert columns["advantages"] == pytest.approx([advantages[i] * one for one in rollout.mask])
        assert columns["order"] == [at * one for at, one in enumerate(rollout.mask)]
    columns = documents.document_columns
    assert columns["group"].tolist() == [rollout.group for rollout in rollouts]
    assert columns["reward"].tolist() == pytest.approx([rollout.reward for rollout in rollouts])
    assert columns["reward_correct"].tolist() == [rollout.parts["correct"] for rollout in rollouts]
    assert columns["reward_ended"].tolist() == [rollout.parts["ended"] for rollout in rollouts]


def test_the_model_computes_the_recorded_logprobs_again(model, rollouts, advantages):
    """Packed, at every target, the end of an answer included: the ratio of an untouched policy is 1."""
    batch = pack_once(to_documents(rollouts, {"advantages": advantages.tolist()}), 64)
    assert batch.tokens.shape[0] < len(rollouts)
    assert batch.num_valid_tokens == sum(rollout.length for rollout in rollouts)
    with torch.no_grad():
        again = target_logprobs(model, hidden_states(model, batch), batch, PARAMS.temperature)
    assert again.flatten().tolist() == pytest.approx(batch.columns["logprobs"].flatten().tolist(), abs=2e-5)
    totals = batch.sum_by_document(batch.columns["advantages"]) / batch.table["tokens"]
    assert totals.tolist() == pytest.approx(advantages[batch.table["source"]].tolist())
    losses, clipped = ppo_loss(again, batch)
    assert losses.flatten().tolist() == pytest.approx((-batch.columns["advantages"]).flatten().tolist(), abs=1e-4)
    assert not clipped.any()
