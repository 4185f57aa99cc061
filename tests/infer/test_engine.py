"""The engine against the slowest generator there is: one request at a time, the whole text at every token."""

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import SHAPE, random_ids, random_model

from minimind.errors import UserError
from minimind.eval.longctx import at_other_positions
from minimind.infer import engine as engine_module
from minimind.infer.engine import Completion, Engine, SamplingParams
from minimind.model import Transformer
from minimind.model.rope import stretch

MODELS = {
    "qwen3": random_model(tie_word_embeddings=False),
    "llama": random_model(tie_word_embeddings=False, model_type="llama"),
}
MODEL = MODELS["qwen3"]
VOCAB = SHAPE["vocab_size"]
CONTEXT = SHAPE["max_position_embeddings"]
ENDLESS = SamplingParams(temperature=0, max_tokens=1000, stop_ids=())


@torch.no_grad()
def reference(model: Transformer, prompt: list[int], params: SamplingParams) -> Completion:
    """Greedy, without a cache."""
    ids: list[int] = []
    logprobs: list[float] = []
    while len(ids) < params.max_tokens and len(prompt) + len(ids) < model.config.max_position_embeddings:
        logits = model.logits(model(torch.tensor([prompt + ids])))[0, -1]
        token = int(logits.argmax())
        if token in params.stop_ids:
            return Completion(ids, "stop", logprobs)
        ids.append(token)
        logprobs.append(float(logits.log_softmax(-1)[token]))
    return Completion(ids, "length", logprobs)


def random_prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    luck = random.Random(seed)
    return [[luck.randrange(VOCAB) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("model_type", MODELS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 14)), min_size=1, max_size=10),
    max_batch=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_greedy_equals_one_at_a_time(
    model_type: str, lengths: list[tuple[int, int]], max_batch: int, seed: int
) -> None:
    model = MODELS[model_type]
    prompts = random_prompts([length for length, _ in lengths], seed)
    params = [SamplingParams(temperature=0, max_tokens=n, stop_ids=(3, 4, 5)) for _, n in lengths]
    found = Engine(model, max_batch=max_batch).generate(prompts, params)
    for completion, prompt, p in zip(found, prompts, params):
        wanted = reference(model, prompt, p)
        assert completion.ids == wanted.ids
        assert completion.stop_reason == wanted.stop_reason
        assert completion.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_stretched_positions_do_not_depend_on_the_rest_of_the_batch(rope_type: Any) -> None:
    """In `dynamic` the angles grow with a text's own length, not with that of the longest prompt beside it."""
    model = random_model(tie_word_embeddings=False, rope_theta=1e4)
    model = at_other_positions(model, stretch(model.config, 4, rope_type, trained=32))
    prompts = random_prompts([10, 90, 31, 33])
    params = SamplingParams(temperature=0, max_tokens=20, stop_ids=())
    for completion, prompt in zip(Engine(model).generate(prompts, params), prompts):
        alone = Engine(model).generate([prompt], params)[0]
        assert completion.ids == alone.ids
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_both_ways_to_end_occur() -> None:
    """Otherwise the test above would say little."""
    params = SamplingParams(temperature=0, max_tokens=20, stop_ids=(3, 4, 5))
    reasons = [c.stop_reason for c in Engine(MODEL, max_batch=8).generate(random_prompts([10] * 60), params)]
    assert {"stop", "length"} == set(reasons)


def test_the_stop_token_is_left_out() -> None:
    prompt = random_prompts([20])[0]
    free = Engine(MODEL).generate([prompt], ENDLESS)[0]
    stop = free.ids[6]
    stopped = Engine(MODEL).generate([prompt], SamplingParams(temperature=0, stop_ids=(stop,)))[0]
    assert stopped.stop_reason == "stop"
    assert stopped.ids == free.ids[: free.ids.index(stop)]
    assert len(stopped.logprobs) == len(stopped.ids)


def test_generation_ends_where_the_context_is_full() -> None:
    prompts = random_prompts([CONTEXT - 5, CONTEXT - 1, 3])
    for prompt, completion in zip(prompts, Engine(MODEL, max_batch=2).generate(prompts, ENDLESS)):
        assert len(completion.ids) == CONTEXT - len(prompt)
        assert completion.stop_reason == "length"
        assert completion.ids == reference(MODEL, prompt, ENDLESS).ids


def test_prompts_without_room_are_refused() -> None:
    engine = Engine(MODEL)
    with pytest.raises(UserError, match=f"{CONTEXT} tokens, but the model's context is {CONTEXT}"):
        engine.generate([[1], [1] * CONTEXT], ENDLESS)
    with pytest.raises(UserError, match="empty"):
        engine.generate([[]], ENDLESS)
    assert not engine.waiting


@pytest.mark.parametrize("budget", [1, 64, 100])
def test_long_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(engine_module, "PREFILL_TOKENS", budget)
    prompts = random_prompts([200, 131, 64, 65, 1, 128, 199])
    params = SamplingParams(temperature=0, max_tokens=6, stop_ids=())
    found = Engine(MODEL, max_batch=4).generate(prompts, params)
    assert [c.ids for c in found] == [reference(MODEL, prompt, params).ids for prompt in prompts]


def sampled(seed: int | None, temperature: float = 1.0, **others: float) -> SamplingParams:
    return SamplingParams(temperature=temperature, max_tokens=12, stop_ids=(), seed=seed, **others)


def test_a_seed_gives_the_same_text_alone_and_in_company() -> None:
    prompts = random_prompts([5, 40, 17, 17, 60, 3, 88])
    params = [sampled(seed, top_p=0.9 if seed % 2 else 1.0, top_k=seed) for seed in range(len(prompts))]
    together = Engine(MODEL, max_batch=3).generate(prompts, params)
    alone = [Engine(MODEL).generate([prompt], p)[0] for prompt, p in zip(prompts, params)]
    assert [c.ids for c in together] == [c.ids for c in alone]


def test_one_seed_for_equal_prompts_gives_equal_answers() -> None:
    prompt = random_prompts([10])[0]
    first, second, other = Engine(MODEL).generate([prompt] * 3, [sampled(7), sampled(7), sampled(8)])
    assert first.ids == second.ids
    assert first.ids != other.ids


def test_without_a_seed_answers_differ_and_no_shared_generator_is_touched() -> None:
    prompt = random_prompts([10])[0]
    before = torch.get_rng_state(), random.getstate()
    answers = Engine(MODEL).generate([prompt] * 4, sampled(None))
    assert len({tuple(c.ids) for c in answers}) == 4
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_logprobs_of_sampled_tokens_are_those_of_the_model() -> None:
    prompts = random_prompts([9, 30])
    params = sampled(1, temperature=0.7, top_p=0.8, repetition_penalty=1.2)
    for prompt, completion in zip(prompts, Engine(MODEL).generate(prompts, params)):
        text = torch.tensor([prompt + completion.ids])
        logits = MODEL.logits(MODEL(text))[0, len(prompt) - 1 : -1] / 0.7
        wanted = logits.log_softmax(-1).gather(-1, torch.tensor(completion.ids)[:, None])[:, 0]
        assert completion.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


def test_stream_gives_the_same_ids_one_at_a_time() -> None:
    prompt = random_prompts([30])[0]
    engine = Engine(MODEL)
    stream = engine.stream(prompt, sampled(3))
    first = next(stream)
    assert not torch.is_inference_mode_enabled(), "the consumer's code must not run in inference mode"
    assert [first, *stream] == engine.generate([prompt], sampled(3))[0].ids


def test_closing_a_stream_frees_its_row() -> None:
    engine = Engine(MODEL)
    stream = engine.stream(random_prompts([30])[0], ENDLESS)
    next(stream)
    stream.close()
    assert not engine.active
    assert not engine.waiting


def test_streams_and_batches_share_the_engine() -> None:
    prompts = random_prompts([30, 31, 5, 6, 7])
    engine = Engine(MODEL, max_batch=4)
    stream = engine.stream(prompts[0], ENDLESS)
    other = engine.stream(prompts[1], ENDLESS)
    heard = [next(stream), next(other), next(stream)]
    batch = engine.generate(prompts[2:], sampled(0, temperature=0))
    assert [c.ids for c in batch] == [c.ids for c in Engine(MODEL).generate(prompts[2:], sampled(0, temperature=0))]
    other.close()
    wanted = reference(MODEL, prompts[0], ENDLESS).ids
    assert [heard[0], heard[2], *stream] == wanted


def test_an_interrupted_batch_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(MODEL, max_batch=2)
    prompts = random_prompts([10, 20, 30, 40])
    calls = iter(range(100))

    def interrupt(*_: object) -> None:
        if next(calls) == 5:
            raise KeyboardInterrupt
        Engine._decode(engine)

    monkeypatch.setattr(engine, "_decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(prompts, ENDLESS)
    assert not engine.active
    assert not engine.waiting
    monkeypatch.undo()
    params = SamplingParams(temperature=0, max_tokens=5, stop_ids=())
    assert engine.generate(prompts[:1], params)[0].ids == reference(MODEL, prompts[0], params).ids


def test_refresh_takes_over_changed_weights() -> None:
    """fp32 masters computed in bf16 are cast once; after a change only refresh makes the engine see it."""
    model = random_model(tie_word_embeddings=False)
    model.compute_dtype = torch.bfloat16
    engine = Engine(model)
    prompt = random_prompts([20])[0]
    params = SamplingParams(temperature=0, max_tokens=10, stop_ids=())
    before = engine.generate([prompt], params)[0].ids
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.roll(1, 0))
    assert engine.generate([prompt], params)[0].ids == before
    engine.refresh()
    after = engine.generate([prompt], params)[0].ids
    assert after == Engine(model).generate([prompt], params)[0].ids
    assert after != before
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_compiled_blocks_are_not_compiled_again_for_every_length() -> None:
    model = random_model(tie_word_embeddings=False)

    def backend(*_: object) -> None:
        raise AssertionError("compiled")

    for block in model.model.layers:
        block.compile(backend=backend)
    params = SamplingParams(temperature=0, max_tokens=3, stop_ids=())
    prompt = random_prompts([9])[0]
    assert Engine(model).generate([prompt], params) == Engine(MODEL).generate([prompt], params)


def test_the_cache_grows_no_longer_than_needed() -> None:
    engine = Engine(MODEL, max_batch=64)
    engine.generate(random_prompts([10, 12]), SamplingParams(temperature=0, max_tokens=8, stop_ids=()))
    assert (engine.cache.rows, engine.cache.length) == (2, 64)


def test_random_answers_are_not_degenerate() -> None:
    """The model used here really wanders; a constant answer would hide mistakes in positions."""
    ids = Engine(MODEL).generate(random_ids(1, 20).tolist(), ENDLESS)[0].ids
    entropy = -sum((n := ids.count(t) / len(ids)) * math.log(n) for t in set(ids))
    assert entropy > 2.5
