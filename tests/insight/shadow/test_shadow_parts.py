"""Parts of shadows: numbers of keys, rows of a tape, and what is made of results."""

import msgspec
import numpy as np
import pytest

from radixroute.insight.shadow.collector import Collector
from radixroute.insight.shadow.comparison import BUCKET_NS, Comparison
from radixroute.insight.shadow.messages import (
    Begin,
    Live,
    Result,
    ShadowTiming,
    ShadowWorker,
    decode_order,
    encode,
)
from radixroute.insight.shadow.node_numbers import NodeNumbers
from radixroute.insight.shadow.simulations import Simulations, timing_of
from radixroute.radix.ids import WorkerId
from radixroute.replay.changes import DIE, JOIN
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import Simulation
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.router.core.logs.tape import Tape
from radixroute.router.messages.inputs import PackedTokens, Resumed
from tests.router.worlds import MS, S, World, request

# -- numbers


def test_a_key_keeps_its_number_while_somebody_asks_for_it():
    rng = np.random.default_rng(7)
    numbers, known = NodeNumbers(200), dict[int, int]()
    hot = rng.integers(0, 2**64, 40, np.uint64)
    for _ in range(200):
        cold = rng.integers(0, 2**64, 30, np.uint64)
        keys = np.concatenate([hot, cold])
        found = numbers.of(keys).tolist()
        for key, number in zip(keys.tolist(), found, strict=True):
            assert known.setdefault(key, number) == number
    assert numbers.n_turns > 10
    assert len(set(known.values())) == len(known)


def test_a_key_that_nobody_asked_for_during_a_generation_is_new_again():
    numbers = NodeNumbers(4)
    (first,) = numbers.of(np.array([99], np.uint64)).tolist()
    numbers.of(np.arange(3, dtype=np.uint64))
    assert numbers.of(np.array([99], np.uint64)).tolist() == [first]
    numbers.of(np.arange(100, 111, dtype=np.uint64))
    assert numbers.of(np.array([99], np.uint64)).tolist() != [first]


def test_a_prompt_larger_than_a_generation_has_a_number_for_each_key():
    keys = np.arange(1000, dtype=np.uint64)
    assert len(set(NodeNumbers(64).of(keys).tolist())) == 1000


# -- rows


class Tapped:
    """A world without I/O, and a collector of its tape."""

    def __init__(self, lag_s: float = 60.0) -> None:
        self.world = World("a", "b")
        self.world.tape.take()  # the fleet is there
        workers = [WorkerId("a"), WorkerId("b")]
        self.collector = Collector(workers, 0, round(lag_s * S), lambda spec, _: spec.keys)

    def take(self, now_ns: int | None = None):
        for record in self.world.tape.take():
            self.collector.read(record)
        return self.collector.take(self.world.now_ns if now_ns is None else now_ns)


def test_a_request_is_told_once_it_has_ended_and_nobody_before_it_is_open():
    tapped = Tapped()
    world = tapped.world
    world.submit(request("long", n=4))
    world.now_ns = 5 * MS
    world.submit(request("short", n=1, now_ns=world.now_ns))
    for w in "ab":
        world.step(w)
    taken = tapped.take(9 * MS)
    assert taken.batch.rows == ()
    assert taken.batch.until_ns == 0  # the first one's arrival: it may still tell more
    for _ in range(3):
        world.step("a")
        world.step("b")
    taken = tapped.take(10 * MS)
    assert [row.output_tokens for row in taken.batch.rows] == [4, 1]
    assert [asked.request_id for asked in taken.asked] == ["long", "short"]
    assert [row.arrival_ns for row in taken.batch.rows] == [0, 5 * MS]
    assert taken.batch.until_ns == 10 * MS
    assert tapped.take(11 * MS).batch.rows == ()


def test_an_answer_that_takes_too_long_is_given_a_usual_length_and_counted():
    tapped = Tapped(lag_s=2.0)
    world = tapped.world
    world.submit(request("endless", n=500))
    world.now_ns = 1 * S
    world.submit(request("next", n=1, now_ns=world.now_ns))
    world.step("a")
    world.step("b")
    assert tapped.take(2 * S).batch.rows == ()
    taken = tapped.take(2 * S + 1)
    assert [asked.request_id for asked in taken.asked] == ["endless", "next"]
    assert tapped.collector.counts.cut == 1
    assert taken.batch.rows[0].output_tokens > 1
    world.abort("endless")
    assert tapped.take().batch.rows == ()


@pytest.mark.parametrize("why", ["leased", "without_answer", "resumed"])
def test_what_no_shadow_can_be_asked_is_left_out_and_counted(why):
    tapped = Tapped()
    world = tapped.world
    if why == "leased":
        world.route(request("r"), "lease")
    elif why == "without_answer":
        world.submit(request("r"))
        world.abort("r")
    else:
        resumed = Resumed(PackedTokens(b"\1\0\0\0"), 1, 1)
        world.submit(msgspec.structs.replace(request("r"), resumed=resumed))
        world.abort("r")
    assert tapped.take(1).batch.rows == ()
    assert tapped.collector.counts.left_out == {why: 1}
    assert tapped.take(5 * S).batch.until_ns == 5 * S  # nobody waits for it


def test_deaths_and_returns_of_workers_are_told_in_their_place():
    tapped = Tapped()
    world = tapped.world
    world.now_ns = 1 * S
    world.kill("a")
    world.now_ns = 2 * S
    world.revive("a")
    changes = tapped.take(3 * S).batch.changes
    assert [(one.at_ns, one.worker, one.kind) for one in changes] == [
        (1 * S, 0, DIE),
        (2 * S, 0, JOIN),
    ]


# -- simulations


TIMING = ShadowTiming(0, 12.0, 0.05, 6.0, 0.2)


@pytest.mark.parametrize("policy", ["radix", "round_robin", "dynamo_agentic"])
def test_the_shadow_of_a_router_with_a_simulated_fleet_does_what_it_did(policy):
    """All of the way but what is learned of speeds: tape, rows, bytes, simulations, results."""
    shape = FleetShape(workers=4, kv_blocks=1500, block_size=64)
    trace = cut(synthesize("chats", 5), 300)
    scenario = Scenario(shape, timing_of(TIMING), speed=4.0, seed=3)
    live = Simulation(trace, policy, scenario, None)
    tape = Tape()
    core = live._routers[0].core
    object.__setattr__(core._state, "tape", tape)
    run = live.run()

    workers = [live._routers[0].worker_id(w) for w in range(4)]
    collector = Collector(workers, 0, 3600 * S, lambda spec, _: spec.keys)
    shadow = ShadowWorker(1500, shape.max_num_seqs, shape.max_num_batched_tokens)
    begin = decode_order(encode(Begin(1, (policy, "least_loaded"), (shadow,) * 4, 64, 3)))
    simulations = Simulations(begin)
    timings = tuple(TIMING._replace(worker=w) for w in range(4))
    wanted, found = dict[int, Live](), dict[int, Result]()
    records = tape.take()
    cuts = np.random.default_rng(1).integers(0, len(records), 30)
    for first, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(records)], strict=True):
        for record in records[first:end]:
            collector.read(record)
        taken = collector.take(records[end - 1].now_ns if end < len(records) else 1 << 50)
        batch = type(taken.batch)(
            taken.batch.until_ns, taken.batch.rows, taken.batch.changes, timings
        )
        timings = ()
        for row, asked in zip(taken.batch.rows, taken.asked, strict=True):
            wanted[row.tag] = asked.live
        results = simulations.take(decode_order(encode(batch)))
        assert [state.error for state in results.states] == ["", ""]
        found |= {one.tag: one for one in results.results if one.policy == 0}
    assert len(wanted) == len(trace) == len(found)
    for tag, lived in wanted.items():
        result = found[tag]
        assert result[2:] == (lived.worker, lived.ttft_ns, lived.cached_tokens)
    assert sum(one.cached_tokens for one in found.values()) == run.cached_tokens.sum()


def test_a_shadow_that_fails_ends_alone(monkeypatch):
    shadow = ShadowWorker(100, 8, 512)
    simulations = Simulations(Begin(1, ("radix", "round_robin"), (shadow,), 16, 0))
    tapped = Tapped()
    tapped.world.submit(request("r", n=1))
    tapped.world.step("a")
    tapped.world.step("b")
    batch = tapped.take(1 * S).batch
    simulations.take(batch)
    results = simulations.take(batch)  # its requests come in the past now
    assert all("past" in state.error for state in results.states)


# -- comparison


def compared(live_ms, mine_ms, other_ms, *, buckets=20, a_bucket=10, cached=(4, 5, 6)):
    """One of `radix`, the live policy, and another's; requests of equal prompts."""
    comparison = Comparison(("radix", "other"), 3600 * S)
    rng = np.random.default_rng(2)
    tag = 0
    for bucket in range(buckets):
        noise = rng.normal(1.0, 0.1)
        for _ in range(a_bucket):
            tag += 1
            live = Live(0, round(live_ms * noise * MS), cached[0], 0)
            comparison.asked(tag, live, arrival_ns=bucket * BUCKET_NS, prompt_tokens=10)
            mine = Result(0, tag, 0, round(mine_ms * noise * MS), cached[1])
            other = Result(1, tag, tag % 2, round(other_ms * noise * MS), cached[2])
            comparison.answered([mine], 2)
            comparison.answered([other], 2)
    return comparison.figures()


def test_a_shadow_is_compared_with_the_live_policys_and_that_with_reality():
    real, mine, other = compared(100.0, 110.0, 88.0)
    assert [f.policy for f in (real, mine, other)] == ["radix", "radix", "other"]
    assert (real.is_live, mine.is_live, other.is_live) == (True, False, False)
    assert (real.requests, mine.requests, other.requests) == (200, 200, 200)
    assert mine.ttft_times.value == pytest.approx(1.1)
    assert other.ttft_times.value == pytest.approx(0.8)
    assert other.hit_rate_more.value == pytest.approx(0.1)
    assert mine.hit_rate_more.value == pytest.approx(0.1)
    assert (mine.flips, other.flips) == (0, 100)


def test_limits_are_there_once_enough_was_seen_and_hold_the_truth_as_often_as_they_say():
    *_, other = compared(100.0, 110.0, 88.0, buckets=5)
    assert other.ttft_times.margin is None
    rng, inside = np.random.default_rng(5), 0
    for _ in range(200):
        comparison = Comparison(("radix", "other"), 3600 * S)
        for tag in range(1, 401):
            comparison.asked(
                tag, Live(0, 100 * MS, 4, 0), arrival_ns=tag // 20 * BUCKET_NS, prompt_tokens=10
            )
            pair = [Result(p, tag, 0, round(rng.exponential(100.0) * MS), 4) for p in (0, 1)]
            comparison.answered(pair, 2)
        estimate = comparison.figures()[2].ttft_times
        assert estimate.margin is not None
        inside += abs(estimate.value - 1.0) <= estimate.margin
    assert 175 <= inside <= 199


def test_the_window_is_bounded_and_so_are_requests_that_some_shadow_never_answers():
    comparison = Comparison(("radix", "other"), 3 * BUCKET_NS)
    for tag in range(45_000):
        comparison.asked(
            tag, Live(0, MS, 1, 0), arrival_ns=tag * BUCKET_NS // 1000, prompt_tokens=10
        )
        comparison.answered([Result(0, tag, 0, MS, 1)], 2)
        if tag < 10_000:
            comparison.answered([Result(1, tag, 0, MS, 1)], 2)
    assert comparison.figures()[0].requests == 3000
    assert comparison.n_unmatched > 0
    assert len(comparison._open) <= 1 << 15
