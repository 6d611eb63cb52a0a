"""`python -m bench.replay --only fleets`: workers that differ or change, and several routers.

Loads are shares of what the fleet can take: 1 is the speed of arrivals at which the work fills all
workers, each by its own speed, if they shared one cache as large as all together. Workloads have
seeds that nothing was tuned on. All in our simulator, in virtual time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, log
from statistics import mean

import numpy as np

from bench.replay.swings import given_again, swing
from bench.rows import Row, alone
from radixroute.replay.analysis.bounds import pooled_lru
from radixroute.replay.changes import SLOWNESS, FleetChange
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import POLYNOMIAL
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import BY_HASH, ROUND_ROBIN, Routers, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut, spread
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes

WORKERS, BLOCKS, BLOCK_SIZE = 8, 16384, 64
PRESET = "dynamo_agentic"
BUCKET_NS = 3_000_000_000  # of the clock of the conversation trace
LOADS = (0.7, 0.9)
LIGHT = 0.3
SLOW, TIMES_SLOWER = 0, 3.0  # which worker, and how much
SYNTH = ("chats", "agents", "rag")
SEED, MOST_REQUESTS = 21, 2500
PEER_BAR, RECOGNISED_BAR_S, LOSS_BAR = 1.3, 60.0, 1.05
# Whoever thinks a worker so many times slower or faster than it is has not seen what it is.
NEARLY = 1.25
HOLDS_S = 5.0
ROUTERS = (2, 4, 8)
_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class _Load:
    """A workload, and what one worker of speed 1 would need for it."""

    name: str
    trace: Trace
    numbered: Prefixes


def fleets(conversation: Trace) -> Iterator[Row]:
    yield from different(conversation)
    yield from recognised(conversation)
    yield from several_routers(conversation)


def different(conversation: Trace) -> Iterator[Row]:
    """The default against Dynamo's preset where workers differ; `ratio`: how many times better."""
    for case in CASES:
        ratios = list[float]()
        for load in _workloads(conversation):
            for share in (LIGHT, *LOADS):
                ours, peer = (_run(load, policy, share, case) for policy in ("radix", PRESET))
                mine, other = float(ours.ttft_ms.mean()), float(peer.ttft_ms.mean())
                name = f"fleets.{case}.{load.name}.l{share:g}.mean_ms"
                yield Row(name, mine, other, other / mine, "ms")
                if share != LIGHT:
                    ratios.append(other / mine)
                else:
                    yield alone(
                        f"fleets.{case}.{load.name}.light", mine / other, "of the peer", 1.01
                    )
        found = exp(mean(map(log, ratios)))
        yield Row(f"fleets.{case}.geometric_mean", 1.0, found, found, "of the peer", PEER_BAR)
        yield alone(f"fleets.{case}.worst", min(ratios), "times lower mean TTFT")


def recognised(conversation: Trace) -> Iterator[Row]:
    """Virtual seconds until the router knows that a worker slowed down, and that it is well."""
    for load in _workloads(conversation):
        for share in (LIGHT, *LOADS):
            run = _run(load, "radix", share, "slowed")
            for what, seconds in recognition(run).items():
                name = f"fleets.recognised.{load.name}.l{share:g}.{what}"
                yield alone(name, seconds, "s of virtual time", RECOGNISED_BAR_S)


def several_routers(conversation: Trace) -> Iterator[Row]:
    """What it costs that routers do not know of each other's decisions. `ratio`: one router's mean
    time to first token over theirs."""
    for by, numbers in ((ROUND_ROBIN, ROUTERS), (BY_HASH, (4,))):
        losses: dict[int, list[float]] = {n: [] for n in numbers}
        for load in _workloads(conversation):
            for share in (LIGHT, *LOADS):
                one = _run(load, "radix", share, "alike")
                for n in numbers:
                    run = _run(load, "radix", share, "alike", Routers(n, by))
                    name = f"routers.{by}.n{n}.{load.name}.l{share:g}"
                    mine, alone_ms = float(run.ttft_ms.mean()), float(one.ttft_ms.mean())
                    losses[n].append(mine / alone_ms)
                    yield Row(f"{name}.mean_ms", mine, alone_ms, alone_ms / mine, "ms")
                    mine, alone_ms = swing(run), swing(one)
                    yield Row(f"{name}.swing", mine, alone_ms, alone_ms / mine, "prompts")
                    beyond = given_again(run) - given_again(one)
                    yield alone(f"{name}.given_again", beyond, "correlation beyond one router's")
        for n, ratios in losses.items():
            loss = exp(mean(map(log, ratios)))
            bar = LOSS_BAR if n == 4 else None
            yield alone(f"routers.{by}.n{n}.geometric_mean", loss, "of one router's mean TTFT", bar)


def recognition(run: RunResult) -> dict[str, float]:
    """Seconds from each change of speed until what was learned of the worker is nearly right, and
    stays so for a while; infinite: never, or not until the next change."""
    learned = run.learned
    if learned is None:
        raise ValueError("the scenario did not keep learned speeds")
    slow_ns, well_ns = (change.at_ns for change in _slowed(run.trace, run.speed))
    slow = learned.prefill_ms[:, SLOW] / np.nanmedian(np.delete(learned.prefill_ms, SLOW, 1), 1)
    end_ns = int(run.finish_ns.max())
    return {
        "slowed": _first_s(learned.ns, slow * NEARLY >= TIMES_SLOWER, slow_ns, well_ns),
        "recovered": _first_s(learned.ns, slow <= NEARLY, well_ns, end_ns),
    }


def _first_s(ns: np.ndarray, holds: np.ndarray, from_ns: int, until_ns: int) -> float:
    inside = np.flatnonzero((ns >= from_ns) & (ns < until_ns))
    for look in inside.tolist():
        later = inside[(inside >= look) & (ns[inside] <= ns[look] + HOLDS_S * _SECOND)]
        if holds[later].all():
            return float(ns[look] - from_ns) / _SECOND
    return float("inf")


# -- the fleets

ALIKE = FleetShape(WORKERS, BLOCKS, BLOCK_SIZE)
ONE = Routers()
CASES = {
    "two_speeds": replace(ALIKE, slowness=(2.0,) * (WORKERS // 2)),
    "slowed": ALIKE,  # one of them for the middle third: `_slowed`
    "caches": replace(ALIKE, first_kv_blocks=(BLOCKS // 4,) * (WORKERS // 2)),
}


def _slowed(trace: Trace, speed: float) -> tuple[FleetChange, FleetChange]:
    third_s = trace.duration_ns / speed / 3 / _SECOND
    return (
        FleetChange(third_s, SLOW, SLOWNESS, TIMES_SLOWER),
        FleetChange(2 * third_s, SLOW, SLOWNESS, 1.0),
    )


def _run(load: _Load, policy: str, share: float, case: str, routers: Routers = ONE) -> RunResult:
    shape = CASES.get(case, ALIKE)
    speed = share * capacity(load.trace, load.numbered, shape)
    changes = _slowed(load.trace, speed) if case == "slowed" else ()
    scenario = Scenario(
        shape,
        speed=speed,
        changes=changes,
        routers=routers,
        keeps_speeds=case == "slowed" and policy == "radix",
    )
    return simulate(load.trace, policy, scenario, load.numbered)


def capacity(trace: Trace, numbered: Prefixes, shape: FleetShape) -> float:
    """Times faster that the trace would have to come for its work to fill all workers."""
    timing, output = POLYNOMIAL, trace.output_tokens - 1
    pool = pooled_lru(trace, numbered, sum(shape.caches))
    uncached = trace.input_tokens * (1.0 - pool.fraction)
    prefill_ms = sum(map(timing.prefill_ms, uncached.tolist()))
    n_steps = float(np.ceil(uncached / shape.max_num_batched_tokens).sum())
    kv_tokens = sum(shape.caches) / shape.workers * shape.block_size
    context = float((output * (trace.input_tokens + trace.output_tokens / 2)).sum() / output.sum())
    # As many decode at once as there are output tokens for each step of prefill, in half of the
    # memory at most: the other half is the cache that the pool stands for.
    together = min(output.sum() / n_steps, shape.max_num_seqs, 0.5 * kv_tokens / context)
    step_ms = replace(timing, kv_tokens=round(kv_tokens)).decode_ms(together, together * context)
    work_ms = prefill_ms + step_ms * float(output.sum()) / together
    workers = sum(1.0 / slowness for slowness in shape.slownesses)
    return float(workers * trace.duration_ns / 1e6 / work_ms)


@lru_cache(maxsize=1)
def _synthetic() -> tuple[_Load, ...]:
    made = [cut(synthesize(kind, SEED), MOST_REQUESTS) for kind in SYNTH]
    return tuple(
        _Load(kind, trace, prefixes(trace, BLOCK_SIZE))
        for kind, trace in zip(SYNTH, made, strict=True)
    )


def _workloads(conversation: Trace) -> tuple[_Load, ...]:
    spread_out = cut(spread(conversation, seed=SEED, bucket_ns=BUCKET_NS), MOST_REQUESTS)
    return (_Load("spread", spread_out, prefixes(spread_out, BLOCK_SIZE)), *_synthetic())
