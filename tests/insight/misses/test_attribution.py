"""Live attribution says what a replay's does, token for token, in whatever pieces it is told."""

from collections import Counter

import numpy as np
import pytest

from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.events.wire.records import CacheCleared as AllCleared
from radixroute.insight.misses import attribution as live
from radixroute.insight.misses.attribution import Attribution
from radixroute.insight.misses.blocks import Blocks
from radixroute.insight.misses.offsets import Offset
from radixroute.insight.misses.sums import CACHED, EITHER, LIVE_CLASSES, PROMPT, MissSums
from radixroute.radix.ids import Holder, WorkerId
from radixroute.replay.analysis import misses_layout as at
from radixroute.replay.analysis.misses import CLASSES, Beliefs, attribute_misses
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import LINEAR
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import Simulation
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import prefixes
from radixroute.router.core.logs.tape import (
    CacheChanged,
    CacheCredited,
    Record,
    Sent,
    Tape,
)
from tests.router.worlds import MS, S, World, request

SETTLE_NS = 100 * MS
EPOCH_S = 1_000_000.0  # of the workers' clocks, which are not the router's
MIB = 1 << 20


class Told(Attribution):
    """Keeps what it said of each request."""

    def __init__(self, max_bytes: int = 8 * MIB) -> None:
        super().__init__(max_bytes, SETTLE_NS, MissSums(60))
        self.by_request: dict[str, np.ndarray] = {}

    def _told(self, asked, missed, reusable, cached):
        tokens = super()._told(asked, missed, reusable, cached)
        for one, row in zip(asked, missed, strict=True):
            assert one.spec.request_id not in self.by_request
            self.by_request[one.spec.request_id] = row.copy()
        return tokens


def simulated(policy, *, kv_blocks=120, seed=3, speed=6.0, event_delay_ms=0.0, n=250):
    """A run with its cache events, and the tape of its router."""
    shape = FleetShape(workers=4, kv_blocks=kv_blocks, block_size=64)
    trace = cut(synthesize("chats", seed), n)
    conditions = Conditions(event_delay_ms=event_delay_ms, dispatch_ms=1.0)
    scenario = Scenario(
        shape, LINEAR, speed=speed, seed=seed, conditions=conditions, keeps_events=True
    )
    simulation = Simulation(trace, policy, scenario, None)
    tape = Tape(1 << 20)
    core = simulation._routers[0].core
    object.__setattr__(core._state, "tape", tape)
    run = simulation.run()
    workers = [simulation._routers[0].worker_id(w) for w in range(4)]
    changes = [
        (int(ns), workers[worker], batch.words[first:end])
        for batch in simulation._kept
        for ns, worker, first, end in batch.rows.tolist()
    ]
    return run, prefixes(trace, 64), tape.take(), changes


def heard(records, changes, seed: int) -> list[Record]:
    """All that the router hears, in that order; changes come up to `SETTLE_NS` late, at times at
    once."""
    rng = np.random.default_rng(seed)
    last = Counter[WorkerId]()
    rows: list[tuple[int, int, Record]] = []
    for n, (ns, worker, words) in enumerate(changes):
        late_ns = int(rng.integers(0, SETTLE_NS - 1)) if last[worker] and rng.random() < 0.6 else 0
        at_ns = last[worker] = max(last[worker], ns + late_ns)
        ts = EPOCH_S + ns / 1e9
        rows.append((at_ns, n, CacheChanged(Holder(worker), PackedEvents(words), ts, at_ns)))
    rows += [(record.now_ns, len(changes) + n, record) for n, record in enumerate(records)]
    rows.sort(key=lambda row: row[:2])
    return [row[2] for row in rows]


def in_trace_order(records) -> list[Record]:
    """Of one time a replay takes the earlier in the trace first; live, who was first is."""
    placed, at_ns = list(records), dict[int, list[int]]()
    for place, record in enumerate(placed):
        if isinstance(record, Sent):
            at_ns.setdefault(record.now_ns, []).append(place)
    for places in at_ns.values():
        sent = sorted((placed[p] for p in places), key=lambda one: int(one.request_id))
        for p, record in zip(places, sent, strict=True):
            placed[p] = record
    return placed


def best_tokens(records, n: int) -> np.ndarray:
    best = np.zeros(n, np.int64)
    for record in records:
        if isinstance(record, Sent):
            view = record.decision.view
            best[int(record.request_id)] = int(view.held_blocks.max()) * view.block_size
    return best


@pytest.mark.parametrize("policy", ["radix", "round_robin", "least_loaded"])
@pytest.mark.parametrize("event_delay_ms", [0.0, 40.0])
def test_live_attribution_is_that_of_a_replay_token_for_token(policy, event_delay_ms):
    run, numbered, records, changes = simulated(policy, event_delay_ms=event_delay_ms)
    wanted = attribute_misses(run, numbered, Beliefs(best_tokens(records, len(run.trace))))
    for seed in (1, 2):
        told = Told()
        stream = heard(in_trace_order(records), changes, seed)
        cuts = sorted(np.random.default_rng(seed).integers(0, len(stream), 60).tolist())
        for first, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            told.read(stream[first:end])
            if first < end:
                told.settle(stream[end - 1].now_ns)
        told.settle(1 << 61)
        told.blocks.check()
        assert len(told.by_request) == len(run.trace)
        for request_id, classes in told.by_request.items():
            others = wanted.tokens[int(request_id)]
            # Preemptions behind a first token are in no report.
            assert classes[at.PREEMPTION] <= others[at.PREEMPTION]
            assert (
                np.delete(classes, at.PREEMPTION).tolist()
                == np.delete(others, at.PREEMPTION).tolist()
            ), request_id
        totals = np.sum(list(told.sums.totals.values()), axis=0)
        again = totals[at.PREEMPTION]
        assert totals[:PROMPT].sum() + totals[CACHED] == totals[PROMPT] + again
    names = {name for name, n in wanted.totals.items() if n}
    assert {"never_seen", "evicted_everywhere", "last_token", "partial_block"} <= names


def test_the_worlds_of_these_tests_have_the_classes_that_are_hard():
    found = Counter[str]()
    for policy, delay_ms in (("radix", 40.0), ("round_robin", 0.0), ("radix", 0.0)):
        run, numbered, records, _ = simulated(policy, event_delay_ms=delay_ms)
        beliefs = Beliefs(best_tokens(records, len(run.trace)))
        found.update(attribute_misses(run, numbered, beliefs).totals)
    for name in ("stale_index", "evicted_before_admission", "not_chosen", "being_computed"):
        assert found[name] > 0, name


# -- what cannot be known


class Live:
    """A world without I/O, and what is said of its misses."""

    def __init__(self) -> None:
        self.world = World("a", "b")
        self.told = Told()
        self.credit(True)

    def credit(self, is_credited: bool, worker="ab") -> None:
        for w in worker:
            self.world.tape.add(CacheCredited(Holder(WorkerId(w)), is_credited, self.world.now_ns))

    def serve(self, name: str, **more) -> None:
        self.world.submit(request(name, n=1, now_ns=self.world.now_ns, **more))
        for w in "ab":
            self.world.step(w)

    def settle(self) -> None:
        self.told.read(self.world.tape.take())
        self.world.now_ns += S
        self.told.settle(self.world.now_ns)


def test_while_a_stream_is_not_up_to_date_nothing_is_said_but_why():
    live = Live()
    live.settle()
    live.credit(False, "b")
    live.serve("r")
    live.settle()
    assert live.told.by_request == {}
    assert live.told.sums.unattributed == {"stream": request("r").prompt_tokens}
    live.credit(True, "b")
    live.serve("later")
    live.settle()
    assert list(live.told.by_request) == ["later"]


def test_a_worker_whose_events_have_no_times_has_one_class_for_two():
    live = Live()
    live.settle()
    keys = request("r", prefix=7).keys
    for w in "ab":
        holder = Holder(WorkerId(w))
        live.world.tape.add(CacheChanged(holder, (BlocksStored(None, keys),), 0.0, 0))
        live.world.index.held[WorkerId(w)].update(keys.tolist())
    live.world.now_ns = 10 * MS
    live.world.submit(request("r", prefix=7, n=1, now_ns=live.world.now_ns))
    for w in "ab":  # it is evicted on the way
        live.world.index.held[WorkerId(w)].clear()
        live.world.step(w)
    live.settle()
    totals = np.sum(list(live.told.sums.totals.values()), axis=0)
    missed = dict(zip(LIVE_CLASSES, totals[:PROMPT].tolist(), strict=True))
    assert missed[EITHER] > 0
    assert missed["evicted_before_admission"] == missed["stale_index"] == 0


def test_a_cache_that_is_cleared_holds_what_came_after():
    blocks_keys = np.arange(1, 9, dtype=np.uint64)
    told = Told()
    holder = Holder(WorkerId("a"))
    events = (
        BlocksStored(None, blocks_keys[:4]),
        AllCleared(),
        BlocksStored(None, blocks_keys[4:6]),
    )
    told.read([CacheCredited(holder, True, 0), CacheChanged(holder, events, 1.0, 5)])
    told.settle(1 << 61)
    rows = told.blocks.rows_of(blocks_keys, told.blocks.stamp)
    assert [bool(told.blocks.held[row].any()) for row in rows] == [
        *[False] * 4,
        True,
        True,
        False,
        False,
    ]


def test_of_two_copies_the_last_one_counts():
    told, holder = Told(), Holder(WorkerId("a"))
    keys = np.array([5], np.uint64)
    store, remove = BlocksStored(None, keys), BlocksRemoved(keys)
    told.read([CacheChanged(holder, (store, store, remove), 1.0, 5)])
    told.settle(1 << 61)
    (row,) = told.blocks.rows_of(keys, told.blocks.stamp)
    assert told.blocks.held[row].any()
    told.read([CacheChanged(holder, (remove,), 2.0, 5)])
    told.settle(1 << 61)
    assert not told.blocks.held[row].any()


# -- bounds


def test_blocks_are_bounded_and_what_is_held_is_not_forgotten():
    blocks = Blocks(1, units=2)  # as few rows as there may be
    n = len(blocks._keys)
    held = blocks.rows_of(np.arange(1, 101, dtype=np.uint64), blocks.stamp)
    blocks.held[held, 0] = 1
    rng = np.random.default_rng(1)
    for _ in range(100):
        rows = blocks.rows_of(rng.integers(1000, 1 << 60, 100, np.uint64), blocks.stamp)
        assert (rows >= 0).all()
        blocks.check()
    assert blocks.n_forgotten > 8000
    assert len(blocks) <= n
    assert blocks.rows_of(np.arange(1, 101, dtype=np.uint64), 0).tolist() == held.tolist()


def test_what_finds_no_room_is_counted_and_counts_as_unknown():
    blocks = Blocks(1, units=1)
    n = len(blocks._keys)
    rows = blocks.rows_of(np.arange(1, n + 11, dtype=np.uint64), 0)
    assert (rows[:n] >= 0).all()
    assert (rows[n:] == -1).all()
    assert blocks.n_without_room == 10


def test_more_caches_than_there_was_room_for_change_nothing_of_what_is_known():
    told = Told()
    keys = np.arange(1, 2001, dtype=np.uint64)
    for n in range(20):
        mine = keys[100 * n : 100 * n + 100]
        told.read(
            [CacheChanged(Holder(WorkerId(f"w{n}")), (BlocksStored(None, mine),), 1.0 + n, n)]
        )
        told.settle(1 << 61)
    told.blocks.check()
    rows = told.blocks.rows_of(keys, told.blocks.stamp)
    wanted = [1 << (n // 100) for n in range(2000)]
    assert told.blocks.held[rows, 0].tolist() == wanted


def test_a_clock_that_is_not_ours_is_read_by_its_fastest_message():
    offset = Offset()

    def of(*pairs):
        sent, heard = np.array(pairs, np.int64).T
        return offset.of(sent, heard).tolist()

    # At once, 100 late, 10 faster than the first, slow.
    assert of((1_000, 50), (1_100, 250), (1_200, 240), (1_300, 900)) == [50, 150, 240, 340]
    assert of((0, 330), (0, 950)) == [340, 950]  # none goes back, and some say nothing
    assert of((1_500, 960)) == [950]
    assert of((2_000, 10**12), (2_001, 10**12 + 1)) == [1040, 1041]
    # Who was fastest long ago is forgotten, after a minute or two.
    assert of((3_000, 3 * 10**12)) == [10**12 + 1000]
    assert of((4_000, 5 * 10**12)) == [3 * 10**12 + 1000]


def test_requests_that_never_end_are_bounded(monkeypatch):
    monkeypatch.setattr(live, "MAX_OPEN", 3)
    world = Live()
    for n in range(5):
        world.world.submit(request(f"r{n}", n=5))
    world.settle()
    assert world.told.n_open == 3
    assert list(world.told.sums.unattributed) == ["too_many"]


def test_classes_live_are_those_of_replays_and_one_more():
    assert LIVE_CLASSES[: at.MISSES_LEN] == CLASSES
