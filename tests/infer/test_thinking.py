"""A thought that is closed when its budget is used up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer.conversation import Conversation, LocalBackend, message_of
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.infer.thinking import ThinkingBudget
from minimind.tokenizer import Tokenizer, parse_assistant

ASKED = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def engine(tokenizer: Tokenizer) -> Engine:
    return Engine(random_model(vocab_size=tokenizer.vocab_size), max_batch=8, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def params(tokenizer: Tokenizer) -> SamplingParams:
    """Greedy; the thought ends by its budget only."""
    never = tuple(
        (tokenizer.reserved[tag], -100.0) for tag in ("<think>", "</think>", "<|im_end|>", "<|endoftext|>")
    )
    return SamplingParams(temperature=0.0, max_tokens=24, logit_bias=never)


def prompt(tokenizer: Tokenizer, think: bool = True) -> list[int]:
    return tokenizer.encode_chat(ASKED, add_generation_prompt=True, open_thinking=think)[0]


def closing(tokenizer: Tokenizer) -> list[int]:
    return [*tokenizer.encode("\n"), tokenizer.reserved["</think>"], *tokenizer.encode("\n\n")]


def test_after_the_budget_the_thought_is_closed(
    engine: Engine, tokenizer: Tokenizer, params: SamplingParams
) -> None:
    """Up to there it is the free thought, and from there what the model says after all that, token for token."""
    free = engine.generate([prompt(tokenizer)], params)[0].ids
    budgets = [1, 2, 5, 9]
    answers = engine.generate(
        [prompt(tokenizer)] * len(budgets), [replace(params, thinking_budget=budget) for budget in budgets]
    )
    for budget, answer in zip(budgets, answers):
        thought = free[:budget]
        assert not tokenizer.decode(thought).endswith("\n")
        begun = thought + closing(tokenizer)
        assert answer.ids[: len(begun)] == begun
        rest = replace(params, max_tokens=params.max_tokens - len(begun))
        assert answer.ids[len(begun) :] == engine.generate([prompt(tokenizer) + begun], rest)[0].ids
        parsed = parse_assistant(answer.ids, tokenizer, open_thinking=True)
        assert parsed["reasoning_content"] == tokenizer.decode(thought).strip("\n")


def test_the_closing_tokens_have_the_models_own_log_probabilities(
    engine: Engine, tokenizer: Tokenizer, params: SamplingParams
) -> None:
    params = replace(params, temperature=1.0, top_p=1.0, seed=3, thinking_budget=4)
    answer = engine.generate([prompt(tokenizer)], params)[0]
    text = prompt(tokenizer) + answer.ids
    model = engine.source
    with torch.no_grad():
        logprobs = model.logits(model(torch.tensor([text[:-1]])))[0].log_softmax(-1)
    wanted = logprobs[torch.arange(len(text) - 1), torch.tensor(text[1:])][len(prompt(tokenizer)) - 1 :]
    assert answer.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


def test_a_thought_that_ends_by_itself_is_left_alone(
    engine: Engine, tokenizer: Tokenizer, params: SamplingParams
) -> None:
    ends = replace(params, logit_bias=((tokenizer.reserved["</think>"], 100.0),), max_tokens=8)
    answers = engine.generate([prompt(tokenizer)] * 2, [ends, replace(ends, thinking_budget=1)])
    assert answers[0].ids == answers[1].ids


def test_without_thinking_there_is_no_budget(engine: Engine, tokenizer: Tokenizer, params: SamplingParams) -> None:
    asked = [prompt(tokenizer, think=False), [tokenizer.bos_id, *tokenizer.encode("the cat sees")]]
    plain, limited = (engine.generate(asked, replace(params, thinking_budget=n)) for n in (None, 1))
    assert [answer.ids for answer in plain] == [answer.ids for answer in limited]


def test_a_thought_that_the_model_opens_itself(tokenizer: Tokenizer) -> None:
    begin, end = tokenizer.reserved["<think>"], tokenizer.reserved["</think>"]
    word, line_end = tokenizer.encode("cat")[0], tokenizer.encode("\n")[0]

    def forced(budget: ThinkingBudget) -> list[int]:
        tokens = []
        while budget.closing:
            tokens.append(budget.closing[0])
            budget.receive(tokens[-1])
        return tokens

    budget = ThinkingBudget(tokenizer, 2, [tokenizer.bos_id, begin, word, end, word])
    for token in (begin, word):
        budget.receive(token)
        assert not budget.closing
    budget.receive(line_end)
    assert forced(budget) == closing(tokenizer)[1:]  # there is a line end already
    for token in (begin, word, word, word):  # it thinks once
        budget.receive(token)
        assert not budget.closing
    late = ThinkingBudget(tokenizer, 1, [tokenizer.bos_id])
    for token in (word, begin, word, word):  # a tag within the answer is text
        late.receive(token)
        assert not late.closing


def test_a_conversation_thinks_within_its_budget(
    engine: Engine, tokenizer: Tokenizer, params: SamplingParams
) -> None:
    limited = replace(params, thinking_budget=3)
    conversation = Conversation(LocalBackend(engine, tokenizer), limited, think=True)
    list(conversation.say("the cat"))
    said = conversation.messages[-1]
    answer = engine.generate([prompt(tokenizer)], limited)[0]
    assert said["content"] == message_of([tokenizer.reserved["<think>"], *answer.ids], tokenizer)["content"] != ""
    assert said["reasoning_content"] == tokenizer.decode(answer.ids[:3]).strip("\n")


def test_a_call_in_a_thought_is_broken_off(engine: Engine, tokenizer: Tokenizer, params: SamplingParams) -> None:
    """What it must follow begins again after the thought."""
    pytest.importorskip("llguidance")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    call = tokenizer.reserved["<tool_call>"]
    calls = replace(
        params, logit_bias=((call, 100.0),), offered_tools=json.dumps(tools), thinking_budget=5, max_tokens=40
    )
    answer = engine.generate([prompt(tokenizer)], calls)[0]
    assert answer.ids[0] == call
    after = 5 + len(closing(tokenizer))
    assert answer.ids[5:after] == closing(tokenizer)
    assert answer.ids[after] == call
    said = tokenizer.decode(answer.ids[after + 1 :], skip_special=False).replace(" ", "").replace("\n", "")
    assert said.startswith('{"name"')


def test_budgets_that_cannot_be_kept(engine: Engine, tokenizer: Tokenizer, params: SamplingParams) -> None:
    with pytest.raises(UserError, match="thinking_budget"):
        SamplingParams(thinking_budget=0)
    with pytest.raises(UserError, match=r"needs an engine that knows the tokenizer"):
        Engine(engine.source).generate([[1]], replace(params, thinking_budget=3))
    plain = Tokenizer(tokenizer.backend, tokenizer.config, None)
    plain.reserved = {}
    with pytest.raises(UserError, match=r"whose <think> and </think> are single tokens"):
        ThinkingBudget(plain, 3, [1])
