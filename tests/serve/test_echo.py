"""/v1/completions as lm-evaluation-harness and others score texts with it: the prompt's own log-probabilities."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import torch
from tests.serve.conftest import Served

from minimind import Model

TEXT = "the cat sees 😀 the old dog"


def complete(served: Served, prompt: Any, **body: Any) -> Any:
    return served.client.completions.create(model="tiny", prompt=prompt, temperature=0, extra_body=body)


def expected(model: Model, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of what comes after each of the ids, by the plain forward pass."""
    return model.logits(ids).log_softmax(-1)


@pytest.mark.parametrize("chunk", [3, 256])
def test_the_prompts_logprobs_are_the_models(served: Served, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(served.model.engine, "prefill_tokens", chunk)
    ids = served.model.tokenizer.encode(TEXT)
    rows = expected(served.model, ids)
    for prompt in (TEXT, ids, [TEXT], [ids]):
        choice = complete(served, prompt, echo=True, max_tokens=0, logprobs=2).choices[0]
        assert (choice.text, choice.finish_reason) == (TEXT, "length")
        found = choice.logprobs
        assert len(found.tokens) == len(ids)
        assert found.token_logprobs[0] is found.top_logprobs[0] is None
        own = [float(row[token]) for row, token in zip(rows, ids[1:])]
        assert found.token_logprobs[1:] == pytest.approx(own, abs=1e-4)
        for token, logprob, top, row in zip(
            found.tokens[1:], found.token_logprobs[1:], found.top_logprobs[1:], rows
        ):
            assert top[token] == logprob
            assert list(top.values())[:2] == pytest.approx(row.topk(2).values.tolist(), abs=1e-4)


def test_echo_and_an_answer_are_one_text(served: Served) -> None:
    """The harness takes all but the last entry, so there has to be one for an end of the answer, too."""
    tokenizer = served.model.tokenizer
    for prompts in ([TEXT, "the cat"], [tokenizer.encode("a dog"), [tokenizer.bos_id]]):
        answer = complete(served, prompts, echo=True, max_tokens=1, logprobs=1, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        for choice in answer.choices:
            prompt = prompts[choice.index // 2]
            ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
            assert len(choice.logprobs.token_logprobs) == len(ids) + 1
            row = expected(served.model, ids)[-1]
            assert choice.logprobs.token_logprobs[-1] == pytest.approx(float(row.max()), abs=1e-4)
            offsets = choice.logprobs.text_offset
            assert offsets == sorted(offsets)
            assert offsets[-1] == len(tokenizer.decode(ids))
        assert answer.usage.prompt_tokens == sum(
            len(tokenizer.encode(one)) if isinstance(one, str) else len(one) for one in prompts
        )


def test_the_end_of_an_answer_has_a_logprob(served: Served) -> None:
    ended = complete(served, served.model.tokenizer.encode("the cat"), max_tokens=500, logprobs=1).choices[0]
    if ended.finish_reason == "stop":
        assert ended.logprobs.tokens[-1] in ("<|im_end|>", "<|endoftext|>")
        assert ended.logprobs.text_offset[-1] == len(ended.text)


def test_false_is_no_number_of_logprobs(served: Served) -> None:
    assert complete(served, TEXT, logprobs=False, max_tokens=1).choices[0].logprobs is None
    assert complete(served, TEXT, logprobs=0, max_tokens=1).choices[0].logprobs.top_logprobs != []


def test_an_echo_is_streamed_as_it_is_whole(served: Served) -> None:
    asked: dict[str, Any] = {"echo": True, "max_tokens": 6, "logprobs": 2}
    whole = complete(served, [TEXT, "a dog"], **asked)
    texts = ["", ""]
    columns: list[dict[str, list[Any]]] = [{}, {}]
    for chunk in served.client.completions.create(
        model="tiny", prompt=[TEXT, "a dog"], temperature=0, stream=True, extra_body=asked
    ):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        for name, values in choice.logprobs.model_dump().items():
            columns[choice.index].setdefault(name, []).extend(values)
    assert texts == [choice.text for choice in whole.choices]
    assert columns == [choice.logprobs.model_dump() for choice in whole.choices]


def test_a_text_may_fill_the_context(served: Served) -> None:
    ids = served.model.tokenizer.encode(TEXT) * 200
    full = ids[: served.model.engine.context]
    answer = complete(served, full, echo=True, max_tokens=0, logprobs=0).choices[0]
    assert len(answer.logprobs.tokens) == len(full)
    for prompt, limit in ((full, 1), ([*full, 5], 0)):
        url = served.url + "/v1/completions"
        refused = httpx.post(url, json={"prompt": prompt, "echo": True, "max_tokens": limit}).json()["error"]
        assert (refused["code"], refused["param"]) == ("context_length_exceeded", "prompt")
        assert "maximum context length is 1024 tokens" in refused["message"]


def test_a_text_begins_as_in_training_unless_it_is_scored(served: Served) -> None:
    usage = {
        (echo, special): complete(served, "the cat", echo=echo, add_special_tokens=special, max_tokens=1).usage
        for echo in (False, True)
        for special in (None, False, True)
    }
    plain = len(served.model.tokenizer.encode("the cat"))
    lengths = {key: value.prompt_tokens - plain for key, value in usage.items()}
    assert lengths == {
        (False, None): 1,
        (False, False): 0,
        (False, True): 1,
        (True, None): 0,
        (True, False): 0,
        (True, True): 1,
    }


def test_no_piece_of_a_character_hides_another(served: Served) -> None:
    """A character in several tokens: each is spelled on its own, stands among the likeliest, and has its place."""
    ids = served.model.tokenizer.encode("a 😀 b")
    logprobs = complete(served, ids, echo=True, max_tokens=0, logprobs=20).choices[0].logprobs
    pieces = [token for token in logprobs.tokens if token.startswith("bytes:")]
    assert len(pieces) > 1
    spelled = b"".join(
        bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")) if token in pieces else token.encode()
        for token in logprobs.tokens
    )
    assert spelled.decode() == "a 😀 b"
    for token, own, top in zip(logprobs.tokens[1:], logprobs.token_logprobs[1:], logprobs.top_logprobs[1:]):
        assert len(top) in (20, 21)
        assert top[token] == own
    text = served.model.tokenizer.decode(ids)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset):
        assert text[offset:].startswith("😀" if token in pieces else token)


def test_scoring_leaves_other_answers_alone(served_endless: Served) -> None:
    body = {
        "messages": [{"role": "user", "content": "the cat"}],
        "temperature": 0,
        "max_tokens": 60,
        "stream": True,
    }
    texts: list[str] = []
    for disturbed in (False, True):
        text = ""
        with httpx.stream("POST", served_endless.url + "/v1/chat/completions", json=body) as response:
            for number, line in enumerate(response.iter_lines()):
                if disturbed and number == 20:
                    answer = complete(served_endless, TEXT * 20, echo=True, max_tokens=0, logprobs=3)
                    assert answer.choices[0].text == TEXT * 20
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        texts.append(text)
    assert texts[0] == texts[1] != ""
