"""What live runs found in warm caches: never counted where the run itself may have computed it."""

from dataclasses import replace

import numpy as np
import pytest

from radixroute.live.lab import Measured, simulate_beside
from radixroute.live.replay import LiveResult
from radixroute.replay.analysis.bounds import infinite
from radixroute.replay.analysis.warm_caches import INFINITE_WARM, warm_share, warm_tokens
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.lab import LabSettings
from radixroute.replay.report.table import COLUMNS, cell
from radixroute.replay.results import LIVE
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.trace import prefixes
from tests.replay.runs import BLOCK, make_trace, random_trace, result

PROMPTS = [([1, 2, 3], 12), ([1, 2, 4], 12), ([5, 6, 7], 12)]


def live(cached, arrival=(0, 10, 20), first=(5, 15, 25)):
    trace = make_trace(PROMPTS)
    made = result(trace, cached_tokens=list(cached), first_ns=list(first), source=LIVE)
    return replace(made, arrival_ns=np.array(arrival, np.int64))


def warm_of(run):
    return warm_tokens(run, prefixes(run.trace, BLOCK)).tolist()


def test_what_no_request_of_the_run_had_before_was_cached_before_it():
    assert warm_of(live((0, 8, 0))) == [0, 0, 0]  # the second goes on from the first
    assert warm_of(live((0, 11, 0))) == [0, 3, 0]
    assert warm_of(live((8, 8, 8))) == [8, 0, 8]
    # Sent later, and before the first token of the other: either may have computed it.
    assert warm_of(live((8, 0, 0), arrival=(0, 3, 20))) == [0, 0, 0]
    assert warm_of(live((8, 0, 0), arrival=(0, 5, 20))) == [8, 0, 0]
    # Never sent, never answered.
    assert warm_of(live((0, 8, 0), arrival=(-1, 10, 20))) == [0, 8, 0]


@pytest.mark.parametrize("seed", range(20))
def test_a_run_of_empty_caches_found_nothing_warm(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 60, longest=6, fan=2, gap_ns=10**6)
    numbered = prefixes(trace, BLOCK)
    run = simulate(trace, "radix", Scenario(FleetShape(2, 64, BLOCK)), numbered)
    assert run.cached_tokens.sum() > 0
    assert warm_tokens(run, numbered).sum() == 0
    assert warm_share(run, numbered, infinite(trace, numbered).fraction) == 0.0


def test_what_goes_beyond_empty_caches_was_warm_even_where_no_request_shows_it():
    # All at once: each could have it of another, and yet one of them must compute it.
    prompts = [([1, 2, 3], 12)] * 3
    run = replace(
        result(make_trace(prompts), cached_tokens=[8, 8, 8], first_ns=[5, 5, 5]),
        arrival_ns=np.zeros(3, np.int64),
    )
    numbered = prefixes(run.trace, BLOCK)
    assert warm_tokens(run, numbered).sum() == 0
    bound = infinite(run.trace, numbered).fraction
    assert bound + warm_share(run, numbered, bound) == pytest.approx(run.reuse)


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_live_run_over_warm_caches_is_within_its_bound_and_says_so(is_warm):
    trace = make_trace(PROMPTS, arrival_ns=[0, 10**9, 2 * 10**9])
    cached = [8, 8, 8] if is_warm else [0, 8, 0]
    made = result(
        trace, 2, policy="radix", cached_tokens=cached, source=LIVE,
        first_ns=[5, 10**9 + 5, 2 * 10**9 + 5], finish_ns=[6, 10**9 + 6, 2 * 10**9 + 6],
        lateness_ns=np.zeros(3, np.int64),
    )  # fmt: skip
    settings = LabSettings(("radix",), workers=(2,), kv_blocks=64, block_size=BLOCK)
    measured = Measured(trace, settings, [LiveResult(made)], [], None)
    outcome = simulate_beside(measured, lambda *_: None, "")
    report = outcome.report
    (shown,) = [one for one in report.figures() if one.source == LIVE]
    assert shown.of_reachable is not None
    assert shown.of_reachable <= 1.0 + 1e-9
    assert (INFINITE_WARM in report.bounds) == is_warm
    assert any("cached before it began" in note for note in outcome.notes) == is_warm
    top = report.bounds[INFINITE_WARM if is_warm else "infinite"]
    assert shown.reuse <= top + 1e-9
    if is_warm:
        assert INFINITE_WARM in report.definitions
        assert shown.reuse > report.bounds["infinite"]
    assert cell(COLUMNS[1], shown)
