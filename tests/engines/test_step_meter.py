"""Steps of an engine, found among its outputs."""

from dataclasses import replace

import numpy as np

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import SamplingParams
from radixroute.worker.companions.calls import Call
from radixroute.worker.companions.tick import StepMeter
from radixroute.worker.engine.engine import EngineRequest

MS = 1_000_000
BLOCK = 4


def call(name, at_ms, uncached, prompt=None):
    tokens = [ord(name[0])] * uncached if prompt is None else prompt
    request = EngineRequest(
        name, 0, "s", np.asarray(tokens, np.uint32), SamplingParams(), np.empty(0, np.uint32)
    )
    return Call(request, at_ms * MS, uncached)


def put(meter, one, at_ms, is_first=False, n_tokens=1):
    meter.output(one, n_tokens, int(at_ms * MS), is_first=is_first)


def test_a_prompt_alone_takes_from_its_dispatch_to_its_first_token():
    meter = StepMeter(BLOCK)
    one = call("a", 100, 512)
    meter.busy(100 * MS)
    put(meter, one, 150, is_first=True)
    assert meter.take() == (0.0, 0, 0)  # more may belong to it
    put(meter, one, 160)
    assert meter.take() == (50.0, 512, 0)
    meter.idle()
    assert meter.take() == (10.0, 0, 1)


def test_outputs_of_several_requests_are_one_step_until_one_of_them_has_another():
    meter = StepMeter(BLOCK)
    meter.busy(0)
    calls = [call(name, 0, 10) for name in "abc"]
    for at, one in enumerate(calls):
        put(meter, one, 20 + at / 10, is_first=True)
    for step in range(1, 4):
        for at, one in enumerate(calls):
            put(meter, one, 20 + 10 * step + at / 10)
        took, prefill, decode = meter.take()
        assert (round(took, 6), prefill, decode) == ((20, 30, 0) if step == 1 else (10, 0, 3))


def test_a_prompt_computed_over_several_steps_says_nothing_of_one():
    meter = StepMeter(BLOCK)
    meter.busy(0)
    old, new = call("old", 0, 10), call("new", 11, 4096)
    put(meter, old, 10, is_first=True)
    for at in (20, 30, 40):
        put(meter, old, at)
    put(meter, new, 40.1, is_first=True)
    meter.take()
    put(meter, old, 50)
    assert meter.take() == (0.0, 0, 0)
    put(meter, old, 60)
    assert meter.take()[1:] == (0, 1)


def test_a_pause_of_somebody_else_is_no_step():
    meter = StepMeter(BLOCK)
    meter.busy(0)
    one = call("a", 0, 10)
    put(meter, one, 10, is_first=True)
    at = 10
    for _ in range(12):
        at += 10
        put(meter, one, at)
    put(meter, one, at + 900)
    assert meter.take() == (10.0, 0, 1)
    put(meter, one, at + 910)
    assert meter.take() == (0.0, 0, 0)
    assert meter.outliers == 1


def test_what_prompts_of_one_step_share_is_computed_once():
    """Whole blocks; not where salts keep them apart."""
    meter = StepMeter(BLOCK)
    meter.busy(0)
    one = call("one", 0, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    like_it = call("like it", 0, 10, [1, 2, 3, 4, 5, 6, 7, 8, 20, 21])
    by_two = call("by two tokens", 0, 9, [1, 2, 30, 31, 32, 33, 34, 35, 36])
    like_those = call("like those", 0, 10, [1, 2, 3, 4, 40, 41, 42, 43, 44, 45])
    hit = call("hit before", 0, 1, [1, 2, 3, 4, 5, 6, 7, 8, 50])
    apart = call("apart", 0, 10, one.request.prompt)
    apart.request = replace(apart.request, scope=RequestScope(salt="s"))
    for each in (one, like_it, by_two, like_those, hit, apart):
        put(meter, each, 20, is_first=True)
    put(meter, one, 30)
    assert meter.take() == (20.0, 10 + 2 + 9 + 6 + 1 + 10, 0)


def test_steps_that_are_told_of_at_once_are_as_many():
    meter = StepMeter(BLOCK)
    meter.busy(0)
    calls = [call(name, 0, 10) for name in "ab"]
    for one in calls:
        put(meter, one, 10, is_first=True)
    for one in calls:
        put(meter, one, 20)
    for one in calls:
        put(meter, one, 50, n_tokens=3)
    meter.take()
    put(meter, calls[0], 60)
    assert meter.take() == (10.0, 0, 2)


def test_a_prompt_within_steps_told_of_at_once_says_nothing_unless_the_engine_guesses_ahead():
    for usual in (1, 4):
        meter = StepMeter(BLOCK)
        meter.busy(0)
        old, new = call("old", 0, 10), call("new", 25, 80)
        put(meter, old, 10, is_first=True)
        for at in (20, 30):
            put(meter, old, at, n_tokens=usual)
        put(meter, old, 90, n_tokens=4)
        put(meter, new, 90, is_first=True)
        meter.take()
        put(meter, old, 100, n_tokens=usual)
        assert meter.take() == ((0.0, 0, 0) if usual == 1 else (60.0, 80, 1))
