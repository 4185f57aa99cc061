"""Episodes in which tools are called: with a model that has learned two calls by heart, and with given answers."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from tests.pupil import CALLS, SEES, train_pupil

from minimind.data.batches.batch import IGNORE
from minimind.data.batches.loader import pack_once
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.rl.envs.mock_tools import mock_tools
from minimind.rl.envs.tools import ToolUse, use_tools
from minimind.rl.prompts.world import to_prompt, training_prompts
from minimind.rl.rewards import Rewards
from minimind.rl.rewards.compose import Part
from minimind.rl.rewards.verify import correct, ended
from minimind.rl.rollout import run_episodes, to_documents
from minimind.rl.types import Prompt
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import normalize
from minimind.tools import Limits, Tool, Toolbox
from minimind.world.rng import Rng
from minimind.world.sample import Question, assistant, user
from minimind.world.skills import chains

COLORS = {"cat": "red", "dog": "big"}
BOTH = Prompt([user("both")], ["red"], lambda text: float("red" in text), tools=[SEES])

REWARDS = Rewards([Part("correct", 1.0, correct), Part("ended", 0.1, ended)])


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def pupil(tokenizer):
    return train_pupil(tokenizer)


@pytest.fixture(scope="module")
def play(pupil, tokenizer):
    engine = Engine(pupil)

    def played(count, temperature, seed=0):
        params = SamplingParams(temperature, top_p=1.0, max_tokens=200, stop_ids=tokenizer.stop_ids)
        seeds = range(seed, seed + count)
        return run_episodes(engine, tokenizer, [looking() for _ in seeds], params, list(seeds), 1000)

    return played


def looking() -> ToolUse:
    tool = Tool("sees", "Look at it", SEES["function"]["parameters"], lambda arguments: COLORS[arguments["a"]])
    return ToolUse(BOTH, Toolbox([tool], Limits(rounds=2)), Counter([("sees", "red"), ("sees", "big")]))


# --- episodes ---


def test_calls_are_answered_until_there_is_none(play, tokenizer):
    (one,) = REWARDS(play(1, 0.0))
    assert [message["role"] for message in one.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert one.messages[1]["tool_calls"] == CALLS
    assert [message["content"] for message in one.messages[2:]] == ["red", "big", "the red cat and the big dog"]
    assert one.parts == {"correct": 1, "ended": 1, "calls": 1, "unreadable": 0}
    rendered, mask = tokenizer.encode_chat(one.messages, [SEES])
    assert one.ids == rendered[: len(one.ids)]
    assert one.mask == mask[: len(one.ids)]
    assert set(one.mask[one.mask.index(1) :]) == {0, 1}  # what the tools said is in between


def test_log_probabilities_of_all_turns(play, pupil):
    for one in play(12, 1.3):
        ids = torch.tensor([one.ids])
        with torch.no_grad():
            logprobs = (pupil.logits(pupil(ids))[0, :-1] / 1.3).log_softmax(-1)
        wanted = [0.0, *logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()]
        assert one.logprobs == pytest.approx([w * m for w, m in zip(wanted, one.mask)], abs=1e-4)


def test_many_at_once_are_as_one_after_the_other(play):
    together = play(12, 1.3)
    assert {len(one.messages) for one in together} > {2}  # of several lengths, some with calls
    for seed, one in enumerate(together):
        (alone,) = play(1, 1.3, seed)
        assert alone.ids == one.ids
        assert alone.messages == one.messages
        assert alone.parts == one.parts


def test_only_what_was_sampled_is_trained_on(play):
    rollouts = REWARDS(play(6, 1.3))
    batch = pack_once(to_documents(rollouts, {"advantages": np.ones(6)}), 1000)
    for number, source in enumerate(batch.table["source"].tolist()):
        at, one = batch.documents == number, rollouts[source]
        wanted = [token if mask else IGNORE for token, mask in zip(one.ids[1:], one.mask[1:])]
        assert batch.targets[at].tolist()[: len(wanted)] == wanted
        assert batch.columns["advantages"][at].tolist()[: len(wanted)] == one.mask[1:]


# --- steps ---


def asks(*calls, content=""):
    return assistant(content, tool_calls=[{"name": name, "arguments": arguments} for name, arguments in calls])


def step(env, message, stop_reason="stop"):
    result = env.step(message, "", stop_reason)
    return result.done, [message["content"] for message in result.messages], dict(result.parts)


def test_a_wanted_call_counts_once():
    env = looking()
    assert step(env, asks(("sees", {"a": "cat"}))) == (False, ["red"], {"calls": 0.5, "unreadable": 0})
    assert step(env, asks(("sees", {"a": "cat"}))) == (False, ["red"], {"calls": 0, "unreadable": 0})


def test_a_call_that_cannot_be_read_or_run_is_answered_with_an_error():
    message = asks(("flies", {}), ("sees", {"a": "cow"}), content="<tool_call>{")
    done, results, parts = step(looking(), message)
    assert not done
    assert parts == {"calls": 0, "unreadable": 1}
    for result, why in zip(results, ("there is no tool 'flies'", "cow", "cannot be read"), strict=True):
        assert why in json.loads(result)["error"]


def test_rounds_are_limited():
    env = looking()
    call = asks(("sees", {"a": "dog"}))
    assert [step(env, call)[0] for _ in range(3)] == [False, False, True]
    assert "limit" in step(looking_with(rounds=0), call)[1][0]


def looking_with(rounds):
    env = looking()
    return ToolUse(env.prompt, Toolbox(list(env.tools.tools.values()), Limits(rounds=rounds)))


def test_an_answer_that_was_cut_off_calls_nothing():
    done, messages, parts = step(looking(), asks(("sees", {"a": "cat"})), "length")
    assert (done, messages, parts) == (True, [], {"calls": 0, "unreadable": 0})


# --- the world's chains ---


@pytest.mark.parametrize("kind", chains.KINDS)
def test_who_follows_a_demonstration_earns_everything(kind):
    """All that the demonstration makes of the tools, these answer in an episode, too."""
    for number in range(20):
        sample = chains.sample(kind, Rng("test", number), ("en", "zh")[number % 2])
        prompt = to_prompt(Question.of(sample))
        said, _ = normalize(sample.demonstration)
        env, parts = prompt.env(prompt), Counter()
        assert said[: len(prompt.messages)] == normalize(prompt.messages)[0]
        left = said[len(prompt.messages) :]
        while left:
            result = env.step(left.pop(0), "", "stop")
            parts.update(result.parts)
            for message in result.messages:
                assert message == left.pop(0)
            assert result.done == (not left)
        assert parts == {"calls": pytest.approx(1), "unreadable": 0}
        assert prompt.grade(said[-1]["content"])
        assert not prompt.grade(said[-1]["content"].replace(sample.gt[-1], "7"))


def test_another_spelling_of_a_calculation_counts():
    sample = chains.sample("price_times", Rng("test"), "en")
    prompt = to_prompt(Question.of(sample))
    env = prompt.env(prompt)
    x, y = json.loads(sample.calls[1][0])["arguments"]["expression"].split(" * ")
    assert step(env, asks(("calculate", {"expression": f"{y}*{x}"})))[2] == {"calls": 0.5, "unreadable": 0}


def test_prompts_of_chains_offer_their_tools():
    for prompt in training_prompts(0, 1, 40, list(chains.KINDS)):
        assert [schema["function"]["name"] for schema in prompt.tools]
        assert prompt.messages[-1]["role"] == "user"
        assert prompt.source in chains.KINDS


# --- tools of others ---


def answered(name, arguments, question="What?", **parameters):
    function = {"name": name, "parameters": {"type": "object", "properties": parameters}}
    prompt = Prompt([user(question)], [], float, tools=[{"type": "function", "function": function}])
    return json.loads(Toolbox(mock_tools(prompt)).call(name, arguments))


def test_tools_of_the_public_agent_data():
    assert answered("calculate_math", {"expression": "12*(3+4)"}) == {"result": 84}
    assert answered("get_current_time", {"timezone": "Asia/Tokyo"})["datetime"] == "2025-03-07 15:30:00"
    assert answered("get_current_weather", {"location": "上海"})["temperature"] == "15°C"
    assert answered("get_exchange_rate", {"from_currency": "USD", "to_currency": "CNY"})["rate"] == 7.21
    assert answered("unit_converter", {"value": 5, "from_unit": "km", "to_unit": "miles"}) == {"result": 3.1069}
    assert answered("translate_text", {"text": "你好世界", "target_language": "english"}) == {
        "translated_text": "Hello World"
    }
    assert "location" in answered("get_current_weather", {})["error"]


def test_the_same_question_is_answered_the_same():
    price = {"item": "milk"}
    first = answered("get_price", price, "How much?")
    assert first == answered("get_price", price, "How much?")
    assert len({answered("get_price", price, f"How much {number}?")["price"] for number in range(5)}) > 1
    numbers = [answered("random_number", {"min": 1, "max": 10**6}, f"{number}") for number in (1, 1, 2)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_an_unknown_tool_says_back_what_it_was_asked():
    assert answered("open_door", {"which": "left"}) == {"ok": True, "which": "left"}
    prompt = Prompt([user("Open!")], [], float, tools=[{"name": "open_door"}])
    assert step(use_tools(prompt), asks(("open_door", {})))[1] == ['{"ok": true}']
