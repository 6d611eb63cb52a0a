"""One run: load and faults together, and what came of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.blind import Sighted
from bench.chaos.faults import Fault, Fleet, RouterLife
from bench.chaos.load import Load, LoadSettings
from bench.chaos.outcome import Outcome
from bench.chaos.pauses import Struck, pauses_by_fault, served_again_s
from bench.chaos.verdicts import Expected, Heard, tally
from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.settings import ClusterSettings
from radixroute.router.settings import RouterSettings
from radixroute.worker.settings import WorkerSettings

KV_BYTES = 16 * 1024 * 1024
START_LIMIT_S = 60.0  # a worker that hangs longer is started again; 10 to 20 s are usual
CALM_S = (2.0, 5.0)  # between a fleet that is ready, streams that flow, and the next fault
FLOW_S = 30.0  # so long at most is waited until nothing holds a stream up


@dataclass(frozen=True, slots=True)
class ChaosSettings:
    """What is done."""

    requests: int = 2000  # at least
    kills: int = 40  # processes killed, at least; those that are only stopped come on top
    seed: int = 0
    kinds: tuple[Fault, ...] = tuple(Fault)
    load: LoadSettings = field(default_factory=LoadSettings)


@dataclass(slots=True)
class _Log:
    """What was done so far."""

    struck: list[Struck] = field(default_factory=list)
    complaints: int = 0
    lives: list[RouterLife] = field(default_factory=list)  # of routers, each at its end


def run(
    model: Path,
    settings: ChaosSettings,
    say: Callable[[str], None],
    small_disk: Path | None = None,
) -> Outcome:
    """Two workers with this model on a Ray of their own. Call it from the main thread."""
    cluster = LocalCluster(
        ClusterSettings(
            num_cpus=2,
            worker=WorkerSettings(
                model=str(model), device="cpu", dtype="float32", kv_memory=KV_BYTES
            ),
            router=RouterSettings(port=0, http_port=0),
            start_timeout_s=START_LIMIT_S,
        ),
        small_disk,
    )
    with cluster:
        say(f"a router at {cluster.router_address}, two workers")
        return run_on(cluster, settings, say, small_disk)


def run_on(
    cluster: LocalCluster,
    settings: ChaosSettings,
    say: Callable[[str], None],
    small_disk: Path | None = None,
) -> Outcome:
    """Two workers that run; they do so afterwards.

    Of the kinds, `DISK_FULL` needs the small disk and `WORKER_CUT` a network of this process's own.
    """
    return asyncio.run(_run(cluster, Fleet(cluster, small_disk), settings, say))


async def _run(
    cluster: LocalCluster, fleet: Fleet, settings: ChaosSettings, say: Callable[[str], None]
) -> Outcome:
    rng = random.Random(settings.seed)
    load = Load(cluster.router_address, settings.load)
    answers = await load.answers()
    say(f"{len(answers)} answers without faults")
    log = _Log()
    breaking = asyncio.create_task(_break(fleet, load, settings, log, say))

    def is_over() -> bool:
        return breaking.done() and load.n_begun >= settings.requests

    streams = await load.run(is_over, rng)
    await breaking
    log.lives.append(await asyncio.to_thread(fleet.router_life))
    silent_after_s = RouterSettings().dead_after_s
    log.complaints = await asyncio.to_thread(fleet.log_complaints)
    return _outcome(streams, answers, log, silent_after_s)


def _outcome(
    streams: list[Heard], answers: list[Expected], log: _Log, silent_after_s: float
) -> Outcome:
    return Outcome(
        faults=Counter(one.fault for one in log.struck),
        tally=tally(streams, answers),
        pauses_s=[heard.longest_pause_s for heard in streams],
        by_fault_s=pauses_by_fault(streams, log.struck),
        silent_after_s=silent_after_s,
        mended_s=[one.ready_s - one.hit_s for one in log.struck],
        served_again_s=served_again_s(streams, log.struck),
        # The first router was not killed before.
        sighted=sum((life.sighted for life in log.lives[1:]), Sighted()),
        log_complaints=log.complaints,
        resumes=sum((life.resumes for life in log.lives), Counter()),
    )


async def _break(
    fleet: Fleet,
    load: Load,
    settings: ChaosSettings,
    log: _Log,
    say: Callable[[str], None],
) -> None:
    """Each fault meets a fleet that is ready, and streams in the middle of their answers."""
    rng = random.Random(settings.seed + 1)
    for fault in faults_in_order(settings, rng):
        await _until_flowing(load)
        await asyncio.sleep(rng.uniform(*CALM_S))
        while not load.n_running:  # noqa: ASYNC110 - the streams are other tasks'
            await asyncio.sleep(0.01)
        if fault is Fault.ROUTER:  # its counters end with it
            log.lives.append(await asyncio.to_thread(fleet.router_life))
        hit = await asyncio.to_thread(fleet.hit, fault, rng)
        await asyncio.to_thread(fleet.await_ready, hit.is_mended)
        log.struck.append(Struck(fault, hit.at_s, time.monotonic()))
        mended_s = log.struck[-1].ready_s - hit.at_s
        say(f"{fault.value}: ready again after {mended_s:.1f} s, {load.n_begun} requests")


async def _until_flowing(load: Load) -> None:
    """Else what one fault held up would be taken for the next one's doing."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLOW_S):
            while not load.is_flowing:  # noqa: ASYNC110 - the streams are other tasks'
                await asyncio.sleep(0.01)


def faults_in_order(settings: ChaosSettings, rng: random.Random) -> list[Fault]:
    """Every kind once before any comes again; it ends with the last kill that is asked for."""
    found: list[Fault] = []
    n_kills = 0
    while n_kills < settings.kills:
        for fault in rng.sample(settings.kinds, len(settings.kinds)):
            found.append(fault)
            n_kills += fault.kills
            if n_kills == settings.kills:
                break
    return found
