"""`minimind train agent`: episodes of several turns. What holds for all algorithms is in `test_algorithms.py`."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tests.helpers import evaluations, make_trainer, metrics, write_jsonl

from minimind.cli import main
from minimind.data.batches.batch import IGNORE
from minimind.world.agent import agent_prompts
from minimind.world.sample import assistant
from minimind.world.skills import chains


def test_episodes_have_several_turns_all_of_which_are_trained_on(agent, tmp_path):
    trainer = make_trainer(agent(tmp_path / "run"))
    batch, tokenizer = trainer.source.step(0), trainer.setup.tokenizer
    turns = set()
    for number in range(batch.num_documents):
        at = batch.documents == number
        trained = (batch.targets[at] != IGNORE).int().numpy()
        turns.add(int((np.diff(trained, prepend=0) == 1).sum()))
        assert (batch.columns["logprobs"][at].numpy()[trained == 0] == 0).all()
        assert (batch.columns["advantages"][at].numpy()[trained == 0] == 0).all()
        said = tokenizer.decode(batch.tokens[at].tolist(), skip_special=False)
        assert said.count("<|im_start|>assistant") == said.count("<|im_start|>user")
    assert turns <= {2, 3, 4}
    assert len(turns) > 1


def test_what_a_run_writes_down(agent, tmp_path):
    run = tmp_path / "run"
    assert main(agent(run, evaluation__every=3)) == 0
    for line in metrics(run):
        if "eval" not in line:
            assert 0 < line["reward_short"] <= 4
            assert line["reward"] == pytest.approx(line["reward_correct"] + 0.1 * line["reward_ended"], abs=1e-6)
    assert all(0 <= line["eval"]["score"] <= 1 for line in evaluations(run))


def test_the_worlds_chains_are_what_it_learns_by_default(agent, tmp_path):
    """Each kind is scored by itself, too; a model of random words gets nothing right."""
    changes = {"rl__env": None, "rl__questions": 2, "rl__prompts": 1, "rl__group_size": 2}
    trainer = make_trainer(agent(tmp_path / "run", batch__seq_len=1024, batch__tokens_per_step=1024, **changes))
    assert trainer.evaluation(8) == {"score": 0} | {f"score_{kind}": 0 for kind in chains.KINDS}
    batch = trainer.source.step(0)
    assert {"reward_calls", "reward_unreadable"} < set(batch.table)


def test_eval_agent(base_model, tmp_path, capsys):
    game = Path(__file__).parents[2] / "examples" / "guess_number.py"
    argv = ["eval", "agent", str(base_model), "--device", "cpu", "--max-tokens", "4", "--per-kind", "3"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["skills"].keys() == set(chains.KINDS)
    assert {score["total"] for score in found["skills"].values()} == {3}
    assert found["turns"] >= 1
    assert main([*argv, "--env", f"{game}:GuessNumber"]) == 0
    assert "GuessNumber" in capsys.readouterr().out


def test_an_environment_that_fails_ends_the_run_in_a_sentence(agent, refusal, tmp_path):
    argv = agent(tmp_path / "run")
    file = tmp_path / "talk.py"
    file.write_text(file.read_text().replace("len(text) < 20", "1 / 0"))
    assert "rl.env: step of" in (said := refusal(argv))
    assert "ZeroDivisionError" in said


WEATHER = {
    "name": "get_current_weather",
    "description": "天气",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
MATH = {
    "name": "calculate_math",
    "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
}
PUBLIC = {
    "conversations": [
        {"role": "system", "content": "", "tools": json.dumps([{"type": "function", "function": WEATHER}, MATH])},
        {"role": "user", "content": "上海多少度？它的三倍是多少？"},
        {"role": "assistant", "content": ""},
    ],
    "gt": ["15°C", "45"],
}


def test_data_in_the_public_schema(agent, tmp_path):
    """Tools on the system message, the last turn empty, and in gt what the last answer must state."""
    world = list(islice(agent_prompts(0), 30))
    file = write_jsonl(tmp_path / "agent.jsonl", [PUBLIC, *world])
    changes = {"rl__env": None, "batch__seq_len": 1024, "batch__tokens_per_step": 1024, "budget__steps": 1}
    argv = [*agent(tmp_path / "run", **changes, rl__prompts=2, rl__group_size=2), "--data", str(file)]
    prompts = make_trainer(argv).setup.data.prompts
    public, *others = sorted(prompts, key=lambda prompt: prompt.source in chains.KINDS)
    env = public.env(public)
    said = []
    for call in ({"location": "上海"}, {"expression": "15*3"}):
        name = "get_current_weather" if "location" in call else "calculate_math"
        result = env.step(assistant("", tool_calls=[{"name": name, "arguments": call}]), "", "stop")
        assert not result.done
        said += [message["content"] for message in result.messages]
    assert "15°C" in said[0]
    assert json.loads(said[1]) == {"result": 45}
    assert public.grade("上海 15°C，三倍是 45。") == 1
    assert public.grade("上海 15°C。") < 1
    assert [prompt.gt for prompt in others] == [row["gt"] for row in world]
    assert main(argv) == 0
    assert any("reward_calls" in line for line in metrics(tmp_path / "run"))
