"""Steps of an engine, found among its outputs."""

import numpy as np

from radixroute.request.sampling import SamplingParams
from radixroute.worker.companions.calls import Call
from radixroute.worker.companions.tick import StepMeter
from radixroute.worker.engine.engine import EngineRequest

MS = 1_000_000


def call(name, at_ms, uncached):
    request = EngineRequest(
        name, 0, "s", np.arange(3, dtype=np.uint32), SamplingParams(), np.empty(0, np.uint32)
    )
    return Call(request, at_ms * MS, uncached)


def put(meter, one, at_ms, is_first=False):
    meter.output(one, 1, int(at_ms * MS), is_first=is_first)


def test_a_prompt_alone_takes_from_its_dispatch_to_its_first_token():
    meter = StepMeter()
    one = call("a", 100, 512)
    meter.busy(100 * MS)
    put(meter, one, 150, is_first=True)
    assert meter.take() == (0.0, 0, 0)  # more may belong to it
    put(meter, one, 160)
    assert meter.take() == (50.0, 512, 0)
    meter.idle()
    assert meter.take() == (10.0, 0, 1)


def test_outputs_of_several_requests_are_one_step_until_one_of_them_has_another():
    meter = StepMeter()
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
    meter = StepMeter()
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
    meter = StepMeter()
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
