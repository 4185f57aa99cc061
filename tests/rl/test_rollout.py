"""Sampled groups and the documents made of them, with a model that says random things."""

import numpy as np
import pytest
import torch
from tests.random_models import random_model

from minimind.data.batches.batch import IGNORE
from minimind.data.batches.loader import pack_once
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs
from minimind.losses.policy import clipped_policy_loss
from minimind.rl.rollout import sample_groups, to_documents
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
    return lambda prompts=PROMPTS, seed=0, step=1, **more: sample_groups(
        engine, tokenizer, prompts, GROUP_SIZE, PARAMS, seed, step, **more
    )


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
        assert rollout.prompt_ids == tokenizer.encode_chat(prompt.messages, add_generation_prompt=True)[0]
        assert len(rollout.ids) == len(rollout.logprobs)
        ended = rollout.stop_reason == "stop"
        said = rollout.ids[:-1] if ended else rollout.ids
        assert not set(said) & set(PARAMS.stop_ids)
        assert ended == (rollout.ids[-1] in PARAMS.stop_ids)
        assert len(said) == PARAMS.max_tokens or ended
        assert rollout.text == tokenizer.decode(said, skip_special=False).strip()
        right = ended and prompt.grade(rollout.text)
        assert rollout.parts == {"correct": right, "ended": ended}
        assert rollout.reward == pytest.approx(right + 0.1 * ended)
    assert len({tuple(rollout.ids) for rollout in rollouts}) > len(PROMPTS)


def test_answers_depend_on_seed_step_and_place_alone(sample, rollouts):
    assert sample() == rollouts
    ids = [rollout.ids for rollout in rollouts]
    assert [rollout.ids for rollout in sample(seed=1)] != ids
    assert [rollout.ids for rollout in sample(step=2)] != ids
    shares = [*sample(PROMPTS[:1]), *sample(PROMPTS[1:], first_group=1)]  # as two processes share them
    assert [(rollout.group, rollout.ids) for rollout in shares] == [(one.group, one.ids) for one in rollouts]


def test_documents_hold_prompt_and_answer(rollouts, advantages):
    documents = to_documents(rollouts, advantages)
    for i, rollout in enumerate(rollouts):
        prompt, answer = len(rollout.prompt_ids), len(rollout.ids)
        ids, mask = documents.read(i)
        assert ids.tolist() == rollout.prompt_ids + rollout.ids
        assert mask.tolist() == [0] * prompt + [1] * answer
        logprobs, spread = documents.read_column("logprobs", i), documents.read_column("advantages", i)
        assert logprobs.tolist() == pytest.approx([0] * prompt + rollout.logprobs)
        assert spread.tolist() == pytest.approx([0] * prompt + [advantages[i]] * answer)
    columns = documents.document_columns
    assert columns["group"].tolist() == [rollout.group for rollout in rollouts]
    assert columns["reward"].tolist() == pytest.approx([rollout.reward for rollout in rollouts])
    assert columns["reward_correct"].tolist() == [rollout.parts["correct"] for rollout in rollouts]
    assert columns["reward_ended"].tolist() == [rollout.parts["ended"] for rollout in rollouts]


def test_the_model_computes_the_recorded_logprobs_again(model, rollouts, advantages):
    """Packed, at every target, the end of an answer included: the ratio of an untouched policy is 1."""
    batch = pack_once(to_documents(rollouts, advantages), 64)
    assert batch.tokens.shape[0] < len(rollouts)
    assert batch.num_valid_tokens == sum(len(rollout.ids) for rollout in rollouts)
    with torch.no_grad():
        again = target_logprobs(model, hidden_states(model, batch), batch, PARAMS.temperature)
    assert again.flatten().tolist() == pytest.approx(batch.columns["logprobs"].flatten().tolist(), abs=2e-5)
    totals = batch.sum_by_document(batch.columns["advantages"]) / batch.table["tokens"]
    assert totals.tolist() == pytest.approx(advantages[batch.table["source"]].tolist())
    losses, metrics = clipped_policy_loss(
        again, batch.columns["logprobs"], batch.columns["advantages"], batch.targets != IGNORE
    )
    assert losses.flatten().tolist() == pytest.approx((-batch.columns["advantages"]).flatten().tolist(), abs=1e-4)
    assert metrics["clip_fraction"].sum() == 0
