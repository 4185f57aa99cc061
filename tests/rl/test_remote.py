"""Rollouts sampled at a server: the same episodes as here, and what goes wrong there in one sentence."""

import pytest
import torch
from tests.helpers import assert_equal_trees, assert_same_run, metrics
from tests.random_models import random_model
from tests.rollout_server import rollout_server

from minimind.cli import main
from minimind.errors import UserError
from minimind.infer import remote, remote_engine
from minimind.infer.engine import Engine
from minimind.infer.remote_engine import RemoteEngine
from minimind.infer.sampler import SamplingParams
from minimind.model import load_model
from minimind.model.lora import LoraOptions, add_lora, lora_layers
from minimind.rl.envs.single_turn import SingleTurn
from minimind.rl.rollout import run_episodes
from minimind.rl.types import Prompt
from minimind.tokenizer import Tokenizer
from minimind.world.sample import user

# A tenth of the tokens end an answer, so that some answers end and some are cut off.
PARAMS = SamplingParams(temperature=0.8, top_p=1.0, max_tokens=6, stop_ids=tuple(range(2, 400, 10)))
PROMPTS = [Prompt([user(text)], [], lambda answer: 0.0) for text in ("the cat", "山", "a big old dog")]
KINDS = pytest.mark.parametrize("kind", ["vllm", "sglang"])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture
def model(tokenizer):
    return policy(tokenizer)


def policy(tokenizer, seed=1):
    return random_model(seed, vocab_size=tokenizer.vocab_size, std=0.1)


@pytest.fixture
def at(model, tokenizer, tmp_path):
    """`at(server)`: the engine there."""

    def engine(server, model=model, temperature=PARAMS.temperature):
        return RemoteEngine(server.url, model, tokenizer, tmp_path / "policy", temperature)

    return engine


def play(engine, tokenizer):
    envs = [SingleTurn(prompt) for prompt in PROMPTS for _ in range(5)]
    return run_episodes(engine, tokenizer, envs, PARAMS, range(len(envs)), 65)


def assert_same_episodes(remote_ones, local_ones):
    assert {one.stop_reason for one in local_ones} == {"stop", "length"}
    for there, here in zip(remote_ones, local_ones, strict=True):
        assert (there.ids, there.mask, there.text) == (here.ids, here.mask, here.text)
        assert there.stop_reason == here.stop_reason
        assert there.logprobs == pytest.approx(here.logprobs, abs=1e-5)


@KINDS
def test_episodes_are_those_of_the_local_engine(kind, at, model, tokenizer):
    """With the weights that it is given, again after they changed; it begins with others."""
    with rollout_server(kind, policy(tokenizer, seed=2)) as server:
        engine = at(server)
        for _ in range(2):
            engine.refresh()
            assert_same_episodes(play(engine, tokenizer), play(Engine(model), tokenizer))
            with torch.no_grad():
                model.model.embed_tokens.weight.mul_(1.5)


def test_an_adapter_is_merged_into_what_the_server_gets(at, model, tokenizer, tmp_path):
    add_lora(model, LoraOptions(rank=2))
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    before = {name: (one.detach().clone(), one.requires_grad) for name, one in model.named_parameters()}
    with rollout_server("vllm", policy(tokenizer)) as server:
        engine = at(server)
        engine.refresh()
        assert_same_episodes(play(engine, tokenizer), play(Engine(model), tokenizer))
    assert not lora_layers(load_model(tmp_path / "policy"))
    after = {name: (one.detach(), one.requires_grad) for name, one in model.named_parameters()}
    assert_equal_trees(after, before)


@KINDS
def test_a_hiccup_is_asked_again(kind, at, model, tokenizer):
    with rollout_server(kind, model) as server:
        engine = at(server)
        engine.refresh()
        whole = play(engine, tokenizer)
        server.fails, server.asked = 4, []
        assert play(engine, tokenizer) == whole
        assert len(server.asked) == len(whole) + 4
        server.fails = 1000
        with pytest.raises(UserError, match="answers with status 500: the engine hiccups"):
            play(engine, tokenizer)


@KINDS
def test_a_server_with_other_weights_is_refused(kind, at, tokenizer):
    with rollout_server(kind, policy(tokenizer, seed=2)) as server:
        server.loads = False
        with pytest.raises(UserError, match=r"does not sample with the weights in .*policy: .* nats a token off"):
            at(server).refresh()


def test_log_probabilities_of_another_temperature_are_refused(at, tokenizer):
    model = random_model(vocab_size=tokenizer.vocab_size, std=0.3)
    with rollout_server("vllm", model) as server:
        server.raw = True
        at(server, model, temperature=1.0).refresh()
        with pytest.raises(UserError, match="--logprobs-mode processed_logprobs"):
            at(server, model, temperature=0.5).refresh()


def test_a_server_that_cannot_load_weights_is_refused(at, model):
    with rollout_server("vllm", model) as server:
        server.dev = False
        with pytest.raises(UserError, match="cannot load weights; start vLLM with VLLM_SERVER_DEV_MODE=1"):
            at(server).refresh()
        server.owner = "openai"
        with pytest.raises(UserError, match=r"is served by openai; rl\.server is one of vLLM or SGLang"):
            at(server)


@pytest.mark.parametrize(
    "answer", [{}, {"choices": []}, {"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [0]}}]}, None]
)
def test_what_no_server_should_send(answer, at, model, tokenizer, monkeypatch):
    with rollout_server("vllm", model) as server:
        engine = at(server)
        monkeypatch.setattr(type(server), "complete", None)
        monkeypatch.setattr("tests.rollout_server.Handler.vllm_completions", lambda handler, body: answer)
        with pytest.raises(UserError, match="answers in a form that is not its kind's"):
            play(engine, tokenizer)


def test_a_server_that_goes_away_leaves_a_checkpoint(grpo, base_model, tmp_path, capsys, monkeypatch):
    """The same command, with the server's new address, goes on from there: as if nothing had happened."""
    monkeypatch.setattr(remote_engine, "RETRIES", 1)
    whole, run = tmp_path / "whole", tmp_path / "run"
    with rollout_server("vllm", load_model(base_model)) as server:
        assert main(grpo(whole, rl__server=server.url, checkpoint__every=None)) == 0
    with rollout_server("vllm", load_model(base_model)) as server:
        load = server.load

        def load_twice(directory):
            load(directory)
            if server.asked.count("/collective_rpc") == 3:
                server.fails = 10**6

        server.load = load_twice
        capsys.readouterr()
        assert main(grpo(run, rl__server=server.url, checkpoint__every=None)) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert said.startswith("error: ")
        assert "status 500: the engine hiccups; step 2 is saved, and the same command goes on" in said
    with rollout_server("vllm", load_model(base_model)) as server:
        assert main(grpo(run, rl__server=server.url, checkpoint__every=None)) == 0
    assert [line["step"] for line in metrics(run) if "eval" not in line] == list(range(1, 7))
    assert_same_run(run, whole)
