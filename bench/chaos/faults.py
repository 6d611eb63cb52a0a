"""Faults: whom one hits, and when the fleet is ready for the next.

Signals only processes below this one, by number and start time. Calls block: use a thread.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.chaos.blind import Sighted, first_decisions, log_of
from bench.chaos.small_disk import fill
from bench.chaos.wires import cut, ports_between
from radixroute.client import RouterClient
from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.errors import DeployError
from radixroute.deploy.process_tree import ProcessId, descendants, identify
from radixroute.deploy.state.records import ActorStatus, ClusterStatus
from radixroute.errors import FrontDoorError

READY_S = 240.0
POLL_S = 0.1
ENGINE_MODULE = "radixroute.worker.process.child"
CONTROLLER_NAME = "ray::Controller"


class Fault(StrEnum):
    """What is done to one process."""

    ENGINE = "engine"  # kill -9 of the process that computes
    WORKER = "worker"
    ROUTER = "router"
    CONTROLLER = "controller"
    ENGINE_PAUSED = "engine_paused"  # SIGSTOP, SIGCONT
    WORKER_PAUSED = "worker_paused"
    ROUTER_PAUSED = "router_paused"
    WORKER_CUT = "worker_cut"  # it and its router hear nothing of each other
    START_HANGS = "start_hangs"  # kill -9 of a worker; its next engine is stopped while it loads
    DISK_FULL = "disk_full"  # no room where actors log to, and a worker killed meanwhile

    @property
    def kills(self) -> bool:
        """A process ends by it; else it is stopped and goes on."""
        return self not in PAUSE_S


# Shorter and longer than a router takes a silent worker for alive.
PAUSE_S = {
    Fault.ENGINE_PAUSED: 2.0,
    Fault.WORKER_PAUSED: 5.0,
    Fault.ROUTER_PAUSED: 2.0,
    Fault.WORKER_CUT: 5.0,
}


# After a worker's death by the router, after a router's by the clients.
RESUMES = {"by_router": "requests_resumed", "by_clients": "streams_resumed_by_clients"}


class NotReady(Exception):
    """The fleet did not come back."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that was carried out."""

    at_s: float
    is_mended: Callable[[], bool]  # it was noticed, and the victim's successor is there


@dataclass(frozen=True, slots=True)
class RouterLife:
    """What one router did."""

    resumes: Counter[str]
    sighted: Sighted


class Fleet:
    """A cluster as whoever breaks it sees it."""

    def __init__(self, cluster: LocalCluster, small_disk: Path | None) -> None:
        """`small_disk`: where its actors log to, if that can be filled."""
        self._cluster = cluster
        self._disk = small_disk
        self._address = cluster.router_address

    def hit(self, fault: Fault, rng: random.Random) -> Hit:
        before = self._status()
        actor = before.router if "router" in fault else rng.choice(before.workers)
        victim = self._victim(fault, actor)
        pause_s = PAUSE_S.get(fault)
        if fault is Fault.DISK_FULL:
            return self._hit_with_full_disk(victim, actor)
        at_s = time.monotonic()
        if pause_s is not None:
            wires = cut(_wires(victim, before.router)) if fault is Fault.WORKER_CUT else None
            with wires or _stopped(victim):
                time.sleep(pause_s)
            return Hit(at_s, lambda: True)
        engines = self._engines()
        victim.send(signal.SIGKILL)
        if fault is Fault.CONTROLLER:
            return Hit(at_s, lambda: not victim.is_alive and self._controller() is not None)
        if fault is Fault.START_HANGS:
            self._stop_next_engine(engines)
            hung_life = self._life_of(actor.name)
            return Hit(at_s, lambda: self._life_of(actor.name) > hung_life)
        return Hit(at_s, lambda: self._life_of(actor.name) > actor.incarnation)

    def log_complaints(self) -> int:
        """Lines in which an actor says that it cannot write its log."""
        logs = Path(self._cluster.temp_dir, "session_latest", "logs")
        said = (path.read_text(errors="replace") for path in logs.glob("worker-*.err"))
        return sum(
            text.count(": No space left on device; lines go to stderr alone") for text in said
        )

    def router_life(self) -> RouterLife:
        """Of the router at hand, since its start."""
        with RouterClient(self._address, inspect_timeout_s=5.0) as client:
            counters = client.router_info().counters
            resumes = Counter({name: counters[key] for name, key in RESUMES.items()})
            return RouterLife(resumes, first_decisions(list(log_of(client))))

    def await_ready(self, is_mended: Callable[[], bool]) -> None:
        """Raises `NotReady` when it takes too long."""
        give_up_s = time.monotonic() + READY_S
        while time.monotonic() < give_up_s:
            with suppress(DeployError, FrontDoorError):
                if is_mended() and self._status().is_live and self._all_joined():
                    return
            time.sleep(POLL_S)
        raise NotReady(f"the fleet was not ready again within {READY_S:g} s")

    def _hit_with_full_disk(self, victim: ProcessId, actor: ActorStatus) -> Hit:
        if self._disk is None:
            raise NotReady("no small disk to fill")
        filler = fill(self._disk)
        at_s = time.monotonic()
        victim.send(signal.SIGKILL)

        def is_mended() -> bool:
            is_back = self._life_of(actor.name) > actor.incarnation and self._status().is_live
            if is_back:
                filler.unlink(missing_ok=True)
            return is_back

        return Hit(at_s, is_mended)

    def _engines(self) -> set[ProcessId]:
        return {p for p in descendants(os.getpid()) if ENGINE_MODULE in _command(p)}

    def _stop_next_engine(self, before: set[ProcessId]) -> None:
        """Seconds before it would be done with loading."""
        give_up_s = time.monotonic() + READY_S
        while not (fresh := self._engines() - before):
            if time.monotonic() > give_up_s:
                raise NotReady("no engine was started")
            time.sleep(POLL_S)
        for engine in fresh:
            engine.send(signal.SIGSTOP)

    def _victim(self, fault: Fault, actor: ActorStatus) -> ProcessId:
        found = None
        if fault is Fault.CONTROLLER:
            found = self._controller()
        elif actor.pid is not None:
            found = identify(actor.pid)
            if fault in (Fault.ENGINE, Fault.ENGINE_PAUSED):
                below = descendants(actor.pid)
                found = next((p for p in below if ENGINE_MODULE in _command(p)), None)
        if found is None:
            raise NotReady(f"no process to hit for {fault.value}")
        return found

    def _controller(self) -> ProcessId | None:
        below = descendants(os.getpid())
        return next((p for p in below if _command(p).startswith(CONTROLLER_NAME)), None)

    def _life_of(self, name: str) -> int:
        return next(one.incarnation for one in self._status().actors if one.name == name)

    def _status(self) -> ClusterStatus:
        return self._cluster.status

    def _all_joined(self) -> bool:
        with RouterClient(self._address, inspect_timeout_s=5.0) as client:
            listed = client.list_workers().workers
        n_workers = len(self._status().workers)
        return len(listed) == n_workers and all(one.state == "live" for one in listed)


@contextmanager
def _stopped(process: ProcessId) -> Iterator[None]:
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


def _wires(worker: ProcessId, router: ActorStatus) -> Collection[int]:
    ports = set() if router.pid is None else ports_between(worker.pid, router.pid)
    if not ports:
        raise NotReady("no wire between a worker and the router")
    return ports


def _command(process: ProcessId) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
    return ""
