"""Chains of tool calls: what is kept for evaluation stays out, and a question has one answer."""

import json
from itertools import islice

import pytest

from minimind.data.sources.schemas import normalize
from minimind.world.agent import agent_conversations, agent_prompts
from minimind.world.questions import assert_disjoint, questions
from minimind.world.rng import Rng, held_out
from minimind.world.sample import LANGUAGES
from minimind.world.skills import chains, reasoning


def samples(kind, count=150, kept=False):
    return [chains.sample(kind, Rng("test", number), LANGUAGES[number % 2], kept) for number in range(count)]


def test_no_held_out_question_is_trained_on():
    asked = questions(0, 200, chains.SKILLS)
    assert len(asked) == 200 * len(chains.KINDS)
    shown = [row["conversations"] for row in islice(agent_conversations(0), 1500)]
    practiced = [row["conversations"] for row in islice(agent_prompts(0), 1500)]
    assert_disjoint(asked, [*shown, *practiced])


@pytest.mark.parametrize("kind", chains.KINDS)
def test_training_makes_no_call_that_other_skills_keep(kind):
    for one in (*samples(kind), *samples(kind, kept=True)):
        for call, _ in one.calls:
            call = json.loads(call)
            (argument,) = call["arguments"].values()
            assert not held_out("tool", call["name"], argument)
            assert not reasoning.holds_kept(str(argument))


@pytest.mark.parametrize("kind", chains.KINDS)
def test_every_call_needs_what_came_before(kind):
    for one in samples(kind, 40):
        said = one.messages[1]["content"]
        results = [json.loads(result) for _, result in one.calls]
        *_, (last, _) = one.calls
        (argument,) = json.loads(last)["arguments"].values()
        for value in results[0].values():
            assert str(value) in argument
        assert argument not in said
        assert one.gt == [str(value) for value in results[-1].values()]
        assert all(value in one.messages[-1]["content"] for value in one.gt)


def test_a_thing_costs_something_else_in_the_next_question():
    tool = chains.BY_NAME["get_price"]
    prices = [chains.respond(tool, f"How much does a pen cost * {n}?", "en", "pen")["price"] for n in (2, 3, 2)]
    assert prices[0] == prices[2] != prices[1]


def test_files_are_of_the_published_schemas():
    for row in islice(agent_prompts(0), 20):
        content = normalize({key: row[key] for key in ("conversations", "gt")})
        assert (content.kind, content.gt, content.unread) == ("rl", row["gt"], [])
        assert content.messages[0]["tools"]
    kinds = {normalize(row).kind for row in islice(agent_conversations(0), 20)}
    assert kinds == {"chat"}
