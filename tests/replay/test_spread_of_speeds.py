"""Workers that are equally fast are asked equally often, whatever they were first asked (R17)."""

import numpy as np
import pytest

from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.trace import Trace


def unshared(n: int = 1500, seed: int = 5) -> Trace:
    """Three in ten prompts are short, the others long; nothing is shared, nothing bursts."""
    rng = np.random.default_rng(seed)
    tokens = np.where(
        rng.random(n) < 0.3, rng.integers(10, 61, n), rng.integers(2_000, 16_001, n)
    ).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(-(-tokens // 64))]).astype(np.int64)
    return Trace(
        name="unshared",
        block_size=64,
        arrival_ns=np.cumsum(rng.exponential(0.25e9, n)).astype(np.int64),
        input_tokens=tokens,
        output_tokens=np.full(n, 100, np.int64),
        first_block=first,
        blocks=np.arange(first[-1], dtype=np.int64),
        after=np.full(n, -1, np.int64),
    )


@pytest.mark.parametrize("workers", [8, 16])
def test_nobody_as_fast_as_the_others_gets_less_than_half_of_the_mean(workers):
    run = simulate(unshared(), "radix", Scenario(FleetShape(workers, 16384, 64)))
    asked = np.bincount(run.worker, minlength=workers)
    assert asked.min() >= 0.5 * asked.mean()
    even = simulate(unshared(), "least_loaded", Scenario(FleetShape(workers, 16384, 64)))
    assert run.ttft_ms.mean() <= 1.02 * even.ttft_ms.mean()


def test_a_worker_half_as_fast_is_known_as_such():
    shape = FleetShape(8, 16384, 64, slowness=(2.0,))
    run = simulate(unshared(), "radix", Scenario(shape))
    asked = np.bincount(run.worker, minlength=8)
    assert asked[0] < 0.5 * asked[1:].mean()
    assert asked[1:].min() >= 0.5 * asked[1:].mean()
