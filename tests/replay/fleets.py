"""Small random workloads for fleets, and the drivers that put them through one."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from radixroute.radix.index.layout import PACKED_HEAD, PACKED_STORE
from radixroute.radix.tree.eviction import EVICTION_POLICIES
from radixroute.replay.changes import DIE, SLOWNESS, FleetChange, in_order
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.kernels import keys_of
from radixroute.replay.fleet.shape import FleetBuffers, FleetShape
from radixroute.replay.fleet.simulated_fleet import CacheWords, FleetStep, SimulatedFleet
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes
from tests.replay.slow_fleet import SlowFleet, SlowRow

_NEVER = 1 << 50


@dataclass(frozen=True)
class Workload:
    """A trace, the fleet it meets, and which worker each request goes to."""

    trace: Trace
    prefixes: Prefixes
    shape: FleetShape
    timing: Timing
    placement: list[int]
    changes: tuple[FleetChange, ...] = ()  # of slowness, and deaths after which it lives again
    last_of: Any = None  # of `SimulatedFleet`: who says that its session is over


def random_workload(seed: int) -> Workload:
    """Shared prefixes, bursts, and workers so small that they evict and preempt; any policy."""
    rng = random.Random(seed)
    block_size = rng.choice((1, 2, 4))
    trace = _trace(rng, block_size * rng.choice((1, 1, 2)), rng.randint(1, 24))
    most = int((trace.input_tokens + trace.output_tokens - 1).max())
    shape = FleetShape(
        workers=rng.randint(1, 3),
        kv_blocks=-(-most // block_size) + rng.choice((0, 1, 3, 8, 30)),
        block_size=block_size,
        max_num_batched_tokens=rng.choice((1, 3, 8, 20, 100)),
        max_num_seqs=rng.choice((1, 2, 4, 12)),
        watermark_blocks=rng.choice((0, 0, 1, 4)),
        slowness=rng.choice(((), (1.7,))),
    )
    timing = Timing(
        "random",
        a1=rng.choice((0.0, 0.3)),
        a0=rng.choice((0.0, 1.0, 2.0)),
        d2=rng.choice((0.0, -0.7)),
        d1=rng.choice((0.0, 1.3)),
        d0=rng.choice((0.0, 1.0)),
        d_each=rng.choice((0.0, 0.11)),
        d_min=rng.choice((0.0, 1.0)),
    )
    # Drawn apart: workloads stay what they were.
    drawn = random.Random(seed + 2_000_000)
    timing = replace(
        timing,
        every=drawn.choice((0.0, 0.7)),
        a_pair=drawn.choice((0.0, 0.013)),
        a_each=drawn.choice((0.0, 0.9)),
    )
    placement = [rng.randrange(shape.workers) for _ in range(len(trace))]
    shape = replace(shape, eviction_policy=EVICTION_POLICIES[seed % len(EVICTION_POLICIES)])
    told = random.Random(seed + 3_000_000)
    share, longest = told.choice((0.0, 0.3, 0.7, 1.0)), told.choice((1, 2, 4))
    last_of = [told.randint(1, longest) if told.random() < share else 0 for _ in placement]
    numbered = prefixes(trace, block_size)
    return Workload(trace, numbered, shape, timing, placement, last_of=np.array(last_of, np.int64))


def _trace(rng: random.Random, block_size: int, n: int) -> Trace:
    branches = rng.randint(1, 3)  # at each place of the trie
    deepest = rng.randint(1, 10)
    longest = rng.choice((1, 4, 12, 40))
    gap_ns = rng.choice((0, 10**6, 4 * 10**6, 2 * 10**7))
    now_ns, arrivals, inputs, blocks, first = 0, [], [], [], [0]
    for _ in range(n):
        now_ns += gap_ns * rng.choice((0, 0, 1, 2))
        ids = [rng.randrange(branches) for _ in range(rng.randint(1, deepest))]
        blocks += ids
        first.append(len(blocks))
        arrivals.append(now_ns)
        inputs.append((len(ids) - 1) * block_size + rng.randint(1, block_size))
    outputs = [rng.randint(1, longest) for _ in range(n)]
    return new_trace(block_size, arrivals, inputs, outputs, first, blocks)


def changing_workload(seed: int) -> Workload:
    """The same with caches of different size, workers that slow down and recover, and deaths."""
    load, rng = random_workload(seed), random.Random(seed + 1_000_000)
    shape, n_workers = load.shape, load.shape.workers
    caches = tuple(
        shape.kv_blocks + rng.choice((0, 2, 9)) for _ in range(rng.randint(0, n_workers))
    )
    last_s = load.trace.arrival_ns[-1] / 1e9 + 0.1
    changes = [
        FleetChange(
            round(rng.uniform(0.0, last_s), 3),
            rng.randrange(n_workers),
            rng.choice((SLOWNESS, SLOWNESS, DIE)),
            rng.choice((0.5, 1.0, 3.0)),
        )
        for _ in range(rng.randint(1, 5))
    ]
    return replace(load, shape=replace(shape, first_kv_blocks=caches), changes=tuple(changes))


def new_trace(block_size: int, *columns: list[int]) -> Trace:
    """Columns as `Trace` has them, from the arrivals on."""
    after = [-1] * len(columns[0])
    return Trace("small", block_size, *(np.array(c, np.int64) for c in (*columns, after)))


def new_fleet(load: Workload, buffers: FleetBuffers | None = None) -> SimulatedFleet:
    fleet = SimulatedFleet(
        load.trace, load.prefixes, load.shape, load.timing, buffers=buffers, last_of=load.last_of
    )
    fleet.listen()
    return fleet


@dataclass
class Record:
    """Everything a fleet showed."""

    requests: Any
    workers: Any
    events: list[Any]
    reports: list[FleetStep]


def happenings(load: Workload) -> list[tuple[int, int | FleetChange]]:
    """Arrivals, as numbers of requests, and changes, in order of time; changes go first."""
    changes = [(change.at_ns, 0, change) for change in in_order(load.changes)]
    arrivals = [(ns, 1, n) for n, ns in enumerate(load.trace.arrival_ns.tolist())]
    both: list[tuple[int, int, int | FleetChange]] = [*changes, *arrivals]
    both.sort(key=lambda one: one[:2])
    return [(ns, what) for ns, _, what in both]


def next_worker(load: Workload, worker: int) -> int:
    """Who takes what another had when it died; alone, its own next life."""
    return (worker + 1) % load.shape.workers


def drive(load: Workload, fleet: SimulatedFleet, advance: Any) -> Record:
    """All requests through the fleet; `advance(fleet, until_ns)` lets some time pass."""
    events: list[Any] = []
    reports: list[FleetStep] = []
    for until_ns, what in [*happenings(load), (_NEVER, None)]:
        while fleet.now_ns < until_ns and not (until_ns == _NEVER and fleet.is_idle):
            advance(fleet, until_ns)
            events += events_by_step(fleet.take_events())
            reports += fleet.take_reports()
        match what:
            case int(request):
                fleet.submit(request, load.placement[request], until_ns)
            case FleetChange(kind="die", worker=worker):
                for request, _ in fleet.die(worker):
                    fleet.submit(request, next_worker(load, worker), until_ns)
                events += events_by_step(fleet.take_events())
            case FleetChange():
                fleet.set_slowness(what.worker, what.slowness)
    return Record(fleet.attempts.outcomes(), fleet.workers, events, reports)


def events_by_step(taken: list[CacheWords]) -> list[Any]:
    """(ns, worker, words) of each step."""
    return [
        (ns, which, batch.words[start:end].tolist())
        for batch in taken
        for ns, which, start, end in batch.rows.tolist()
    ]


def drive_slowly(load: Workload) -> SlowFleet:
    slow = SlowFleet(load.trace, load.prefixes, load.shape, load.timing, load.last_of)
    for ns, what in happenings(load):
        if ns > slow.now_ns:
            slow.advance(ns)
        match what:
            case int(request):
                slow.submit(request, load.placement[request], ns)
            case FleetChange(kind="die", worker=worker):
                for request in slow.die(worker):
                    slow.resume(request, next_worker(load, worker), ns)
            case FleetChange():
                slow.set_slowness(what.worker, what.slowness)
    slow.advance(_NEVER)
    for one in slow.workers:
        one.scheduler.check()
    return slow


def unpacked(events: list[Any], n_nodes: int) -> list[Any]:
    """A fleet's packed events as `slow_fleet.numbered_events` writes them."""
    keys = np.empty(n_nodes, np.uint64)
    keys_of(np.arange(n_nodes, dtype=np.int32), keys)
    nodes: dict[int, int | None] = {key: node for node, key in enumerate(keys.tolist())}
    nodes[0] = None
    rows = []
    for ns, worker, words in events:
        plain: list[Any] = []
        start = 0
        while start < len(words):
            kind, parent, count = words[start : start + PACKED_HEAD]
            end = start + PACKED_HEAD + count
            numbers = [nodes[key] for key in words[start + PACKED_HEAD : end]]
            plain.append((nodes[parent], numbers) if kind == PACKED_STORE else (numbers,))
            start = end
        rows.append((ns, worker, plain))
    return rows


def times(fleet_requests: Any) -> list[Any]:
    """The columns that both fleets must agree on, one row a request."""
    columns = (at.ADMITTED_NS, at.FIRST_NS, at.FINISH_NS, at.CACHED, at.RECOMPUTED)
    return [tuple(row[list(columns)].tolist()) for row in fleet_requests]


def slow_times(slow: SlowFleet) -> list[Any]:
    return [_slow_times(slow.rows[request]) for request in range(len(slow.rows))]


def _slow_times(row: SlowRow) -> tuple[int | None, ...]:
    """All attempts as one: as `EarlierAttempts` has it."""
    admitted = [one for one in (*row.earlier, row.sequence) if one.cached_tokens is not None]
    first, recomputed, computed = admitted[0], 0, 0
    for one in admitted:
        cached = one.cached_tokens or 0
        # Of an attempt that goes on the engine counts what was put out before, which no cache has.
        recomputed += one.recomputed_tokens - len(one.request.emitted)
        recomputed += max(0, computed - cached)
        computed = one.n_lost if one.lease is None else one.n_computed
    return (first.first_scheduled_ns, row.first_ns, row.finish_ns, first.cached_tokens, recomputed)
