"""Choosing tokens: reproducible, independent of the batch, and with the right probabilities."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from radixroute.request.sampling import SamplingParams
from radixroute.worker.model.sampling.sampler import Choice, sample, uniform

pytestmark = pytest.mark.torch

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, 1.5]])
DRAWS = 4000


def draws(params, logits=LOGITS, n=DRAWS):
    rows = logits.expand(n, -1)
    return sample(rows, [Choice(params, position) for position in range(n)])


def shares(ids):
    return np.bincount(ids, minlength=LOGITS.shape[1]) / len(ids)


def test_greedy_takes_the_best_and_the_lowest_id_of_equals():
    greedy = SamplingParams(temperature=0.0)
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 5.0, 5.0]])
    assert sample(logits, [Choice(greedy, 1), Choice(greedy, 2)]) == (1, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_the_softmax_says(temperature):
    expected = torch.softmax(LOGITS[0] / temperature, 0).numpy()
    got = shares(draws(SamplingParams(temperature=temperature, seed=3)))
    # 4,000 draws: one standard deviation is below 0.008.
    assert np.abs(got - expected).max() < 0.03


def test_top_k_keeps_the_k_best_and_their_proportions():
    got = shares(draws(SamplingParams(top_k=2, seed=4)))
    expected = torch.softmax(LOGITS[0, [0, 5]], 0).numpy()
    assert got[[1, 2, 3, 4]].sum() == 0
    assert np.abs(got[[0, 5]] - expected).max() < 0.03


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    probabilities = torch.softmax(LOGITS[0], 0)
    best, second = float(probabilities[0]), float(probabilities[5])
    inside = SamplingParams(top_p=best + second - 0.01, seed=5)
    assert set(draws(inside, n=400)) == {0, 5}
    beyond = SamplingParams(top_p=best + second + 0.01, seed=5)
    assert set(draws(beyond, n=400)) == {0, 5, 1}


def test_a_tiny_top_p_is_greedy():
    assert set(draws(SamplingParams(top_p=1e-6, seed=6), n=50)) == {0}


def test_top_p_counts_within_top_k():
    half = torch.softmax(LOGITS[0, [0, 5]], 0)
    params = SamplingParams(top_k=2, top_p=float(half[0]) - 0.01, seed=7)
    assert set(draws(params, n=200)) == {0}


def test_a_token_depends_on_seed_and_position_not_on_its_batch():
    torch.manual_seed(0)
    logits = torch.randn(8, 50)
    choices = [Choice(SamplingParams(seed=s), 10 + s) for s in range(8)]
    together = sample(logits, choices)
    alone = tuple(sample(logits[i : i + 1], choices[i : i + 1])[0] for i in range(8))
    turned = sample(logits.flip(0), choices[::-1])[::-1]
    assert together == alone == turned


def test_another_seed_or_position_draws_anew():
    same = [uniform(1, 5), uniform(1, 5)]
    assert same[0] == same[1]
    numbers = {uniform(seed, position) for seed in range(20) for position in range(20)}
    assert len(numbers) == 400
    assert all(0.0 <= x < 1.0 for x in numbers)


def test_the_stream_of_a_seed_never_changes():
    """Pinned: a release that draws otherwise would resume running requests differently."""
    assert [round(uniform(7, position), 12) for position in (0, 1, 1000)] == PINNED
    assert uniform(2**64 - 1, 2**40) == uniform(2**64 - 1, 2**40)


PINNED = [0.87207345482, 0.882466830255, 0.205250255221]


@pytest.mark.parametrize(
    "row", [[1.0, math.nan, 3.0], [1.0, math.inf, 0.0], [-math.inf] * 3], ids=["nan", "inf", "none"]
)
@pytest.mark.parametrize(
    "params", [{"temperature": 0.0}, {}, {"top_k": 2}, {"top_p": 0.5}], ids=lambda p: str(p)
)
def test_a_row_without_numbers_gives_no_token_and_its_neighbours_what_they_get_alone(row, params):
    choice = Choice(SamplingParams(seed=3, **params), 4)
    healthy = torch.tensor([[0.5, -math.inf, 0.25]])
    (alone,) = sample(healthy, [choice])
    batch = torch.cat([healthy, torch.tensor([row]), healthy])
    assert sample(batch, [choice] * 3) == (alone, None, alone)
    assert alone in (0, 2)


def test_extreme_logits_do_not_overflow():
    logits = torch.tensor([[1e4, -1e4, 9.9e3]])
    assert sample(logits, [Choice(SamplingParams(temperature=0.01), 3)]) == (0,)
    assert sample(logits, [Choice(SamplingParams(temperature=1e-6), 3)]) == (0,)


@pytest.mark.parametrize("params", [{"top_k": 40}, {"top_p": 0.9}, {"top_k": 700, "top_p": 0.97}])
@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_the_shortcuts_draw_what_sorting_everything_draws(params, spread):
    """A plain inverse of the sorted distribution, ties (values are rounded) in order of ids."""
    generator = torch.Generator().manual_seed(8)
    logits = (torch.randn(1, 3000, generator=generator) * spread).round(decimals=1)
    top_k, top_p = params.get("top_k", 3000), params.get("top_p", 1.0)
    values, ids = logits[0].double().sort(descending=True, stable=True)
    values = values[:top_k]
    mass = torch.softmax(values, 0).cumsum(0)
    kept = int((mass < top_p - 1e-12).sum()) + 1 if top_p < 1 else top_k
    for position in range(60):
        at = int((mass[:kept] <= uniform(9, position) * float(mass[kept - 1])).sum())
        got = sample(logits, [Choice(SamplingParams(seed=9, **params), position)])
        assert got == (int(ids[at]),)
