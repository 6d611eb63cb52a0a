"""Penalties, biases, min_p and log probabilities: what a float64 reference says, row by row."""

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor

from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.runner import History
from radixroute.worker.model.sampling.sampler import Choice, choose, sample
from radixroute.worker.model.sampling.shaping import shape
from tests.worker import reference_sampler as reference

pytestmark = pytest.mark.torch

N_VOCAB = 700  # more than what is sorted at first
EACH: dict[str, dict[str, Any]] = {
    "presence": {"presence_penalty": 1.5},
    "presence below zero": {"presence_penalty": -2.0},
    "frequency": {"frequency_penalty": 0.7},
    "repetition": {"repetition_penalty": 1.3},
    "repetition below one": {"repetition_penalty": 0.6},
    "bias": {"logit_bias": ((3, 4.5), (17, -100.0), (600, 2.25))},
    "min_p": {"min_p": 0.05},
    "all": {
        "presence_penalty": 0.5,
        "frequency_penalty": -0.25,
        "repetition_penalty": 1.1,
        "logit_bias": ((5, 3.0), (6, -1.5)),
        "min_p": 0.02,
        "top_k": 40,
        "top_p": 0.9,
        "temperature": 0.8,
    },
}
COMBINED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.5},
    {"top_k": 25},
    {"top_p": 0.8},
    {"top_k": 600, "top_p": 0.95},
]
DRAWS = 1000


def worlds(seed):
    """Rows with a history each: prompt and output share ids, and ids come again."""
    rng = np.random.default_rng(seed)
    while True:
        logits = (rng.normal(size=N_VOCAB) * rng.choice([0.5, 2.0, 6.0])).astype(np.float32)
        near = rng.integers(0, N_VOCAB, 12)
        # What is likely is what comes again, or penalties would change nothing.
        near[:6] = np.argsort(-logits)[:6]
        prompt, output = (rng.choice(near, rng.integers(low, 20)) for low in (1, 0))
        yield logits, prompt.astype(np.uint32), output.astype(np.uint32)


def choice_of(params, position, prompt, output, forbidden=()):
    tokens = np.concatenate([prompt, output])
    history = History(tokens, len(prompt)) if params.reads_history else None
    return Choice(params, position, tuple(forbidden), history)


@pytest.mark.parametrize("name", EACH)
def test_a_thousand_draws_are_those_of_the_reference(name):
    """Each parameter alone and with what narrows the choice, in batches of rows that differ."""
    base, changed = EACH[name], 0
    source = worlds(sum(name.encode()))
    for start in range(0, DRAWS, 20):
        rows, choices, wanted = [], [], []
        for at in range(start, start + 20):
            logits, prompt, output = next(source)
            params = SamplingParams(**{"seed": at, **COMBINED[at % len(COMBINED)], **base})
            forbidden = (int(logits.argmax()), 11) if at % 3 == 0 else ()
            rows.append(logits)
            choices.append(choice_of(params, at, prompt, output, forbidden))
            wanted.append(reference.token(logits, params, at, prompt, output, forbidden))
            plain = SamplingParams(**{"seed": at, **COMBINED[at % len(COMBINED)]})
            changed += wanted[-1] != reference.token(logits, plain, at, (), (), forbidden)
        ids, _ = choose(torch.from_numpy(np.stack(rows)), choices)
        assert list(ids) == wanted
    assert changed > DRAWS // 50, "it changes next to nothing: what is proved?"


@pytest.mark.parametrize("name", [name for name in EACH if name != "min_p"])
def test_shaped_logits_are_those_of_the_reference(name):
    params = SamplingParams(**EACH[name])
    source = worlds(7)
    for _ in range(50):
        logits, prompt, output = next(source)
        row = torch.from_numpy(logits).double()
        shape(row, params, choice_of(params, 0, prompt, output).history)
        wanted = reference.shaped(logits, params, prompt, output)
        np.testing.assert_allclose(row.numpy(), wanted, rtol=1e-15, atol=0)


def test_repetition_and_min_p_are_those_of_transformers():
    source = worlds(8)
    theirs_of_min_p: Any = MinPLogitsWarper(0.2)  # annotated more narrowly than what it takes
    for _ in range(20):
        logits, prompt, output = next(source)
        seen = torch.from_numpy(np.concatenate([prompt, output]).astype(np.int64))[None]
        theirs = RepetitionPenaltyLogitsProcessor(1.3)(
            seen, torch.from_numpy(logits).double()[None]
        )
        row = torch.from_numpy(logits).double()
        params = SamplingParams(repetition_penalty=1.3)
        shape(row, params, choice_of(params, 0, prompt, output).history)
        torch.testing.assert_close(row, theirs[0], rtol=1e-15, atol=0)
        kept = theirs_of_min_p(seen, torch.from_numpy(logits)[None])[0].isfinite()
        narrow = SamplingParams(min_p=0.2)
        rows = torch.from_numpy(logits).expand(300, -1).clone()
        drawn = sample(rows, [Choice(narrow, at) for at in range(300)])
        assert set(drawn) <= set(kept.nonzero().flatten().tolist())


def test_greedy_goes_by_the_shaped_logits_and_takes_the_lowest_of_equals():
    logits = torch.tensor([[4.0, 3.0, 1.0, 3.0]])
    greedy = SamplingParams(temperature=0.0, presence_penalty=1.5)
    said = History(np.array([9, 0], np.uint32), 1)
    assert choose(logits.clone(), [Choice(greedy, 2, history=said)])[0] == (1,)
    unsaid = History(np.array([0, 2], np.uint32), 1)  # in the prompt: not said
    assert choose(logits.clone(), [Choice(greedy, 2, history=unsaid)])[0] == (0,)


def test_log_probabilities_are_of_the_models_own_distribution():
    """Whatever is forbidden, biased or penalised, and however hot it is drawn."""
    source = worlds(9)
    for at, n_top in enumerate([0, 1, 5, 20] * 5):
        logits, prompt, output = next(source)
        params = SamplingParams(**{**EACH["all"], "temperature": 5.0}, seed=at, logprobs=n_top)
        choice = choice_of(params, at, prompt, output, forbidden=(int(logits.argmax()),))
        (token_id,), by_row = choose(torch.from_numpy(logits)[None].clone(), [choice])
        own, told = reference.own_logprobs(logits), by_row[0]
        assert told.logprob == pytest.approx(own[token_id], abs=1e-12)
        best = np.argsort(-logits, kind="stable")[:n_top]
        assert [token_id for token_id, _ in told.top] == best.tolist()
        np.testing.assert_allclose([value for _, value in told.top], own[best], atol=1e-12)


def test_only_who_asks_is_told():
    logits = torch.zeros(3, 8)
    quiet, asks = SamplingParams(), SamplingParams(logprobs=0)
    _, told = choose(logits, [Choice(quiet, 0), Choice(asks, 0), Choice(quiet, 0)])
    assert list(told) == [1]
    assert told[1].logprob == pytest.approx(-math.log(8))


@pytest.mark.parametrize("bad", [[1.0, math.nan, 3.0], [1.0, math.inf, 0.0], [-math.inf] * 3])
def test_a_row_without_numbers_is_told_nothing_and_changes_no_neighbour(bad):
    params = SamplingParams(
        seed=3,
        presence_penalty=0.5,
        repetition_penalty=1.2,
        logit_bias=((1, 0.5),),
        min_p=0.1,
        logprobs=2,
    )
    choice = Choice(params, 4, (), History(np.array([0, 2, 2], np.uint32), 1))
    healthy = torch.tensor([[0.5, -math.inf, 0.25]])
    (alone,), told = choose(healthy.clone(), [choice])
    ids, all_told = choose(torch.cat([healthy, torch.tensor([bad]), healthy]), [choice] * 3)
    assert ids == (alone, None, alone)
    assert all_told == {0: told[0], 2: told[0]}


def test_what_shapes_one_row_leaves_the_rows_beside_it_as_they_are():
    source = worlds(10)
    logits = torch.from_numpy(np.stack([next(source)[0] for _ in range(3)]))
    before = logits.clone()
    shaping = SamplingParams(**EACH["all"], logprobs=3)
    said = History(np.arange(20, dtype=np.uint32), 5)
    plain = SamplingParams(temperature=0.0)
    ids, _ = choose(logits, [Choice(plain, 1), Choice(shaping, 1, (), said), Choice(plain, 1)])
    assert torch.equal(logits, before)
    assert (ids[0], ids[2]) == (int(before[0].argmax()), int(before[2].argmax()))
