"""Lives: the workers of one companion process, each a `WorkerService` over one companion.

Owns them from order to end and reports what becomes of each. Decides nothing and restarts nothing.
All on one event loop; does no I/O of its own but through the services.
"""

import asyncio
import logging
from collections.abc import Callable

from radixroute.worker.companion_process.frames import (
    DropLife,
    EngineFacts,
    Failed,
    Order,
    Ping,
    Pong,
    Report,
    Started,
    StartLife,
    StopLife,
    Stopped,
)
from radixroute.worker.companion_process.memory import settle
from radixroute.worker.companions.companion import companion
from radixroute.worker.service import WorkerService

log = logging.getLogger(__name__)

PROCESS_ENDS = "its process was told to end"

MakeService = Callable[[StartLife], WorkerService]


def companion_service(order: StartLife) -> WorkerService:
    """The worker that a life is, over the engine at its URL."""
    host = companion(order.companion, order.url, order.worker)
    return WorkerService(order.worker, host=host)


class Lives:
    """`take` each order; `report` is called with what becomes of them."""

    def __init__(self, make: MakeService, report: Callable[[Report], None]) -> None:
        self._make = make
        self._report = report
        self._lives: dict[int, _Life] = {}
        self._ends: set[asyncio.Task[None]] = set()  # keeps what is being ended alive
        self._is_ending = False
        self._is_over = asyncio.Event()

    def take(self, order: Order) -> None:
        if isinstance(order, Ping):
            self._report(Pong())
        elif isinstance(order, StartLife):
            self._start(order)
        elif isinstance(order, StopLife):
            self._end(order.life, order.drain_s, is_asked=True)
        elif isinstance(order, DropLife):
            self._end(order.life, 0.0, is_asked=False)

    def leave(self) -> None:
        """A signal: each life that serves is reported as told to end, and who reads that drains it.
        One that was only starting ends."""
        self._is_ending = True
        for number, life in list(self._lives.items()):
            if life.serving is None:
                self._end(number, 0.0, is_asked=False)
                self._report(Started(number, error=PROCESS_ENDS))
            else:
                self._report(Failed(number, PROCESS_ENDS, is_told=True))
        self._note_over()

    async def wait_over(self) -> None:
        """Until it was told to end and nothing is left to end."""
        await self._is_over.wait()

    async def close(self) -> None:
        """Ends every life at once."""
        for number in list(self._lives):
            self._end(number, 0.0, is_asked=False)
        await asyncio.gather(*self._ends, return_exceptions=True)

    def _start(self, order: StartLife) -> None:
        if self._is_ending:
            self._report(Started(order.life, error=PROCESS_ENDS))
            return
        life = self._lives[order.life] = _Life(order)
        life.task = asyncio.create_task(self._live(life), name=order.worker.worker_id)

    async def _live(self, life: "_Life") -> None:
        """From the join to the first end; ending it is another's work."""
        number = life.order.life
        try:
            life.service = service = self._make(life.order)
            address = await service.start()
        except Exception as error:  # noqa: BLE001 - whatever stops a start reaches the operator
            self._lives.pop(number, None)
            self._report(Started(number, error=_said(error)))
            return
        life.serving = service
        settle()
        facts = _facts(service)
        self._report(Started(number, address.host, address.port, facts))
        reason = await service.wait_failed()
        self._report(Failed(number, reason))

    def _end(self, number: int, drain_s: float, *, is_asked: bool) -> None:
        life = self._lives.pop(number, None)
        if life is None:
            if is_asked:
                self._report(Stopped(number))
            return
        task = asyncio.create_task(self._ended(life, drain_s, is_asked=is_asked))
        self._ends.add(task)
        task.add_done_callback(self._ended_one)

    def _ended_one(self, task: "asyncio.Task[None]") -> None:
        self._ends.discard(task)
        self._note_over()

    def _note_over(self) -> None:
        if self._is_ending and not self._lives and not self._ends:
            self._is_over.set()

    async def _ended(self, life: "_Life", drain_s: float, *, is_asked: bool) -> None:
        if life.task is not None:
            life.task.cancel()
            await asyncio.wait([life.task])
        try:
            if life.service is not None:
                await life.service.stop(drain_s)
        except Exception:
            log.exception("%s did not end in order", life.order.worker.worker_id)
        if is_asked:
            self._report(Stopped(life.order.life))


class _Life:
    """One worker here. `serving` once it came up; `service` even before, for it must be ended."""

    def __init__(self, order: StartLife) -> None:
        self.order = order
        self.task: asyncio.Task[None] | None = None
        self.service: WorkerService | None = None
        self.serving: WorkerService | None = None


def _facts(service: WorkerService) -> EngineFacts | None:
    info = service.info
    if info is None:
        return None
    return EngineFacts(
        info.kind,
        info.model,
        info.block_size,
        info.kv_blocks_total,
        info.max_model_len,
        info.adapters,
    )


def _said(error: Exception) -> str:
    # Our errors say what to do; of others the kind is half of what they say.
    is_ours = type(error).__module__.startswith("radixroute.")
    return str(error) if is_ours else f"{type(error).__name__}: {error}"
