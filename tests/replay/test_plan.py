"""`plan`: the least fleets that meet goals, found by few runs, and never wrongly."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.timing import LINEAR, POLYNOMIAL, Timing
from radixroute.replay.plan import TTFT_PLACES, Goals, Space, plan, usual_memories
from radixroute.replay.synth.workloads import shape_of, synthesize
from radixroute.replay.traces.trace import prefixes
from tests.replay.traces import trace_of


def nothing(*_told):
    """Nobody watches."""


def figures(ttft, itl=10.0, **others) -> Any:
    """As much of a run's figures as plans look at."""
    places = {f"ttft_{place}_ms": ttft for place in TTFT_PLACES}
    return SimpleNamespace(
        **{**places, "itl_mean_ms": itl, "itl_p99_ms": itl, "reuse": 0.5, **others}
    )


@pytest.fixture
def world(monkeypatch):
    """A simulator that is a formula: TTFT falls as workers and memory grow. Notes each run."""
    runs = []

    def simulated(_trace, policy, scenario, _numbered):
        shape = scenario.shape
        runs.append((policy, shape.workers, shape.kv_blocks * shape.block_size))
        waste = {"radix": 1.0, "round_robin": 2.0}[policy]
        needed = waste * (10 + 4_000_000 / (shape.kv_blocks * shape.block_size))
        return 1000.0 * needed / shape.workers

    monkeypatch.setattr("radixroute.replay.plan.simulate", simulated)
    monkeypatch.setattr("radixroute.replay.plan.run_figures", figures)
    return runs


TRACE = trace_of([(n * 10**8, 40, 5, [*range(10)]) for n in range(100)])


@pytest.mark.parametrize("goal_ms", [90, 500, 1000, 3000, 30_000, 10**9])
def test_the_least_workers_are_found_by_few_runs(world, goal_ms):
    sizes = (200_000, 400_000, 1_600_000)
    space = Space(("radix", "round_robin"), sizes, max_workers=200)
    found = plan(TRACE, Goals(ttft_ms=goal_ms), space, nothing)
    for fleet in found.fleets:
        waste = {"radix": 1.0, "round_robin": 2.0}[fleet.policy]
        held = fleet.kv_tokens // 4 * 4
        wanted = int(np.ceil(1000 * waste * (10 + 4_000_000 / held) / goal_ms))
        assert fleet.meets == (wanted <= 200)
        assert fleet.workers == min(wanted, 200)
    assert found.runs == len(world) == len(set(world))
    assert found.runs <= 12 * len(found.fleets)


def test_the_frontier_has_what_nothing_beats(world):
    space = Space(("radix", "round_robin"), (200_000, 400_000, 1_600_000), max_workers=200)
    found = plan(TRACE, Goals(ttft_ms=1000), space, nothing)
    by_need = [(one.policy, one.workers, one.total_kv_tokens) for one in found.frontier]
    assert by_need == [
        ("radix", 13, 13 * 1_600_000), ("radix", 20, 20 * 400_000), ("radix", 30, 30 * 200_000),
    ]  # fmt: skip
    assert all(fleet.policy == "radix" for fleet in found.frontier)
    none = plan(TRACE, Goals(ttft_ms=1), space, nothing)
    assert none.frontier == ()
    assert {fleet.workers for fleet in none.fleets} == {200}


def test_both_goals_are_kept_to_and_at_the_place_asked_for():
    assert Goals(ttft_ms=10).are_met(figures(10))
    assert not Goals(ttft_ms=10).are_met(figures(10.1))
    assert not Goals(ttft_ms=10).are_met(figures(float("nan")))  # nothing was answered
    assert not Goals(ttft_ms=10, itl_ms=5).are_met(figures(1, 6))
    assert Goals(itl_ms=5).are_met(figures(1, float("nan")))  # one token each
    apart = figures(5, ttft_p99_ms=50.0)
    assert Goals(ttft_ms=10).are_met(apart)
    assert not Goals(ttft_ms=10, ttft_at="p99").are_met(apart)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Goals(), "a plan needs a goal"),
        (lambda: Goals(ttft_ms=0), "above 0, not 0"),
        (lambda: Goals(ttft_ms=1, ttft_at="p95"), "cannot be of p95: use one of mean, p50"),
        (lambda: Goals(itl_ms=1, itl_at="p50"), "use one of mean, p99"),
        (lambda: Space(()), "name at least one"),
        (lambda: Space(max_workers=0), "at least 1"),
        (
            lambda: plan(TRACE, Goals(1), Space(kv_tokens=(40,)), nothing),
            "45 tokens: no memory of 40",
        ),
    ],
)
def test_goals_and_spaces_that_make_no_plan_are_refused(make, reason):
    with pytest.raises(InvalidShape, match=reason):
        make()


def test_memories_that_suit_a_trace_hold_its_longest_request_and_end_with_its_prefixes():
    small = trace_of([(0, 40, 5, [*range(10)])])
    assert usual_memories(small, prefixes(small, 4)) == (65536,)
    long = trace_of([(0, 100_000, 5, [n * 10**6 + k for k in range(25_000)]) for n in range(9)])
    sizes = usual_memories(long, prefixes(long, 4))
    assert sizes == (262_144, 524_288, 1_048_576)
    assert sizes[-1] >= 9 * 100_000 > sizes[-2]


def test_a_memory_that_holds_too_little_is_left_out_and_said(world):
    found = plan(TRACE, Goals(10**9), Space(("radix",), (40, 400_000)), nothing)
    assert found.too_small == (40,)
    assert [fleet.kv_tokens for fleet in found.fleets] == [400_000]


@pytest.mark.parametrize(
    ("timing", "held"),
    [
        (POLYNOMIAL, 1 << 20),
        (LINEAR, 1 << 20),
        (Timing("calibrated", a1=0.01, kv_tokens=5000), 5000),
    ],
)
@pytest.mark.parametrize("most", [400_000, 16_000_000])
def test_decoding_is_the_same_machines_for_every_memory(monkeypatch, timing, held, most):
    """A share of the worker's own memory would make small workers slow for that alone."""
    seen = []

    def simulated(_trace, _policy, scenario, _numbered):
        seen.append(scenario.timing)
        return 1.0

    monkeypatch.setattr("radixroute.replay.plan.simulate", simulated)
    monkeypatch.setattr("radixroute.replay.plan.run_figures", figures)
    space = Space(("radix",), (200_000, most), timing=timing)
    found = plan(TRACE, Goals(10**9), space, nothing)
    assert found.decode_kv_tokens == held
    assert len(set(seen)) == 1
    (used,) = set(seen)
    contexts = [held * share / 10 for share in range(1, 40 if most > held else 10)]
    steps = [used.decode_ms(1, context) for context in contexts]
    assert steps == sorted(steps)  # no step gets shorter by doing more
    own = replace(timing, kv_tokens=held)
    assert used.decode_ms(1, held) == pytest.approx(own.decode_ms(1, held))


def test_on_the_simulator_every_fleet_meets_the_goal_and_one_worker_fewer_does_not():
    trace = synthesize("chats", 5, shape_of("chats", {"requests": "150"}))
    goals = Goals(ttft_ms=120, ttft_at="p90")
    space = Space(("radix", "round_robin"), (16_384, 65_536), max_workers=16, speed=8.0)
    told = []
    found = plan(trace, goals, space, lambda *what: told.append(what))
    assert found.frontier
    for fleet in found.fleets:
        assert fleet.meets == (fleet.figures.ttft_p90_ms <= 120)
        if fleet.meets and fleet.workers > 1:
            one_less = replace(space, max_workers=fleet.workers - 1)
            again = plan(
                trace,
                goals,
                replace(one_less, policies=(fleet.policy,), kv_tokens=(fleet.kv_tokens,)),
                nothing,
            )
            assert not again.frontier
    assert len(told) == found.runs
    assert all(done < total == 4 for done, total, _ in told)
