"""Supervisor: keeps the cluster's desired state; N workers, one router, and its membership.

Only it starts and restarts actors, each through an `ActorSlot`. Pushes membership to the
router whenever it changes and again to every new router; while the supervisor is gone the router
goes on with the last one it was given. Lives on the controller's event loop and reaches actors
through `ActorSpawners` alone, so it runs without Ray in tests. `check()` states the invariants.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from radixroute.deploy.actors.actor_slot import Actor, ActorSlot, SlotLimits, Spawner
from radixroute.deploy.errors import ActorLost
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.records import ActorState, ClusterStatus, RouterLook
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import Absence, AbsentWorker, MemberSpec

ROUTER = "router"
# A push that failed is tried again after this long: the router is busy, or about to be replaced.
PUSH_RETRY_S = 0.5
COMING = (ActorState.STARTING, ActorState.DRAINING, ActorState.WAITING)


class RouterHandle(Actor, Protocol):
    """A router, which besides living takes membership. All verbs may be repeated freely."""

    async def set_members(
        self, members: tuple[MemberSpec, ...], absent: tuple[AbsentWorker, ...]
    ) -> None:
        """Workers that serve, and those that are being brought up."""

    async def report_dead(self, worker_id: WorkerId) -> None: ...

    async def look(self) -> RouterLook:
        """Itself, and its workers as it sees them."""


class ActorSpawners(Protocol):
    """Where actors come from."""

    def worker_spawner(self, worker_id: WorkerId) -> Spawner: ...

    def router_spawner(self, ledger: Ledger) -> Spawner:
        """Reads the policy and the port to use from the ledger at each spawn."""


class Supervisor:
    """Keeps one cluster as its settings want it. Owned by the controller; one event loop."""

    def __init__(
        self,
        settings: ClusterSettings,
        spawners: ActorSpawners,
        ledger: Ledger,
        *,
        names: Sequence[WorkerId] = (),
    ) -> None:
        """`names` of workers: else as many as the settings say, by number."""
        self._settings = settings
        self._ledger = ledger
        limits = SlotLimits(start_s=settings.start_timeout_s, stop_s=settings.stop_timeout_s)
        self._router = ActorSlot(
            ROUTER,
            spawners.router_spawner(ledger),
            ledger,
            self,
            limits=limits,
        )
        patient = settings.wait_for_nodes
        self._workers = tuple(
            ActorSlot(
                name,
                spawners.worker_spawner(name),
                ledger,
                self,
                limits=limits,
                is_patient=patient,
            )
            for name in names or [_worker_id(index) for index in range(settings.workers)]
        )
        self._changed = asyncio.Event()
        self._pusher: asyncio.Task[None] | None = None
        self._dead: list[WorkerId] = []  # deaths not reported to the router yet

    @property
    def status(self) -> ClusterStatus:
        return ClusterStatus(self._router.status, tuple(slot.status for slot in self._workers))

    def start(self) -> None:
        """Begins to fill every slot; `status` tells how far it is."""
        self._pusher = asyncio.get_running_loop().create_task(self._push_changes())
        for slot in (self._router, *self._workers):
            slot.open()

    async def stop(self) -> None:
        """Ends everything: the router first, so that it does not migrate what is being stopped."""
        if self._pusher is not None:
            self._pusher.cancel()
            self._pusher = None
        await self._router.close()
        await asyncio.gather(*(slot.close() for slot in self._workers))

    async def restart(self, policy: str | None) -> None:
        """Fresh workers (new incarnations, empty caches) and a fresh router on the same port."""
        await self.stop()
        if policy is not None:
            self._ledger.keep_policy(policy)
        self.start()

    def actor_up(self, slot: ActorSlot) -> None:
        if slot is self._router:
            self._ledger.keep_port(int(slot.status.address.rpartition(":")[2]))
        self._changed.set()

    def actor_draining(self, slot: ActorSlot) -> None:
        """The router lists it no more, so sends it nothing new and lets it end what it has."""
        self._changed.set()

    def actor_down(self, slot: ActorSlot) -> None:
        if slot is not self._router:
            self._dead.append(WorkerId(slot.name))
        self._changed.set()

    async def look(self) -> RouterLook | None:
        """The router as it sees itself; None: it has no life now."""
        router = self._live_router()
        if router is None:
            return None
        try:
            return await router.look()
        except ActorLost:
            return None

    def check(self) -> None:
        """Raises when two lives share an incarnation or a live actor has no address."""
        issued = [actor.incarnation for actor in self.status.actors if actor.incarnation]
        if (
            len(issued) != len(set(issued))
            or max(issued, default=0) > self._ledger.last_incarnation
        ):
            raise BrokenInvariant(f"incarnations {issued} were not issued once each")
        for actor in self.status.actors:
            if (actor.state is ActorState.LIVE) != bool(actor.address):
                raise BrokenInvariant(f"{actor.name} is {actor.state.value} at {actor.address!r}")

    def _members(self) -> tuple[MemberSpec, ...]:
        return tuple(
            MemberSpec(
                worker_id=WorkerId(slot.name),
                address=slot.status.address,
                incarnation=slot.status.incarnation,
                deaths=slot.status.deaths,
            )
            for slot in self._workers
            if slot.status.state is ActorState.LIVE
        )

    def _absent(self) -> tuple[AbsentWorker, ...]:
        return tuple(
            AbsentWorker(
                WorkerId(status.name),
                Absence.RESTARTING if status.deaths else Absence.STARTING,
                deaths=status.deaths,
                reason=status.reason,
            )
            for status in (slot.status for slot in self._workers)
            if status.state in COMING
        )

    async def _push_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            router = self._live_router()
            if router is None:
                continue  # the next router's `actor_up` sets the event again
            try:
                await self._push(router)
            except ActorLost:
                self._changed.set()
                await asyncio.sleep(PUSH_RETRY_S)

    async def _push(self, router: RouterHandle) -> None:
        """Deaths go ahead of the membership: the router moves a dead worker's streams at once."""
        while self._dead:
            await router.report_dead(self._dead[0])
            self._dead.pop(0)
        await router.set_members(self._members(), self._absent())

    def _live_router(self) -> RouterHandle | None:
        if self._router.status.state is not ActorState.LIVE:
            return None
        return self._router.actor  # type: ignore[return-value]  # router_spawner makes RouterHandles


def _worker_id(index: int) -> WorkerId:
    return WorkerId(f"worker-{index}")
