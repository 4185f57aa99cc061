"""A base and its adapters behind one server, as OpenAI's own client uses them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from tests.serve.conftest import Served, process, serve

from minimind import Model
from minimind.cli import main

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "the cat"}]}
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
NAMES = ["tiny", "law", "med"]


@pytest.fixture(scope="module")
def served(talker: Path, adapters: dict[str, Path]) -> Iterator[Served]:
    with serve(Model(talker, device="cpu", adapters=adapters)) as server:
        yield server


@pytest.fixture(scope="module")
def merged(talker: Path, adapters: dict[str, Path]) -> dict[str, Model]:
    """A model of its own for each name, the adapter merged into it."""
    return {name: Model(path, device="cpu") for name, path in {"tiny": talker, **adapters}.items()}


def test_adapters_are_models_with_a_parent(served: Served) -> None:
    models = list(served.client.models.list())
    assert [(model.id, model.model_dump()["parent"]) for model in models] == [
        ("tiny", None),
        ("law", "tiny"),
        ("med", "tiny"),
    ]
    assert served.client.models.retrieve("law") == models[1]
    with pytest.raises(openai.NotFoundError, match="there is no model 'tax' here, but 'tiny', 'law', 'med'"):
        served.client.chat.completions.create(model="tax", **ASK)


def test_each_request_is_answered_by_the_model_that_it_names(served: Served, merged: dict[str, Model]) -> None:
    """All at once, so that they share batches."""
    wanted = {name: model.chat(ASK["messages"], **GREEDY)["content"] for name, model in merged.items()}
    assert len(set(wanted.values())) == 3

    def ask(name: str) -> Any:
        return served.client.chat.completions.create(model=name, n=2, **ASK, **GREEDY)

    with ThreadPoolExecutor(6) as pool:
        for name, answer in zip(NAMES * 4, pool.map(ask, NAMES * 4)):
            assert answer.model == name
            assert [choice.message.content for choice in answer.choices] == [wanted[name]] * 2
    for name in NAMES:
        chunks = list(served.client.chat.completions.create(model=name, stream=True, **ASK, **GREEDY))
        assert {chunk.model for chunk in chunks} == {name}
        assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == wanted[name]


def test_the_other_endpoints(served: Served, merged: dict[str, Model]) -> None:
    for name in NAMES:
        response = served.client.responses.create(model=name, input="the cat", temperature=0, max_output_tokens=12)
        assert response.model == name
        assert response.output_text == merged[name].chat(ASK["messages"], **GREEDY)["content"]
        answer = served.client.completions.create(model=name, prompt="the cat", **GREEDY)
        assert answer.model == name
        assert answer.choices[0].text == merged[name].predict("the cat", **GREEDY)
        answer = served.client.completions.create(model=name, prompt="the cat", logprobs=0, echo=True, max_tokens=1)
        ids = merged[name].tokenizer.encode("the cat")
        logprobs = merged[name].logits(ids)[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert answer.choices[0].logprobs.token_logprobs[1 : len(ids)] == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_as_typed(talker: Path, adapters: dict[str, Path], merged: dict[str, Model]) -> None:
    options = ["--name", "tiny", "--adapter", f"tax={adapters['law']}", "--adapter", str(adapters["med"])]
    with process(str(talker), *options) as (_, url):
        client = OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        assert [model.id for model in client.models.list()] == ["tiny", "tax", "med"]
        answer = client.chat.completions.create(model="tax", **ASK, **GREEDY)
        assert answer.choices[0].message.content == merged["law"].chat(ASK["messages"], **GREEDY)["content"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--adapter", "talker={law}"], "talker is the name of the model and of an adapter; give another --name"),
        (["--adapter", "{law}", "--adapter", "{law}"], "each adapter needs a name of its own; give it as NAME=DIR"),
        (["--adapter", "={law}"], "each adapter needs a name of its own"),
        (["--adapter", "nowhere"], "nowhere is no directory"),
        (["--adapter", "{talker}"], "is a whole model, not an adapter: it has no adapter_config.json"),
    ],
)
def test_mistakes(
    talker: Path,
    adapters: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    typed = [argument.format(talker=talker, **adapters) for argument in arguments]
    assert main(["serve", str(talker), "--port", "0", "--device", "cpu", *typed]) == 2
    assert sentence in capsys.readouterr().err
