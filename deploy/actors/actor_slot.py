"""Actor slot: one actor's place, kept filled; it restarts a worker or router that was lost.

Starts an actor, waits until it is lost, and starts the next one after a pause that grows while
lives stay short. Runs as one task on the controller's loop and knows Ray only through the `Spawner`
and `Actor` seams. Only its listener hears what happened. Owned by the supervisor.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from radixroute.deploy.errors import ActorLost
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.records import (
    TOLD_TO_END,
    ActorState,
    ActorStatus,
    StartOutcome,
)

log = logging.getLogger(__name__)

# A process that dies at once must not be started in a tight loop; a single death should cost
# little beside the seconds that loading a model takes. Judgement.
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0
# A life of this length counts as healthy: the next pause is the first one again. Judgement.
HEALTHY_LIFE_S = 30.0
# Ray makes a process for an actor in 1-10 s (two cores, load 0-15). Seen twice in some fifty starts
# under load: none was ever made, nothing was said, and the next actor came up at once.
SPAWN_LIMIT_S = 40.0
# A dead process is known at once; pings find a stuck one. A loaded machine must not lose healthy
# workers, and the router stops using a silent one long before (3 s), so there is no hurry.
PING_EVERY_S = 5.0
PING_TIMEOUT_S = 30.0


class Actor(Protocol):
    """One running actor. Every verb raises `ActorLost` once its process is gone."""

    async def start(self) -> StartOutcome:
        """Starts its service; an actor that serves already answers the same again."""

    async def wait_failed(self) -> str:
        """Returns the reason once its service has failed."""

    async def ping(self) -> None:
        """Returns once its event loop has turned."""

    async def stop(self) -> None:
        """Ends its service in order."""

    def kill(self) -> None:
        """Ends its process at once; harmless when it is gone."""


class Spawner(Protocol):
    """Makes the actors of one slot."""

    def spawn(self, incarnation: int) -> Actor: ...

    def find(self, incarnation: int) -> Actor | None:
        """The actor of that life if it still runs: a restarted controller adopts it."""


class SlotListener(Protocol):
    """Hears what becomes of a slot's actors, on the slot's own loop."""

    def actor_up(self, slot: "ActorSlot") -> None: ...

    def actor_draining(self, slot: "ActorSlot") -> None: ...

    def actor_down(self, slot: "ActorSlot") -> None: ...


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """How long a service may take."""

    start_s: float  # to come up once it has a process
    stop_s: float  # to end in order


class ActorSlot:
    """Keeps one actor alive. Owned by the supervisor; all methods run on its loop."""

    def __init__(
        self,
        name: str,
        spawner: Spawner,
        ledger: Ledger,
        listener: SlotListener,
        *,
        limits: SlotLimits,
        is_patient: bool = False,
    ) -> None:
        """`is_patient`: actors may stay unplaced, for the nodes they need are only coming up."""
        self.name = name
        self.actor: Actor | None = None
        self._spawner = spawner
        self._ledger = ledger
        self._listener = listener
        self._limits = limits
        self._spawn_limit_s = None if is_patient else SPAWN_LIMIT_S
        self._task: asyncio.Task[None] | None = None
        self._status = ActorStatus(name, ActorState.STOPPED)
        self._short_lives = 0

    @property
    def status(self) -> ActorStatus:
        return self._status

    def open(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Begins to keep the slot filled."""
        self._task = asyncio.get_running_loop().create_task(self._keep(sleep), name=self.name)

    async def close(self) -> None:
        """Ends the actor: in order within the time, by force after it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self.actor is not None:
            await _stop(self.actor, self._limits.stop_s)
            self.actor = None
        self._ledger.retire(self.name)
        self._status = replace(self._status, state=ActorState.STOPPED, address="", pid=None)

    async def _keep(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        actor = self._adopt()
        while True:
            began_s = loop.time()
            self.actor = actor or self._spawn()
            while not await self._is_placed(self.actor):
                log.warning("%s: no process was made for it; spawning another", self.name)
                self.actor.kill()
                self.actor = self._spawn()
            reason = await self._live(self.actor)
            self.actor.kill()
            self.actor = actor = None
            self._mark_down(reason)
            self._listener.actor_down(self)
            await sleep(self._pause_s(loop.time() - began_s))

    async def _is_placed(self, actor: Actor) -> bool:
        """Whether it has a process; one that died already had one, and `_live` learns why."""
        try:
            async with asyncio.timeout(self._spawn_limit_s):
                await actor.ping()
        except ActorLost:
            return True
        except TimeoutError:
            return False
        return True

    async def _live(self, actor: Actor) -> str:
        """One life, to its end; returns the reason of it."""
        try:
            outcome = await self._started(actor)
            if outcome.error is not None:
                return outcome.error
            self._status = replace(
                self._status, state=ActorState.LIVE, address=outcome.address, pid=outcome.pid
            )
            log.info("%s serves at %s (pid %s)", self.name, outcome.address, outcome.pid)
            self._listener.actor_up(self)
            reason = await _watch(actor)
            if reason == TOLD_TO_END:
                await self._drain(actor)
        except ActorLost as lost:
            return str(lost)
        return reason

    async def _drain(self, actor: Actor) -> None:
        """It takes nothing new and ends what it has; whoever waits longer than that is cut off."""
        log.info("%s was told to end and drains, life %d", self.name, self._status.incarnation)
        self._status = replace(self._status, state=ActorState.DRAINING, address="")
        self._listener.actor_draining(self)
        with suppress(ActorLost, TimeoutError):
            async with asyncio.timeout(self._limits.stop_s):
                await actor.stop()

    async def _started(self, actor: Actor) -> StartOutcome:
        try:
            async with asyncio.timeout(self._limits.start_s):
                return await actor.start()
        except TimeoutError:
            limit_s = self._limits.start_s
            return StartOutcome(error=f"it hung while starting: not up within {limit_s:g} s")

    def _adopt(self) -> Actor | None:
        incarnation = self._ledger.incarnation_by_name.get(self.name)
        actor = None if incarnation is None else self._spawner.find(incarnation)
        if incarnation is not None and actor is not None:
            self._mark_starting(incarnation)
        return actor

    def _spawn(self) -> Actor:
        incarnation = self._ledger.issue(self.name)
        self._mark_starting(incarnation)
        log.info("%s starts, life %d", self.name, incarnation)
        return self._spawner.spawn(incarnation)

    def _mark_starting(self, incarnation: int) -> None:
        self._status = replace(self._status, state=ActorState.STARTING, incarnation=incarnation)

    def _mark_down(self, reason: str) -> None:
        log.warning("%s is down, life %d: %s", self.name, self._status.incarnation, reason)
        self._status = replace(
            self._status,
            state=ActorState.WAITING,
            address="",
            pid=None,
            deaths=self._status.deaths + 1,
            reason=reason,
        )

    def _pause_s(self, life_s: float) -> float:
        self._short_lives = 0 if life_s >= HEALTHY_LIFE_S else self._short_lives + 1
        return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** max(0, self._short_lives - 1)))


async def _watch(actor: Actor) -> str:
    """Returns why `actor` has to be replaced, once it has."""
    failure = asyncio.ensure_future(actor.wait_failed())
    try:
        while not (await asyncio.wait([failure], timeout=PING_EVERY_S))[0]:
            # Not `wait_for`: Python 3.11's can lose a cancellation, and `close` would wait on.
            async with asyncio.timeout(PING_TIMEOUT_S):
                await actor.ping()
        return failure.result()
    except TimeoutError:
        return f"its event loop has not answered for {PING_TIMEOUT_S:.0f} s"
    finally:
        failure.cancel()


async def _stop(actor: Actor, timeout_s: float) -> None:
    try:
        with suppress(ActorLost, TimeoutError):  # it is killed below either way
            async with asyncio.timeout(timeout_s):
                await actor.stop()
    finally:
        actor.kill()
