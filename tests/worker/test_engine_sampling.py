"""Sampling through the whole engine: an answer that was cut off goes on as if it never had been."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from radixroute.request.logprobs import join_logprobs
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.engine.runner import StepPlan
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FakeClock, FakeRunner, alone, drain, ids, make_engine, request
from tests.worker.tiny import (
    BLOCK_SIZE,
    VOCAB,
    blocks_from,
    part,
    reference_logits,
    tokens_of,
    write_model,
)
from tests.worker.tiny_runner import runner_of

pytestmark = pytest.mark.torch

N_NEW = 24
PARAMS: dict[str, dict[str, Any]] = {
    "presence": {"presence_penalty": 2.0},
    "frequency": {"frequency_penalty": 1.5},
    "frequency, greedy": {"frequency_penalty": 1.5, "temperature": 0.0},
    "repetition": {"repetition_penalty": 1.8},
    "bias": {"logit_bias": ((7, 6.0), (40, -100.0))},
    "min_p": {"min_p": 0.3, "temperature": 2.0},
    "min_tokens": {"min_tokens": 12, "ignore_eos": False, "stop_token_ids": (7, 8, 9)},
    "all": {
        "temperature": 1.3,
        "presence_penalty": 0.8,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.4,
        "logit_bias": ((7, 3.0), (8, -4.0)),
        "min_p": 0.05,
        "top_k": 30,
        "top_p": 0.95,
        "logprobs": 3,
        "min_tokens": 10,
        "stop_token_ids": (9,),
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder), folder


def engine_over(folder) -> InferenceEngine:
    settings = WorkerSettings(model=str(folder), block_size=BLOCK_SIZE, max_num_batched_tokens=16)
    return InferenceEngine(settings, runner_of(folder), FakeClock(tick_ns=1000))


def answer(engine, name, prompt, emitted=(), **sampling):
    """(ids, finish, what was told of them) of one request; beside it others run."""
    base = {"seed": 5, "max_tokens": N_NEW, "ignore_eos": True}
    engine.submit(request("beside", prompt[:9], max_tokens=30, seed=9, ignore_eos=True), 0)
    engine.submit(request(name, prompt, emitted=emitted, **{**base, **sampling}), 0)
    outputs = drain(engine)[0][name]
    told = [output.logprobs for output in outputs if output.logprobs is not None]
    return ids(outputs), outputs[-1].finish, join_logprobs(told).unpacked()


@pytest.mark.parametrize("name", PARAMS)
def test_resumed_at_every_position_the_rest_is_the_same(model, name):
    prompt = tokens_of(21, seed=4).tolist()
    whole, finish, told = answer(engine_over(model[1]), "whole", prompt, **PARAMS[name])
    plain, _, _ = answer(engine_over(model[1]), "plain", prompt)
    assert whole != plain, "the parameter changes nothing here: choose another prompt"
    resuming = engine_over(model[1])
    for cut in range(len(whole)):
        rest, end, told_of_rest = answer(
            resuming, f"cut {cut}", prompt, emitted=whole[:cut], **PARAMS[name]
        )
        assert (whole[:cut] + rest, end) == (whole, finish), f"cut at {cut}"
        assert len(told_of_rest) == len(told[cut:])
        for one, other in zip(told_of_rest, told[cut:], strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_log_probabilities_are_those_of_transformers(model):
    prompt = tokens_of(30, seed=6).tolist()
    params = {"temperature": 1.5, "presence_penalty": 1.0, "logprobs": 4}
    new, _, told = answer(engine_over(model[1]), "a", prompt, **params)
    logits = reference_logits(model[0], [*prompt, *new]).double()
    wanted = torch.log_softmax(logits, dim=-1)
    assert len(told) == len(new) == N_NEW
    for at, (token_id, one) in enumerate(zip(new, told, strict=True), start=len(prompt) - 1):
        assert one.logprob == pytest.approx(float(wanted[at, token_id]), abs=1e-4)
        best = wanted[at].topk(4)
        assert [top for top, _ in one.top] == best.indices.tolist()
        np.testing.assert_allclose([p for _, p in one.top], best.values.tolist(), atol=1e-4)


def test_requests_that_give_way_to_others_are_told_the_same_tokens():
    """Preempted, a request knows its own history again; the fake model's answers depend on it."""
    engine, _ = make_engine(FakeRunner(n_blocks=14), max_num_batched_tokens=8, watermark=0.0)
    sampling = {"max_tokens": 16, "ignore_eos": True, "presence_penalty": 1.0, "logprobs": 2}
    prompts = {f"r{n}": [n + 1] * (5 + n) for n in range(4)}
    for name, prompt in prompts.items():
        engine.submit(request(name, prompt, **sampling), 0)
    outputs, _ = drain(engine)
    assert engine.scheduler_counters.preemptions > 0
    for name, prompt in prompts.items():
        wanted = alone(prompt, request("x", [1], **sampling).sampling)
        assert ids(outputs[name]) == wanted
        told = join_logprobs(output.logprobs for output in outputs[name]).unpacked()
        positions = range(len(prompt), len(prompt) + 16)
        expected = [-(t + at / 8) for t, at in zip(wanted, positions, strict=True)]
        assert [one.logprob for one in told] == expected
        assert [one.top[1] for one in told] == [(1, -1.0 - at) for at in positions]


def test_a_request_that_ends_without_numbers_shifts_nobody_elses_log_probabilities():
    runner = FakeRunner()
    engine, _ = make_engine(runner)
    runner.bad_tokens = {90}
    for name, prompt in {"a": [1, 2], "bad": [90, 3], "c": [4, 5, 6]}.items():
        engine.submit(request(name, prompt, max_tokens=1, logprobs=0, ignore_eos=True), 0)
    outputs, _ = drain(engine)
    for name, n_prompt in {"a": 2, "c": 3}.items():
        (output,) = outputs[name]
        (one,) = output.logprobs.unpacked()
        assert one.logprob == -(output.token_ids[0] + n_prompt / 8)
    assert outputs["bad"][0].logprobs is None


def test_the_runner_tells_of_the_sound_slices_alone(model):
    asks = request("x", [1], temperature=0.0, logprobs=1).sampling
    one = part(tokens_of(9), blocks_from(0, 9), sampling=asks)
    barred = replace(one, forbidden=tuple(range(VOCAB)))
    result = runner_of(model[1]).execute(StepPlan((barred, one)))
    assert result.unsound_slices == {0}
    (told,) = result.logprobs
    assert told is not None
    assert told.top == ((result.token_ids[0], told.logprob),)


def test_who_asks_for_nothing_is_told_nothing_and_looks_at_no_history():
    engine, runner = make_engine()
    engine.submit(request("a", [1, 2, 3], temperature=0.0), 0)
    outputs, _ = drain(engine)
    assert all(output.logprobs is None for output in outputs["a"])
    assert all(part.history is None for plan in runner.plans for part in plan.slices)
