"""`make bench-replay`: the simulated fleet beside NVIDIA Dynamo's own offline replay.

The Mooncake conversation trace through both, in this process, one after the other for each setting:
the same workers, timing and trace. First whether they agree where the policies are the same, then
how the default policy does against the peer's presets, all in our simulator, and how long a run
takes. Also with arrivals spread inside their buckets, under wrong assumptions, with a million
requests (`growth`), over fleets that differ or change and several routers (`fleets`), and under
each eviction policy of the workers (`eviction`). Writes bench/results/replay.json.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.replay.eviction import on_synth, on_trace
from bench.replay.fleets import fleets
from bench.replay.growth import growth
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import KINDS, synthesize
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reshape import spread
from radixroute.replay.traces.trace import Trace

RESULTS = Path("bench/results/replay.json")
TRACE = Path("bench/data/conversation_trace.jsonl.gz")
SETTINGS = ((4, 1.0), (8, 1.0), (8, 4.0), (16, 1.0), (16, 4.0))
SYNTH_SETTINGS = ((4, 1.0), (8, 1.0), (8, 4.0), (16, 4.0))
HELD_OUT_SEEDS = (11, 12)
BLOCKS, BLOCK_SIZE = 16384, 64
BUCKET_NS = 3_000_000_000
# Ours: the peer's router settings. `None`: its round robin.
SAME: Mapping[str, dict[str, Any] | None] = {
    "round_robin": None,
    "dynamo": {},
    "dynamo_agentic": {
        "overlap_score_credit": 2.0,
        "prefill_load_scale": 4.0,
        "decode_active_request_weight": 64.0,
    },
}
BAD: Mapping[str, tuple[Conditions, tuple[float, ...]]] = {
    "events 0.5 s late": (Conditions(event_delay_ms=500.0), ()),
    "dispatch takes 2 ms": (Conditions(dispatch_ms=2.0), ()),
    "prefill told 30 % long, decode short": (Conditions(prefill_bias=1.3, decode_bias=0.7), ()),
    "prefill told 30 % short, decode long": (Conditions(prefill_bias=0.7, decode_bias=1.3), ()),
    "one worker half as fast": (Conditions(), (2.0,)),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    reuse: float
    mean_ms: float
    p50_ms: float
    p99_ms: float
    itl_ms: float
    wall_s: float


def ours(
    trace: Trace,
    policy: str,
    workers: int,
    speed: float,
    bad: tuple[Conditions, tuple[float, ...]] = (Conditions(), ()),
) -> Figures:
    conditions, slowness = bad
    shape = FleetShape(workers, BLOCKS, BLOCK_SIZE, slowness=slowness)
    started = time.perf_counter()
    run = simulate(trace, policy, Scenario(shape, speed=speed, conditions=conditions))
    wall_s = time.perf_counter() - started
    ttft = run.ttft_ms
    p50, p99 = np.percentile(ttft, [50, 99]).tolist()
    return Figures(run.reuse, float(ttft.mean()), p50, p99, run.mean_itl_ms, wall_s)


def peers(path: Path, router: dict[str, Any] | None, workers: int, speed: float) -> Figures:
    from dynamo._core import run_mocker_trace_replay  # type: ignore[import-not-found]
    from dynamo.llm import KvRouterConfig  # type: ignore[import-not-found]

    engine = {"backend": "vllm", "block_size": BLOCK_SIZE, "num_gpu_blocks": BLOCKS}
    started = time.perf_counter()
    result = run_mocker_trace_replay(
        [str(path)],
        {"engine": {**engine, "emit_kv_events": True}},
        num_workers=workers,
        router_mode="round_robin" if router is None else "kv_router",
        router_config=None if router is None else KvRouterConfig(**router),
        arrival_speedup_ratio=speed,
        trace_block_size=512,
    )
    wall_s = time.perf_counter() - started
    found = result.summary
    return Figures(
        found["prefix_cache_reused_ratio"],
        found["mean_ttft_ms"],
        found["median_ttft_ms"],
        found["p99_ttft_ms"],
        found["mean_itl_ms"],
        wall_s,
    )


def agreement(trace: Trace, path: Path) -> Iterator[Row]:
    """Where the policy is the same. `ratio`: ours / the peer's."""
    walls = list[tuple[float, float]]()
    for policy, router in SAME.items():
        for workers, speed in SETTINGS:
            mine, other = ours(trace, policy, workers, speed), peers(path, router, workers, speed)
            walls.append((mine.wall_s, other.wall_s))
            name = f"agree.{policy}.w{workers}.x{speed:g}"
            for figure in ("reuse", "mean_ms", "p50_ms", "p99_ms", "itl_ms"):
                a, b = getattr(mine, figure), getattr(other, figure)
                unit = "of prompt tokens" if figure == "reuse" else "ms"
                yield Row(f"{name}.{figure}", a, b, a / b, unit)
    a, b = (mean(column) for column in zip(*walls, strict=True))
    yield Row("wall", a, b, b / a, "s", bar=1.0)


def against(trace: Trace, name: str, policy: str, peer: str) -> Iterator[Row]:
    """A policy of ours and a peer's, both in our simulator; `ratio`: how many times better."""
    ratios = list[float]()
    for workers, speed in SETTINGS:
        mine, other = ours(trace, policy, workers, speed), ours(trace, peer, workers, speed)
        ratios.append(other.mean_ms / mine.mean_ms)
        for figure in ("mean_ms", "p99_ms", "itl_ms"):
            a, b = getattr(mine, figure), getattr(other, figure)
            yield Row(f"{name}.w{workers}.x{speed:g}.{figure}", a, b, b / a, "ms")
        reuse = (mine.reuse, other.reuse)
        yield Row(f"{name}.w{workers}.x{speed:g}.reuse", *reuse, reuse[0] / reuse[1], "of tokens")
    yield alone(f"{name}.geometric_mean", exp(mean(map(log, ratios))), "times lower mean TTFT")


def synthetic() -> Iterator[Row]:
    """The default against Dynamo's preset on workloads of seeds that nothing was tuned on."""
    for kind in KINDS:
        ratios = list[float]()
        for seed in HELD_OUT_SEEDS:
            trace = synthesize(kind, seed)
            for workers, speed in SYNTH_SETTINGS:
                mine = ours(trace, "radix", workers, speed)
                other = ours(trace, "dynamo_agentic", workers, speed)
                ratios.append(other.mean_ms / mine.mean_ms)
                name = f"synth.{kind}.seed{seed}.w{workers}.x{speed:g}"
                yield Row(name, mine.mean_ms, other.mean_ms, ratios[-1], "ms")
        yield alone(f"synth.{kind}.geometric_mean", exp(mean(map(log, ratios))), "times lower")
        yield alone(f"synth.{kind}.worst", min(ratios), "times lower")


def robust(trace: Trace, name: str) -> Iterator[Row]:
    """The default against Dynamo's preset where both are wrong about the world."""
    for what, bad in BAD.items():
        ratios = list[float]()
        for workers, speed in SETTINGS:
            mine = ours(trace, "radix", workers, speed, bad)
            other = ours(trace, "dynamo_agentic", workers, speed, bad)
            ratios.append(other.mean_ms / mine.mean_ms)
        yield alone(f"{name}.{what}.geometric_mean", exp(mean(map(log, ratios))), "times lower")
        yield alone(f"{name}.{what}.worst", min(ratios), "times lower")


def rows(trace: Trace, path: Path, only: str) -> Iterator[Row]:
    spread_out = spread(trace, seed=1, bucket_ns=BUCKET_NS)
    parts: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("agree", lambda: agreement(trace, path)),
        ("preset", lambda: against(trace, "preset", "radix", "dynamo_agentic")),
        ("tuned", lambda: against(trace, "tuned", "radix", "dynamo_wspt")),
        ("spread", lambda: against(spread_out, "spread", "radix", "dynamo_agentic")),
        ("synth", synthetic),
        ("robust", lambda: robust(trace, "robust")),
        ("robust_spread", lambda: robust(spread_out, "robust_spread")),
        ("fleets", lambda: fleets(trace)),
        ("growth", lambda: growth(TRACE)),
        ("eviction", lambda: on_trace(trace, "trace", SETTINGS, BLOCKS)),
        ("eviction_spread", lambda: on_trace(spread_out, "spread", SETTINGS, BLOCKS)),
        ("eviction_synth", on_synth),
    )
    for name, part in parts:
        if only in ("", name):
            for row in part():
                peer = "" if row.peer is None else f"{row.peer:12.4f} {row.ratio:8.3f}"
                print(f"{row.name:64} {row.ours:12.6f} {peer} {row.unit}", flush=True)
                yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="one part; writes nothing without --keep")
    parser.add_argument("--keep", action="store_true", help="its rows replace those of their names")
    args = parser.parse_args()
    trace = read_trace(TRACE).trace
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        path.write_bytes(gzip.decompress(TRACE.read_bytes()))
        ours(trace, "radix", 4, 1.0)  # compiled and loaded before anything is timed
        found = list(rows(trace, path, args.only))
    if args.only and args.keep:
        _replace(found)
    elif not args.only:
        named = {**versions(""), "ai-dynamo-runtime": "1.6.1"}
        write(RESULTS, found, machine(), named, {"settings": json.loads(json.dumps(SETTINGS))})
        print(f"written: {RESULTS}")


def _replace(found: Sequence[Row]) -> None:
    """New rows into the results, in place of rows of the same names. The rest stays as it was."""
    record = json.loads(RESULTS.read_text())
    fresh = {row.name: asdict(row) for row in found}
    record["rows"] = [fresh.pop(row["name"], row) for row in record["rows"]]
    record["rows"] += fresh.values()
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{len(found)} rows written: {RESULTS}")


if __name__ == "__main__":
    main()
