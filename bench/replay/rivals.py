"""`python -m bench.replay.rivals`: every policy beside `radix`, on a real and on synthetic traces.

The Mooncake conversation trace, as it is and with arrivals spread inside its buckets, and each
synthetic kind of a seed that no constant was chosen on, all in our simulator. Prints a table for
each workload and fleet and writes bench/results/rivals.json; `ratio` of a row of times: the
policy's / that of `radix`, so that below 1 the policy is the better one.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.rows import Row, write
from radixroute.demo.machine import machine, versions
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import KINDS, synthesize
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reshape import cut, spread
from radixroute.replay.traces.trace import Trace, prefixes
from radixroute.router.policy.registry import POLICIES

RESULTS = Path("bench/results/rivals.json")
TRACE = Path("bench/data/conversation_trace.jsonl.gz")
SETTINGS = ((4, 1.0), (8, 1.0), (8, 4.0), (16, 4.0))
SYNTH_SETTINGS = ((8, 1.0),)
SYNTH_SEED = 11
BLOCKS, BLOCK_SIZE = 16384, 64
BUCKET_NS = 3_000_000_000
OURS = "radix"
HEAD = f"{'':44}{'mean ms':>9}{'to radix':>9}{'p99 ms':>9}{'ITL ms':>8}{'reuse':>7}"


def rows(which: Sequence[str], n_requests: int) -> Iterator[Row]:
    """Of these workloads: `conversation`, `spread`, or a synthetic kind; the first so many requests
    of each, 0: all."""
    for name in which:
        trace, settings = _workload(name)
        trace = cut(trace, n_requests) if n_requests else trace
        numbered = prefixes(trace, BLOCK_SIZE)
        for workers, speed in settings:
            print(f"{name}, {workers} workers, {speed:g}x\n{HEAD}", flush=True)
            scenario = Scenario(FleetShape(workers, BLOCKS, BLOCK_SIZE), speed=speed)
            ours = simulate(trace, OURS, scenario, numbered)
            for policy in POLICIES:
                run = ours if policy == OURS else simulate(trace, policy, scenario, numbered)
                yield from _compared(f"{name}.w{workers}.x{speed:g}.{policy}", run, ours)


def _workload(name: str) -> tuple[Trace, tuple[tuple[int, float], ...]]:
    if name in KINDS:
        return synthesize(name, SYNTH_SEED), SYNTH_SETTINGS
    trace = read_trace(TRACE).trace
    if name == "spread":
        trace = spread(trace, seed=1, bucket_ns=BUCKET_NS)
    return trace, SETTINGS


def _compared(name: str, run: RunResult, ours: RunResult) -> Iterator[Row]:
    a, b = _figures(run), _figures(ours)
    mean_ms, p99_ms, itl_ms, reuse = a.values()
    print(
        f"{run.policy:44}{mean_ms:9.1f}{mean_ms / b['mean_ms'] - 1:+9.1%}"
        f"{p99_ms:9.0f}{itl_ms:8.2f}{reuse:7.3f}",
        flush=True,
    )
    for figure, value in a.items():
        unit = "of prompt tokens" if figure == "reuse" else "ms"
        ratio = value / b[figure] if b[figure] else None
        yield Row(f"{name}.{figure}", value, b[figure], ratio, unit)


def _figures(run: RunResult) -> dict[str, float]:
    ttft = run.ttft_ms
    p99_ms = float(np.percentile(ttft, 99))
    return {
        "mean_ms": float(ttft.mean()),
        "p99_ms": p99_ms,
        "itl_ms": run.mean_itl_ms,
        "reuse": run.reuse,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = ("conversation", "spread", *KINDS)
    parser.add_argument("--only", choices=known, help="one workload; writes nothing")
    parser.add_argument("--requests", type=int, default=0, help="the first so many; 0: all")
    args = parser.parse_args()
    started = time.perf_counter()
    found = list(rows([args.only] if args.only else known, args.requests))
    if not args.only:
        more = {"requests": args.requests, "wall_s": time.perf_counter() - started}
        write(RESULTS, found, machine(), versions(""), more)
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
