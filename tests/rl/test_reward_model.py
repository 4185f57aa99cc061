"""A reward model as the reward of sampled answers."""

import pytest
import torch
from tests.helpers import make_trainer, metrics, pairs

from minimind import Model
from minimind.cli import main
from minimind.model import ModelConfig, Transformer, load_model, save_model
from minimind.rl.rewards.model import RewardModel
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
    scores = RewardModel(str(scorer), tokenizer=tokenizer, device=torch.device("cpu"))(rollouts)
    assert scores == pytest.approx([model.reward(messages) for messages in conversations], rel=1e-4, abs=1e-5)
    assert len({round(score, 4) for score in scores}) == 5


def test_a_step_is_rewarded_with_the_scores(grpo, scorer, tmp_path):
    trainer = make_trainer(grpo(tmp_path / "run", rl__rewards=f"model,path={scorer}"))
    batch, tokenizer, model = trainer.source.step(0), trainer.setup.tokenizer, load_model(scorer / "model")
    ids, mask = tokenizer.encode_chat([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
    after_turn = ids[len(mask) - mask[::-1].index(1) :]
    assert after_turn
    for number in range(6):
        at = batch.documents == number
        ids = [*batch.tokens[at].tolist(), int(batch.targets[at][-1])]
        ids += after_turn if ids[-1] in tokenizer.stop_ids else []
        with torch.no_grad():
            score = model(torch.tensor([ids]))[0, -1] @ model.score.weight[0]
        assert float(batch.table["reward"][number]) == pytest.approx(float(score), rel=1e-4, abs=1e-5)


def test_a_run_with_one(grpo, scorer, tmp_path):
    assert main(grpo(tmp_path / "run", rl__rewards=[f"model,path={scorer}", "ended=0"], budget__steps=2)) == 0
    first, line = metrics(tmp_path / "run")[:2]
    assert first["step"] == 0
    assert line["reward"] == pytest.approx(line["reward_model"])
    assert line["reward_ended"] >= 0
    assert line["grad_norm"] > 0


def test_models_that_cannot_score_are_refused(grpo, base_model, tmp_path, capsys):
    assert main(grpo(tmp_path / "run", rl__rewards=f"model,path={base_model}")) == 2
    assert f"rl.rewards model: {base_model} is no reward model" in capsys.readouterr().err
