"""The sampler against transformers' logits processors."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from minimind.errors import UserError
from minimind.infer.sampler import Adjustment, SamplingParams, relative, sample, sample_inverse_cdf, truncate

VOCAB = 50


def adjust(
    logits: torch.Tensor, params: SamplingParams, text: list[int], answer: Sequence[int] = ()
) -> torch.Tensor:
    adjustment = Adjustment(params, text, len(logits))
    for token in answer:
        adjustment.receive(token)
    return adjustment(logits)


def random_logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def transformers_probabilities(logits: torch.Tensor, text: list[int], params: SamplingParams) -> torch.Tensor:
    """(V,) by transformers' own processors, in the order of its generate()."""
    processors = [RepetitionPenaltyLogitsProcessor(params.repetition_penalty)]
    processors.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(MinPLogitsWarper(params.min_p))
    scores = logits[None].clone()
    for processor in processors:
        scores = processor(torch.tensor([text]), scores)
    return scores[0].softmax(-1)


def our_probabilities(logits: torch.Tensor, texts: list[list[int]], params: list[SamplingParams]) -> torch.Tensor:
    """(N, V): what `sample` draws from."""
    adjusted = torch.stack([relative(adjust(row, p, text)) for row, p, text in zip(logits, params, texts)])
    temperatures = torch.tensor([[p.temperature] for p in params])
    return truncate(adjusted / temperatures, params).softmax(-1)


random_params = st.builds(
    SamplingParams,
    temperature=st.floats(0.1, 3),
    top_k=st.one_of(st.just(0), st.integers(1, VOCAB + 5)),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.99)),
    min_p=st.one_of(st.just(0.0), st.floats(0.01, 1)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 2)),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(params=st.lists(random_params, min_size=1, max_size=5), seed=st.integers(0, 10_000))
def test_distribution_equals_transformers_row_by_row(params: list[SamplingParams], seed: int) -> None:
    logits = random_logits(len(params), seed)
    texts = [[(seed + 7 * row + i) % VOCAB for i in range(6)] for row in range(len(params))]
    found = our_probabilities(logits, texts, params)
    for row, p in enumerate(params):
        wanted = transformers_probabilities(logits[row], texts[row], p)
        torch.testing.assert_close(found[row], wanted, rtol=1e-5, atol=1e-7)
        assert torch.equal(found[row] > 0, wanted > 0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(params=st.lists(random_params, min_size=2, max_size=6), seed=st.integers(0, 10_000))
def test_a_row_does_not_depend_on_the_others(params: list[SamplingParams], seed: int) -> None:
    logits = random_logits(len(params), seed)
    luck = torch.rand(len(params), generator=torch.Generator().manual_seed(seed)).tolist()
    adjusted = logits + random_logits(len(params), seed + 1)
    together, logprobs = sample(logits, params, luck, adjusted)
    for row, p in enumerate(params):
        one = slice(row, row + 1)
        alone, logprob = sample(logits[one], [p], luck[one], adjusted[one])
        assert alone[0] == together[row]
        torch.testing.assert_close(logprob[0], logprobs[row], rtol=0, atol=1e-6)


def test_draws_have_the_asked_frequencies() -> None:
    params = SamplingParams(temperature=1.3, top_k=20, top_p=0.9)
    count = 20_000
    luck = [(i + 0.5) / count for i in range(count)]
    logits = random_logits(1)
    ids, _ = sample(logits.expand(count, -1), [params] * count, luck)
    found = torch.bincount(ids, minlength=VOCAB) / count
    wanted = truncate(logits / 1.3, [params]).softmax(-1)[0]
    assert (found - wanted).abs().max() <= 1.5 / count  # evenly spaced numbers miss by one at most at each end


def test_a_token_left_out_is_never_drawn() -> None:
    logits = torch.full((2, VOCAB), -math.inf)
    logits[:, 7] = 0.0
    logits[:, 9] = 0.0
    highest = 1 - 2**-53
    assert sample_inverse_cdf(logits, torch.tensor([[0.0], [highest]], dtype=torch.float64)).tolist() == [7, 9]


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = random_logits(3)
    params = [SamplingParams(temperature=0), SamplingParams(temperature=2.0), SamplingParams(temperature=0)]
    ids, _ = sample(logits, params, [0.99, 0.99, 0.99])
    assert ids[0] == logits[0].argmax()
    assert ids[2] == logits[2].argmax()


def test_penalty_applies_to_greedy_rows() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.9]])
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    adjusted = adjust(logits[0], params, [1, 1])
    ids, logprobs = sample(logits, [params], [0.5], adjusted[None])
    assert ids.tolist() == [2]
    assert torch.equal(logprobs, logits.log_softmax(-1))


def test_penalties_and_biases_are_openais() -> None:
    """logit - frequency · times used in the answer - presence if used at all, + bias."""
    params = SamplingParams(
        presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((0, -100.0), (3, 2.5), (3, -0.5))
    )
    logits = torch.tensor([1.0, 3.0, -2.0, 0.0, 5.0])
    found = adjust(logits, params, [4], [1, 2, 1, 1])
    assert found.tolist() == [-99.0, 1.75, -2.75, 2.0, 5.0]
    assert logits.tolist() == [1.0, 3.0, -2.0, 0.0, 5.0]


def test_ties_at_the_border_stay_in_together() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert (truncate(logits, [SamplingParams(top_k=2, top_p=1.0)]) > -math.inf).tolist() == [
        [False, True, True, True]
    ]


def test_logprobs_are_of_the_scaled_untruncated_distribution() -> None:
    logits = random_logits(4)
    params = [SamplingParams(temperature=0.5, top_k=1), SamplingParams(temperature=2.0, top_p=0.1)]
    params += [SamplingParams(temperature=0), SamplingParams(temperature=1.0, min_p=1.0)]
    ids, logprobs = sample(logits, params, [0.3] * 4)
    for row, temperature in enumerate((0.5, 2.0, 1.0, 1.0)):
        wanted = (logits[row] / temperature).log_softmax(-1)[ids[row]]
        assert float(logprobs[row, ids[row]]) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("top_k", -1),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("max_tokens", 0),
        ("presence_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("logit_bias", ((-1, 1.0),)),
        ("top_logprobs", -1),
    ],
)
def test_impossible_values_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        SamplingParams(**{name: value})


def test_every_seed_is_a_stream_of_its_own() -> None:
    """Random(-1) is Random(1)."""
    streams = [SamplingParams(seed=seed).rng().random() for seed in range(-20, 21)]
    assert len(set(streams)) == len(streams)
    assert streams[20:] == [random.Random(seed).random() for seed in range(21)]


@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 9e-6])
@pytest.mark.parametrize("others", [{}, {"logit_bias": ((3, 1e308), (3, 1e308))}, {"repetition_penalty": 0.01}])
def test_a_tiny_temperature_takes_the_likeliest(temperature: float, others: dict[str, Any]) -> None:
    logits = random_logits(1)
    params = SamplingParams(temperature=temperature, **others)
    adjusted = adjust(logits[0], params, [1, 2, 5])
    ids, logprobs = sample(logits, [params], [0.99], relative(adjusted)[None])
    assert ids.tolist() == [adjusted.argmax()]
    assert torch.equal(logprobs, logits.log_softmax(-1))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    repetition=st.floats(0.01, 100),
    penalties=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    biases=st.lists(st.tuples(st.integers(0, 60), st.floats(allow_nan=False, allow_infinity=False)), max_size=9),
    temperature=st.sampled_from([1e-5, 1.0, 1000.0]),
)
def test_adjusted_logits_are_numbers(
    repetition: float, penalties: tuple[float, float], biases: list[tuple[int, float]], temperature: float
) -> None:
    params = SamplingParams(
        temperature=temperature,
        repetition_penalty=repetition,
        presence_penalty=penalties[0],
        frequency_penalty=penalties[1],
        logit_bias=tuple(biases),
    )
    adjusted = adjust(torch.cat([random_logits(1)[0, 1:], torch.zeros(1)]), params, [1, 2, 3, 49], [2, 2, 5])
    assert adjusted.isfinite().all()
    ids, logprobs = sample(random_logits(1), [params], [0.5], relative(adjusted)[None])
    assert logprobs.isfinite().all()
    assert truncate(relative(adjusted)[None] / temperature, [params])[0, ids[0]] > -math.inf
