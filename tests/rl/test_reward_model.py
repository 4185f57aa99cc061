"""A reward model as the reward of sampled answers."""

import pytest
import torch
from tests.helpers import make_trainer, metrics, pairs

from minimind import Model
from minimind.cli import main
from minimind.model import ModelConfig, Transformer, load_model, save_model
from minimind.rl.rewards import RewardModel
from minimind.rl.types import Prompt, Rollout
from minimind.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def scorer(base_model, tmp_path_factory):
    """A reward model that scores at random, with the base model's tokenizer."""
    config = load_model(base_model).config
    model = Transformer(ModelConfig(**{**vars(config), "num_labels": 1}))
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    directory = tmp_path_factory.mktemp("scorer")
    save_model(model, directory / "model", Tokenizer.load(base_model))
    return directory


def test_an_answer_earns_what_the_model_says_of_the_conversation(base_model, scorer):
    """Also of what the template writes behind the end of a turn, which nobody samples."""
    tokenizer, model = Tokenizer.load(base_model), Model.load(scorer, device="cpu")
    conversations = [pair["chosen"] for pair in pairs(5)]
    rollouts = []
    for messages in conversations:
        ids, mask = tokenizer.encode_chat(messages)
        first, last = mask.index(1), len(mask) - mask[::-1].index(1)
        assert last < len(ids)
        prompt = Prompt(messages[:-1], [], float)
        mask = [0] * first + [1] * (last - first)
        rollouts.append(Rollout(prompt, ids[:last], mask, [], messages, "", "stop", {"correct": 1.0}, 1.0))
    scored = RewardModel(str(scorer), tokenizer, torch.device("cpu")).score(rollouts)
    for one, messages in zip(scored, conversations):
        assert one.reward == pytest.approx(model.reward(messages), rel=1e-4, abs=1e-5)
        assert one.parts == {"correct": 1.0, "model": one.reward}
    assert len({round(one.reward, 4) for one in scored}) == 5


def test_a_step_is_rewarded_with_the_scores(grpo, scorer, tmp_path):
    trainer = make_trainer(grpo(tmp_path / "run", rl__reward_model=scorer))
    seen = []
    score = trainer.source.reward_model.score
    trainer.source.reward_model.score = lambda rollouts: seen.extend(score(rollouts)) or seen
    batch = trainer.source.step(0)
    assert len(seen) == 24
    wanted = {(one.group, round(one.reward, 5)) for one in seen}
    assert {
        (g, round(r, 5)) for g, r in zip(*(batch.table[name].tolist() for name in ("group", "reward")))
    } == wanted
    for one in seen[:6]:
        tail = trainer.source.reward_model.after_turn if one.stop_reason == "stop" else []
        with torch.no_grad():
            model = trainer.source.reward_model.model
            hidden = model(torch.tensor([[*one.ids, *tail]]))[0, -1]
            assert one.reward == pytest.approx(float(hidden @ model.score.weight[0]), rel=1e-4, abs=1e-5)


def test_a_run_with_one(grpo, scorer, tmp_path):
    assert main(grpo(tmp_path / "run", rl__reward_model=scorer, budget__steps=2)) == 0
    line = metrics(tmp_path / "run")[0]
    assert line["reward"] == pytest.approx(line["reward_model"])
    assert line["reward_ended"] >= 0
    assert line["grad_norm"] > 0


def test_models_that_cannot_score_are_refused(grpo, base_model, tmp_path, capsys):
    assert main(grpo(tmp_path / "run", rl__reward_model=base_model)) == 2
    assert f"rl.reward_model: {base_model} is no reward model" in capsys.readouterr().err
