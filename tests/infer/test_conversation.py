"""Turns, trimming, and answers that are broken off."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from minimind.errors import UserError
from minimind.infer.conversation import Conversation, LocalBackend, assistant_message, chat_prompt
from minimind.infer.engine import Engine
from minimind.infer.events import End, Text, Thinking, Token
from minimind.infer.sampler import SamplingParams
from minimind.model import load_model
from minimind.tokenizer import Tokenizer

PARAMS = SamplingParams(max_tokens=8, seed=0)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


class Scripted:
    """An engine that says what it is told to, and remembers the prompts."""

    def __init__(self, answer: list[int], context: int = 500) -> None:
        self.answer = answer
        self.context = context
        self.prompts: list[list[int]] = []
        self.closed = False

    def stream(self, prompt: Sequence[int], params: SamplingParams, adapter: None) -> Iterator[Token | End]:
        self.prompts.append(list(prompt))
        try:
            yield from map(Token, self.answer)
            yield End("stop")
        finally:
            self.closed = True


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.backend.encode(text, add_special_tokens=False).ids


def test_a_conversation_grows_by_question_and_answer(tokenizer: Tokenizer) -> None:
    engine = Scripted(ids_of(tokenizer, "<think>\nold\n</think>\n\nred"))
    conversation = Conversation(LocalBackend(engine, tokenizer), params=PARAMS, system="the cat")
    *events, end = conversation.say("blue")
    assert "".join(event.text for event in events if isinstance(event, Text)) == "red"
    assert "".join(event.text for event in events if isinstance(event, Thinking)) == "old"
    assert end == End("stop")
    assert conversation.messages == [
        {"role": "user", "content": "blue"},
        {"role": "assistant", "content": "red", "reasoning_content": "old"},
    ]
    list(conversation.say("big"))
    messages = [{"role": "system", "content": "the cat"}, *conversation.messages[:3]]
    assert engine.prompts[1] == tokenizer.encode_chat(messages, add_generation_prompt=True)[0]


def test_thinking_is_opened_in_the_prompt(tokenizer: Tokenizer) -> None:
    engine = Scripted(ids_of(tokenizer, "old\n</think>\n\nred"))
    conversation = Conversation(LocalBackend(engine, tokenizer), params=PARAMS, think=True)
    kinds = {event.text: type(event) for event in conversation.say("blue") if not isinstance(event, End)}
    assert kinds == {"old": Thinking, "": Text, "red": Text}
    assert tokenizer.decode(engine.prompts[0], skip_special=False).endswith("<think>\n")
    assert conversation.messages[-1] == {"role": "assistant", "content": "red", "reasoning_content": "old"}


def test_an_answer_broken_off_is_kept_as_far_as_it_came(tokenizer: Tokenizer) -> None:
    engine = Scripted(ids_of(tokenizer, " red blue old"))
    conversation = Conversation(LocalBackend(engine, tokenizer), params=PARAMS)
    answer = conversation.say("big")
    heard = next(answer).text
    answer.close()
    assert engine.closed
    assert conversation.messages[-1]["content"] == heard


def test_old_turns_are_forgotten_the_system_message_is_not(tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "the cat"}]
    for number in range(10):
        messages += [{"role": "user", "content": f"{number} red"}, {"role": "assistant", "content": "blue"}]
    messages.append({"role": "user", "content": "the last"})
    prompt = chat_prompt(tokenizer, messages, context=150, max_tokens=50)
    text = tokenizer.decode(prompt, skip_special=False)
    assert len(prompt) <= 100
    assert "the cat" in text
    assert "the last" in text
    assert "0 red" not in text
    assert "9 red" in text
    # The longest tail of the conversation that fits, from a user turn on.
    first = next(number for number in range(10) if f"{number} red" in text)
    longer = [messages[0], *messages[1 + 2 * (first - 1) :]]
    assert len(tokenizer.encode_chat(longer, add_generation_prompt=True)[0]) > 100


def test_a_long_answer_may_take_at_most_half_of_the_context(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "blue"}]
    messages.append({"role": "user", "content": "old"})
    whole = tokenizer.encode_chat(messages, add_generation_prompt=True)[0]
    assert chat_prompt(tokenizer, messages, context=2 * len(whole), max_tokens=10_000) == whole


def test_a_message_longer_than_the_context_is_refused_and_forgotten(tokenizer: Tokenizer) -> None:
    conversation = Conversation(LocalBackend(Scripted([], context=60), tokenizer), params=PARAMS)
    with pytest.raises(UserError, match="context is 60; shorten it"):
        list(conversation.say("red " * 100))
    assert conversation.messages == []
    assert list(conversation.say("red")) == [End("stop")]


def test_tool_calls_are_taken_apart(tokenizer: Tokenizer) -> None:
    ids = ids_of(tokenizer, 'red\n<tool_call>\n{"name": "sees", "arguments": {"a": 1}}\n</tool_call>')
    message = assistant_message(ids, tokenizer, open_thinking=False)
    assert message["tool_calls"] == [{"name": "sees", "arguments": {"a": 1}}]
    assert message["content"] == "red"


def test_with_a_real_engine(talker: Path, tokenizer: Tokenizer) -> None:
    conversation = Conversation(LocalBackend(Engine(load_model(talker / "model")), tokenizer), params=PARAMS)
    for turn in range(12):  # longer than the context of 256
        list(conversation.say(f"{turn} the cat sees a tree"))
    assert len(conversation.messages) == 24
    assert 1 <= conversation.answer_tokens <= 8
