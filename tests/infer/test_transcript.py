"""The token-level transcript of a conversation: exactly what the model saw and sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pupil import CALLS, SEES, train_pupil
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer.conversation import Conversation, LocalBackend, Transcript
from minimind.infer.engine import Engine
from minimind.infer.events import ToolCall
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.tokenizer import Tokenizer
from minimind.tools import Tool, Toolbox

COLORS = {"cat": "red", "dog": "big"}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def pupil(tokenizer: Tokenizer) -> Transformer:
    return train_pupil(tokenizer)


def begin(model: Transformer, tokenizer: Tokenizer, engine: Engine | None = None, **fields: Any) -> Conversation:
    return Conversation(LocalBackend(engine or Engine(model), tokenizer, Transcript()), **fields)


def transcript_of(conversation: Conversation) -> Transcript:
    assert isinstance(conversation.backend, LocalBackend)
    assert conversation.backend.transcript is not None
    return conversation.backend.transcript


def sampled_ids(transcript: Transcript) -> list[int]:
    return [token for token, mask in zip(transcript.ids, transcript.mask, strict=True) if mask]


@torch.no_grad()
def check_logprobs(model: Transformer, transcript: Transcript, temperature: float) -> None:
    ids = torch.tensor([transcript.ids])
    logprobs = (model.logits(model(ids))[0, :-1] / temperature).log_softmax(-1)
    wanted = [0.0, *logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()]
    wanted = [logprob * mask for logprob, mask in zip(wanted, transcript.mask, strict=True)]
    assert transcript.logprobs == pytest.approx(wanted, abs=1e-5)


def test_a_turn_with_tools(pupil: Transformer, tokenizer: Tokenizer) -> None:
    """Prompts as the tokenizer renders them, answers as the engine sampled them, one after the other."""
    schema = SEES["function"]
    sees = Tool("sees", schema["description"], schema["parameters"], lambda arguments: COLORS[arguments["a"]])
    params, tools = SamplingParams(temperature=0, max_tokens=100), Toolbox([sees])
    conversation = begin(pupil, tokenizer, params=params, tools=tools)
    events = list(conversation.say("both"))
    assert [event.name for event in events if isinstance(event, ToolCall)] == ["sees", "sees"]
    assert conversation.messages[-1]["content"] == "the red cat and the big dog"
    transcript = transcript_of(conversation)

    parts, ids = [], []
    for count in (1, 4):  # the question; with the calls and their two results
        messages = [
            {"role": "user", "content": "both"},
            {"role": "assistant", "content": "a cat", "tool_calls": CALLS},
        ]
        messages += [{"role": "tool", "content": COLORS[one]} for one in ("cat", "dog")]
        prompt = tokenizer.encode_chat(messages[:count], tools.schemas, add_generation_prompt=True)[0]
        (completion,) = Engine(pupil).generate([prompt], params)
        answer = [*completion.ids, completion.stop_id]
        parts.append((prompt[len(ids) :], answer))
        ids = prompt + answer
    assert transcript.ids == ids
    assert transcript.mask == [mask for prompt, answer in parts for mask in [0] * len(prompt) + [1] * len(answer)]
    check_logprobs(pupil, transcript, temperature=1.0)


@pytest.mark.parametrize("stop_ids", [(2, 0), (5, 9, 30)])
def test_sampled_ids_are_never_rendered_anew(tokenizer: Tokenizer, stop_ids: tuple[int, ...]) -> None:
    """Also where their text encodes in another way, and where a turn is cut off or ends with another token."""
    model = random_model(vocab_size=tokenizer.vocab_size)
    params = SamplingParams(temperature=0.8, top_p=0.9, max_tokens=12, stop_ids=stop_ids, seed=5)
    conversation = begin(model, tokenizer, params=params)
    for text in ("the cat", "a dog", "blue"):
        list(conversation.say(text))
    transcript = transcript_of(conversation)
    check_logprobs(model, transcript, temperature=0.8)
    seen: list[int] = []
    for number, text in enumerate(("the cat", "a dog", "blue")):
        user = tokenizer.encode_chat([{"role": "user", "content": text}], add_generation_prompt=True)[0]
        if number:
            user = [*([] if seen[-1] == tokenizer.eos_id else [tokenizer.eos_id]), *tokenizer.encode("\n"), *user]
        (completion,) = Engine(model).generate([seen + user], params)
        seen += user + completion.ids + ([] if completion.stop_id is None else [completion.stop_id])
    assert transcript.ids == seen
    rendered = tokenizer.encode_chat(conversation.messages[:-1], add_generation_prompt=True)[0]
    assert seen[: len(rendered)] != rendered


def test_conversations_side_by_side_are_what_they_are_alone(tokenizer: Tokenizer) -> None:
    """Taken forward in turn they share the engine's steps, and so are generated in one batch."""
    model = random_model(vocab_size=tokenizer.vocab_size)
    texts, params = ("the cat", "a dog", "blue"), SamplingParams(max_tokens=12, seed=3)
    engine = Engine(model)
    together = [begin(model, tokenizer, engine, params=params) for _ in texts]
    streams = [conversation.say(text) for conversation, text in zip(together, texts)]
    while streams:
        streams = [stream for stream in streams if next(stream, None) is not None]
    for conversation, text in zip(together, texts):
        alone = begin(model, tokenizer, params=params)
        list(alone.say(text))
        assert alone.messages == conversation.messages
        assert transcript_of(alone).ids == transcript_of(conversation).ids


def test_a_conversation_that_outgrows_the_context_keeps_its_transcript(tokenizer: Tokenizer) -> None:
    model = random_model(vocab_size=tokenizer.vocab_size)
    conversation = begin(model, tokenizer, params=SamplingParams(max_tokens=40, stop_ids=(), seed=1))
    list(conversation.say("the cat"))
    before = list(transcript_of(conversation).ids)
    with pytest.raises(UserError, match="context is 256 tokens"):
        list(conversation.say("the cat " * 100))
    assert transcript_of(conversation).ids == before
    assert sampled_ids(transcript_of(conversation)) == before[-40:]
