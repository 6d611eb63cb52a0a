"""One run: load and faults together, and what came of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.faults import Fault, Fleet
from bench.chaos.load import Load, LoadSettings, pauses_s
from bench.chaos.verdicts import Tally, Verdict, tally
from bench.rows import Row, alone, per_cent_99
from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.settings import ClusterSettings
from radixroute.router.settings import RouterSettings
from radixroute.worker.settings import WorkerSettings

KV_BYTES = 16 * 1024 * 1024
CALM_S = (0.5, 2.0)  # between a fleet that is ready and the next fault


@dataclass(frozen=True, slots=True)
class ChaosSettings:
    """What is done."""

    requests: int = 200  # at least
    kills: int = 20
    seed: int = 0
    kinds: tuple[Fault, ...] = tuple(Fault)
    load: LoadSettings = field(default_factory=LoadSettings)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    kills: Counter[Fault]
    tally: Tally
    pauses_s: Sequence[float]  # each stream's longest
    mended_s: Sequence[float]  # from each fault to a fleet that is ready
    resumes: Counter[str]  # by the router, by clients

    @property
    def requests(self) -> int:
        return self.tally.verdicts.total()

    @property
    def pause_p99_ms(self) -> float:
        return 1e3 * per_cent_99(self.pauses_s)

    @property
    def record(self) -> dict[str, object]:
        found = self.tally.verdicts
        return {
            "requests": self.requests,
            "kills": {fault.value: n for fault, n in sorted(self.kills.items())},
            "resumes": dict(self.resumes),
            "whole": found[Verdict.WHOLE],
            "lost": found[Verdict.LOST],
            "lost_because": dict(self.tally.losses),
            "duplicated": found[Verdict.DUPLICATED],
            "missing": found[Verdict.MISSING],
            "hung": found[Verdict.HUNG],
            "clean_errors": dict(self.tally.clean_errors),
            "greedy_identical": not found[Verdict.DIFFERENT],
            "pause_p99_ms": round(self.pause_p99_ms, 1),
        }

    @property
    def rows(self) -> list[Row]:
        bad = (Verdict.LOST, Verdict.DUPLICATED, Verdict.MISSING, Verdict.HUNG, Verdict.DIFFERENT)
        found = self.tally.verdicts
        return [
            *(alone(verdict.value, found[verdict], "streams", 0) for verdict in bad),
            alone("clean_errors", found[Verdict.CLEAN_ERROR], "streams"),
            alone("pause.p99", self.pause_p99_ms, "ms"),
            alone("pause.longest", 1e3 * max(self.pauses_s), "ms"),
            alone("mended.longest", max(self.mended_s, default=0.0), "s"),
        ]


@dataclass(slots=True)
class _Log:
    """What was done so far."""

    kills: Counter[Fault] = field(default_factory=Counter)
    mended_s: list[float] = field(default_factory=list)
    resumes: Counter[str] = field(default_factory=Counter)


def run(model: Path, settings: ChaosSettings, say: Callable[[str], None]) -> Outcome:
    """Two workers with this model on a Ray of their own. Call it from the main thread."""
    cluster = LocalCluster(
        ClusterSettings(
            num_cpus=2,
            worker=WorkerSettings(
                model=str(model), device="cpu", dtype="float32", kv_memory=KV_BYTES
            ),
            router=RouterSettings(port=0),
        )
    )
    with cluster:
        say(f"a router at {cluster.router_address}, two workers")
        return asyncio.run(_run(cluster, settings, say))


async def _run(
    cluster: LocalCluster, settings: ChaosSettings, say: Callable[[str], None]
) -> Outcome:
    rng = random.Random(settings.seed)
    load = Load(cluster.router_address, settings.load)
    answers = await load.answers()
    say(f"{len(answers)} answers without faults")
    fleet = Fleet(cluster)
    log = _Log()
    breaking = asyncio.create_task(_break(fleet, load, settings, log, say))

    def is_over() -> bool:
        return breaking.done() and load.n_begun >= settings.requests

    streams = await load.run(is_over, rng)
    await breaking
    log.resumes += await asyncio.to_thread(fleet.resumes)
    found = tally(streams, answers)
    return Outcome(log.kills, found, pauses_s(streams), log.mended_s, log.resumes)


async def _break(
    fleet: Fleet,
    load: Load,
    settings: ChaosSettings,
    log: _Log,
    say: Callable[[str], None],
) -> None:
    """Each fault meets a fleet that is ready, and streams in the middle of their answers."""
    rng = random.Random(settings.seed + 1)
    for fault in _order(settings, rng):
        await asyncio.sleep(rng.uniform(*CALM_S))
        while not load.n_running:  # noqa: ASYNC110 - the streams are other tasks'
            await asyncio.sleep(0.01)
        if fault is Fault.ROUTER:  # its counters end with it
            log.resumes += await asyncio.to_thread(fleet.resumes)
        began_s = time.monotonic()
        is_mended = await asyncio.to_thread(fleet.hit, fault, rng)
        log.kills[fault] += 1
        await asyncio.to_thread(fleet.await_ready, is_mended)
        log.mended_s.append(time.monotonic() - began_s)
        say(f"{fault.value}: ready again after {log.mended_s[-1]:.1f} s, {load.n_begun} requests")


def _order(settings: ChaosSettings, rng: random.Random) -> list[Fault]:
    """Every kind once before any comes again."""
    found: list[Fault] = []
    while len(found) < settings.kills:
        found += rng.sample(settings.kinds, len(settings.kinds))
    return found[: settings.kills]
