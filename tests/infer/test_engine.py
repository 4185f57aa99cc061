"""The engine against the slowest generator there is: one request at a time, the whole text at every token."""

import math
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import SHAPE, random_ids, random_model

from minimind.errors import UserError
from minimind.eval.longctx import at_other_positions
from minimind.infer import engine as engine_module
from minimind.infer import slots
from minimind.infer.engine import Engine
from minimind.infer.events import End, Token
from minimind.infer.inputs import Inputs
from minimind.infer.network import Network
from minimind.infer.request import Completion, Request
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.model.rope import scale_rope

MODELS = {
    "qwen3": random_model(tie_word_embeddings=False),
    "llama": random_model(tie_word_embeddings=False, model_type="llama"),
}
MODEL = MODELS["qwen3"]
VOCAB = SHAPE["vocab_size"]
CONTEXT = SHAPE["max_position_embeddings"]
ENDLESS = SamplingParams(temperature=0, max_tokens=1000, stop_ids=())
GREEDY = SamplingParams(temperature=0, max_tokens=8, stop_ids=())


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
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(length)] for length in lengths]


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
    model = at_other_positions(model, scale_rope(model.config, 4, rope_type, trained=32))
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
    assert stopped.ids == free.ids[: (at := free.ids.index(stop))]
    assert stopped.logprobs == free.logprobs[:at]
    assert (stopped.stop_id, stopped.stop_logprob) == (stop, free.logprobs[at])


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


@pytest.mark.parametrize("budget", [7, 64, 1000])
def test_long_prompts_are_prefilled_in_chunks(budget: int) -> None:
    prompts = random_prompts([200, 131, 64, 65, 1, 128, 199])
    params = SamplingParams(temperature=0, max_tokens=6, stop_ids=())
    found = Engine(MODEL, max_batch=4, prefill_tokens=budget).generate(prompts, params)
    assert [c.ids for c in found] == [reference(MODEL, prompt, params).ids for prompt in prompts]


def ids_of(news: Iterable[Token | End]) -> list[int]:
    *tokens, end = news
    assert isinstance(end, End)
    return [token.id for token in tokens]


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
    assert ids_of([first, *stream]) == engine.generate([prompt], sampled(3))[0].ids


def test_closing_a_stream_frees_its_slot() -> None:
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
    assert ids_of([heard[0], heard[2], *stream]) == wanted


def test_threads_share_the_engine() -> None:
    prompts, params = random_prompts([30, 9, 40, 5]), sampled(3)
    wanted = [completion.ids for completion in Engine(MODEL).generate(prompts, params)]
    engine = Engine(MODEL, max_batch=3)
    with ThreadPoolExecutor(len(prompts)) as pool:
        for _ in range(5):
            assert list(pool.map(lambda prompt: ids_of(engine.stream(prompt, params)), prompts)) == wanted
    assert not engine.active


def test_an_interrupted_batch_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(MODEL, max_batch=2)
    prompts = random_prompts([10, 20, 30, 40])
    calls = iter(range(100))
    sample = engine_module.sample_next

    def interrupt(*arguments: Any) -> None:
        sample(*arguments)
        if next(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine_module, "sample_next", interrupt)
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


@pytest.fixture
def short_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SHORTEST", 16)


@pytest.mark.usefixtures("short_slots")
def test_an_idle_engine_holds_no_slots_and_a_long_answer_no_short_ones() -> None:
    engine = Engine(MODEL, max_batch=64)
    requests = [engine.submit(prompt, ENDLESS) for prompt in random_prompts([3, 3, 3, 40])]
    while requests[0].length < 30:
        engine.step()
    rows = {group.length: group.cache and group.cache.rows for group in engine.slots.groups}
    assert rows == {16: None, 32: 4, 64: None, 128: 1}
    engine.cancel(requests)
    assert all(group.cache is None for group in engine.slots.groups)


def run(engine: Engine, requests: list[Request]) -> None:
    while any(request.stop_reason is None for request in requests):
        engine.step()


Arrival = tuple[int, int, int, int]  # at which step, how long, how much of it shared, how many tokens or canceled


@pytest.mark.usefixtures("short_slots")
@pytest.mark.parametrize("model_type", MODELS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(0, 60), st.integers(-20, 20)), max_size=12
    ),
    max_batch=st.integers(1, 6),
    prefill_tokens=st.integers(1, 80),
    prefix_bytes=st.sampled_from([0, 20_000, 2**28]),
)
def test_every_request_is_answered_as_if_it_were_alone(
    model_type: str, arrivals: list[Arrival], max_batch: int, prefill_tokens: int, prefix_bytes: int
) -> None:
    """Whenever it comes, whatever it shares with others, and whoever of them goes."""
    model = MODELS[model_type]
    engine = Engine(model, max_batch, prefill_tokens=prefill_tokens, prefix_bytes=prefix_bytes)
    common = random_prompts([60], seed=1)[0]
    own = random_prompts([length for _, length, _, _ in arrivals], seed=2)
    requests: list[tuple[Request, int]] = []
    for step in range(21):
        for prompt, (when, _, shared, tokens) in zip(own, arrivals):
            if when == step:
                params = SamplingParams(temperature=0, max_tokens=max(tokens, 1), stop_ids=(3, 4))
                leaves = step - tokens if tokens < 1 else 10**6
                requests.append((engine.submit(common[:shared] + prompt, params), leaves))
        engine.cancel([request for request, leaves in requests if leaves == step])
        engine.step()
        assert len(engine.active) <= max_batch
        assert engine.prefix_cache.bytes <= prefix_bytes
    engine.cancel([request for request, leaves in requests if leaves < 10**6])
    staying = [request for request, leaves in requests if leaves == 10**6]
    run(engine, staying)
    for request in staying:
        wanted = reference(model, request.prompt, request.params)
        assert (request.ids, request.stop_reason) == (wanted.ids, wanted.stop_reason)
        assert request.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    assert not engine.active
    assert not engine.waiting


def test_a_long_prompt_stops_nobody() -> None:
    engine = Engine(MODEL, prefill_tokens=16)
    first = engine.submit([1, 2, 3], ENDLESS)
    engine.step()
    second = engine.submit(random_prompts([160])[0], ENDLESS)
    for step in range(10):
        assert not second.ids
        engine.step()
        assert len(first.ids) == step + 2
    assert len(second.ids) == 1
    assert first.ids == reference(MODEL, first.prompt, ENDLESS).ids[: len(first.ids)]


def test_what_prompts_share_is_prefilled_once() -> None:
    shared = random_prompts([150])[0]
    prompts = [shared + [token] * 5 for token in range(6)]
    engine = Engine(MODEL, prefill_tokens=64)
    requests = [engine.submit(prompt, GREEDY) for prompt in prompts]
    run(engine, requests)
    assert [request.reused for request in requests] == [0] + [150] * 5
    assert [r.ids for r in requests] == [reference(MODEL, prompt, GREEDY).ids for prompt in prompts]


def test_a_conversation_goes_on_where_it_was() -> None:
    engine = Engine(MODEL)
    prompt = random_prompts([30])[0]
    answer = engine.generate([prompt], GREEDY)[0].ids
    request = engine.submit([*prompt, *answer, 1, 2], GREEDY)
    run(engine, [request])
    assert request.reused == 30 + len(answer) - 1  # the last token was never prefilled
    assert request.ids == reference(MODEL, request.prompt, GREEDY).ids


def test_cached_prefixes_are_those_used_last_and_go_with_the_weights() -> None:
    per_token = engine_module.Network(MODEL).cache(1, 1).memory.nbytes
    engine = Engine(MODEL, prefix_bytes=100 * per_token)
    first, second, third, fourth = random_prompts([40, 40, 40, 130])
    for prompt in (first, second, first, third, fourth):
        engine.generate([prompt], SamplingParams(temperature=0, max_tokens=1, stop_ids=()))
    assert {text.ids for text in engine.prefix_cache.texts} == {tuple(first), tuple(third)}
    engine.refresh()
    assert not engine.prefix_cache.texts


def test_top_logprobs_are_the_models() -> None:
    prompt = random_prompts([9])[0]
    params = SamplingParams(temperature=0.5, top_k=2, max_tokens=4, stop_ids=(), top_logprobs=3, seed=0)
    with_top, plain = Engine(MODEL).generate([prompt, prompt], [params, replace(params, top_logprobs=0)])
    assert with_top.ids == plain.ids
    assert plain.top_logprobs == []
    logits = MODEL.logits(MODEL(torch.tensor([prompt + with_top.ids])))[0, len(prompt) - 1 : -1] / 0.5
    for row, top in zip(logits.log_softmax(-1), with_top.top_logprobs, strict=True):
        values, ids = row.topk(3)
        assert [token for token, _ in top] == ids.tolist()
        assert [logprob for _, logprob in top] == pytest.approx(values.tolist(), abs=1e-4)


def test_penalties_and_biases_act_on_their_own_request() -> None:
    prompt = random_prompts([9])[0]
    free = Engine(MODEL).generate([prompt], GREEDY)[0].ids
    forced = replace(GREEDY, logit_bias=((7, 1000.0),))
    never_twice = replace(GREEDY, presence_penalty=100.0)
    found = Engine(MODEL).generate([prompt] * 3, [forced, GREEDY, never_twice])
    assert found[0].ids == [7] * GREEDY.max_tokens
    assert found[1].ids == free
    assert len(set(found[2].ids)) == GREEDY.max_tokens


def test_an_endless_loop_ends_where_that_is_wished() -> None:
    prompt = random_prompts([9])[0]
    forced = SamplingParams(temperature=0, max_tokens=50, stop_ids=(), logit_bias=((7, 1000.0),))
    completion = Engine(MODEL, max_repeats=5).generate([prompt], forced)[0]
    assert (completion.ids, completion.stop_reason) == ([7] * 5, "loop")
    assert len(Engine(MODEL).generate([prompt], forced)[0].ids) == 50
    with pytest.raises(UserError, match="max_repeats"):
        Engine(MODEL, max_repeats=1)


def test_int8_is_close_and_does_not_depend_on_the_batch() -> None:
    prompts = random_prompts([5, 40, 17, 60])
    params = SamplingParams(temperature=0, max_tokens=12, stop_ids=())
    together = Engine(MODEL, weights="int8").generate(prompts, params)
    for prompt, completion in zip(prompts, together):
        assert completion.ids == Engine(MODEL, weights="int8").generate([prompt], params)[0].ids
        text = torch.tensor([prompt + completion.ids])
        wanted = MODEL.logits(MODEL(text))[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = wanted.gather(-1, torch.tensor(completion.ids)[:, None])[:, 0]
        assert completion.logprobs == pytest.approx(wanted.tolist(), abs=0.5)


def test_int8_is_for_dense_models() -> None:
    model = random_model(model_type="qwen3_moe")
    with pytest.raises(UserError, match="dense models"):
        Engine(model, weights="int8").generate([[1]], GREEDY)


def test_random_answers_are_not_degenerate() -> None:
    """The model used here really wanders; a constant answer would hide mistakes in positions."""
    ids = Engine(MODEL).generate(random_ids(1, 20).tolist(), ENDLESS)[0].ids
    entropy = -sum((n := ids.count(t) / len(ids)) * math.log(n) for t in set(ids))
    assert entropy > 2.5


@pytest.mark.parametrize("length", [12, 60])
def test_a_prompt_that_many_ask_is_prefilled_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then each of the others costs its last token alone, as if it were decoded."""
    computed: list[int] = []
    hidden = Network.hidden

    def counted(network: Network, inputs: Inputs) -> torch.Tensor:
        computed.append(len(inputs.tokens))
        return hidden(network, inputs)

    monkeypatch.setattr(Network, "hidden", counted)
    prompts = random_prompts([length, length])
    params = [replace(sampled(seed), max_tokens=5) for seed in range(16)]
    together = Engine(MODEL).generate([prompts[i // 8] for i in range(16)], params)
    assert sum(computed) == 2 * length + 14 + 16 * 4
    alone = [Engine(MODEL).generate([prompts[i // 8]], params[i])[0] for i in range(16)]
    assert [one.ids for one in together] == [one.ids for one in alone]
