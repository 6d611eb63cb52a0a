"""Serving: one router, its companions and their supervisor, in the running event loop.

Composes what `actors` has with what this folder adds; tells how it goes. Whoever runs it decides
when it ends. Nothing is written down: its lives end with this process, and so do incarnations,
whose epochs nobody else remembers but the router in it.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from radixroute.deploy.actors.supervisor import Supervisor
from radixroute.deploy.serving.companion_links import CompanionLinks
from radixroute.deploy.serving.engines import EngineAt
from radixroute.deploy.serving.process_actors import ServeSpawners
from radixroute.deploy.serving.story import Look, Member, Story
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.ledger import Ledger, MemoryStore
from radixroute.deploy.state.records import ActorState, ClusterStatus, Progress
from radixroute.radix.ids import WorkerId
from radixroute.router.service import RouterService

LOOK_S = 0.1
# Once all serve, nobody waits for what is told of them.
SERVING_LOOK_S = 1.0
# An engine that is not heard after this long is said to be waited for; then it is asked so often.
UNHEARD_AFTER_S = 1.0
KNOCK_S = 2.0
START_MARGIN_S = 60.0


class Serving:
    """`start`, then `watch` until told to end, then `stop`."""

    def __init__(
        self,
        settings: ClusterSettings,
        engines: tuple[EngineAt, ...],
        progress: Progress,
        arguments: Sequence[str] = (),
    ) -> None:
        """`settings` with the secret in them. `arguments`: of companion processes, for tests."""
        # A companion waits for its engine: the slot must not give it up before.
        start_s = settings.companion.start_timeout_s + START_MARGIN_S
        settings = replace(settings, start_timeout_s=start_s)
        self._engines = engines
        self._progress = progress
        self._links = CompanionLinks(settings.serve.engines_per_process, arguments)
        self._spawners = ServeSpawners(settings, engines, self._links)
        names = [engine.name for engine in engines]
        self._supervisor = Supervisor(
            settings, self._spawners, Ledger.open(MemoryStore()), names=names
        )
        self._story = Story(engines)
        self._unheard: dict[WorkerId, str] = {}
        self._began_s = 0.0

    @property
    def status(self) -> ClusterStatus:
        return self._supervisor.status

    @property
    def companion_pids(self) -> tuple[int, ...]:
        return self._links.pids

    def start(self) -> None:
        """Begins; `status` and what is told say how far it is."""
        self._began_s = time.monotonic()
        self._supervisor.start()

    async def watch(self, ending: asyncio.Event, is_up: Callable[[str], None]) -> None:
        """Tells what happens until `ending`. `is_up` is called with each new router's address."""
        address = ""
        knocking = asyncio.create_task(self._knock(), name="knock")
        try:
            while not ending.is_set():
                self._supervisor.check()
                if self.status.router.address not in ("", address):
                    address = self.status.router.address
                    is_up(address)
                    self._tell_door()
                self._tell()  # who reads that it listens may look for it at once
                await _wait(ending, SERVING_LOOK_S if self._story.is_whole else LOOK_S)
        finally:
            knocking.cancel()

    async def stop(self) -> None:
        """What runs ends whole, within its time; then everything else ends."""
        await self._supervisor.stop()
        await self._links.close()

    def kill(self) -> None:
        """Ends the companion processes at once: whoever told it to end wants no drain."""
        self._links.kill()

    def _tell(self) -> None:
        status = self.status
        look = Look(
            status.router,
            status.workers,
            self._members(),
            self._spawners.facts,
            self._unheard,
            self._pages(),
        )
        for line in self._story.lines(look, time.monotonic() - self._began_s):
            self._progress(line)

    def _tell_door(self) -> None:
        service = self._router()
        if service is not None and service.http_address is not None:
            scheme = "https" if service.speaks_tls else "http"
            self._progress(f"OpenAI API at {scheme}://{service.http_address}/v1")

    def _members(self) -> dict[WorkerId, Member]:
        service = self._router()
        if service is None:
            return {}
        states = service.runtime.core.member_states()
        return {worker_id: Member(*told) for worker_id, told in states.items()}

    def _pages(self) -> tuple[str, ...]:
        service = self._router()
        if service is None:
            return ()
        scheme = "https" if service.speaks_tls else "http"
        pages = {
            f"OpenAI API at {scheme}://{{}}/v1": service.http_address,
            "metrics at http://{}/metrics": service.metrics_address,
        }
        return tuple(text.format(where) for text, where in pages.items() if where is not None)

    def _router(self) -> RouterService | None:
        spawner = self._spawners.router
        is_live = self.status.router.state is ActorState.LIVE
        if not is_live or spawner is None or spawner.current is None:
            return None
        return spawner.current.service

    async def _knock(self) -> None:
        """Learns which engines that are waited for cannot even be connected to."""
        await asyncio.sleep(UNHEARD_AFTER_S)
        while True:
            coming = [one for one in self._engines if self._is_starting(one.name)]
            answers = await asyncio.gather(*(_why_unheard(one) for one in coming))
            self._unheard = {
                engine.name: why
                for engine, why in zip(coming, answers, strict=True)
                if why is not None
            }
            await asyncio.sleep(KNOCK_S)

    def _is_starting(self, name: WorkerId) -> bool:
        return any(
            one.name == name and one.state is ActorState.STARTING for one in self.status.workers
        )


async def _why_unheard(engine: EngineAt) -> str | None:
    try:
        async with asyncio.timeout(KNOCK_S):
            _reader, writer = await asyncio.open_connection(engine.host, engine.port)
    except TimeoutError:
        return "it does not answer"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    writer.close()
    return None


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
