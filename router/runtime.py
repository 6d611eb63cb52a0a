"""Runtime: drives `RouterCore` in one event loop and performs what it asks for.

Owns the links to the workers, the clients' streams, the tokenizer and the fleet's facts. Decides
nothing: every input goes to the core, every action that comes back is performed in order. All its
methods run in the loop that owns it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from radixroute.events.wire.control import Delivery, Endpoints
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.api.client_stream import ClientStream
from radixroute.router.api.prompts import PromptReader
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.links.engine_link import EngineLink
from radixroute.router.links.event_link import EventLink, EventTransport
from radixroute.router.links.join import FleetFacts, check_join, read_epoch, worker_facts
from radixroute.router.links.tokenizer_fetch import fetch_tokenizer
from radixroute.router.links.wire import abort_message, dispatch_messages, step_report
from radixroute.router.messages.actions import (
    Abort,
    Action,
    Connect,
    Disconnect,
    Dispatch,
    Drop,
    Emit,
    Fail,
)
from radixroute.router.messages.inputs import RequestSpec
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.members import MemberSpec

_log = logging.getLogger(__name__)

# Rows looked at in each tick for what workers that left held; about a millisecond's work.
SWEEP_ROWS = 50_000


class RouterRuntime:
    """One router at work. Listens to its links."""

    def __init__(
        self,
        settings: RouterSettings,
        core: RouterCore,
        index: PrefixIndex,
        now_ns: Callable[[], int],
    ) -> None:
        self.core = core
        self.now_ns = now_ns
        self.fleet: FleetFacts | None = None
        self.prompts: PromptReader | None = None
        self.served = asyncio.Event()  # a worker was accepted: prompts can be read
        self._settings = settings
        self._index = index
        self._events: EventLink | None = None
        self._links: dict[WorkerId, EngineLink] = {}
        self._streams: dict[str, ClientStream] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ns = 0
        self._admitting = asyncio.Lock()  # two first workers must not both set the fleet's facts

    @property
    def events(self) -> EventLink:
        if self._events is None:
            raise RuntimeError("listen() comes first")
        return self._events

    def listen(self, transport: EventTransport) -> None:
        """Where the workers' event streams come from."""
        self._events = EventLink(self.core, self._index, transport)

    async def close(self) -> None:
        for link in self._links.values():
            self._close(link)
        self._links.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self.prompts is not None:
            self.prompts.close()

    # -- inputs

    def set_members(self, specs: list[MemberSpec]) -> None:
        self.perform(self.core.set_members(specs, self.now_ns()))

    def report_dead(self, worker_id: WorkerId) -> None:
        self.perform(self.core.lost(worker_id, "reported dead", self.now_ns()))

    def submit(self, spec: RequestSpec) -> ClientStream:
        stream = ClientStream(spec.request_id)
        self._streams[spec.request_id] = stream
        self.perform(self.core.submit(spec, self.now_ns()))
        return stream

    def abort(self, request_id: str) -> None:
        """Its client is gone, or has had its answer: then nothing is left to do."""
        if self._streams.pop(request_id, None) is not None:
            self.perform(self.core.abort(request_id, self.now_ns()))

    def receive_events(self, deliveries: Iterable[Delivery]) -> None:
        self.perform(self.events.receive(deliveries, self.now_ns()))

    def tick(self) -> None:
        now_ns = self.now_ns()
        self.events.tick(now_ns)
        self.perform(self.core.tick(now_ns))
        self._index.sweep(SWEEP_ROWS)

    # -- what the links tell

    async def admit(self, spec: MemberSpec, info: pb.GetInfoResponse, stub: rpc.EngineStub) -> None:
        async with self._admitting:
            fleet = check_join(info, spec, self._settings, self.fleet)
            if self.prompts is None:
                wanted = fleet.tokenizer_fingerprint
                tokenizer = await fetch_tokenizer(
                    stub, wanted, timeout_s=self._settings.connect_timeout_s
                )
                self.prompts = PromptReader(fleet, tokenizer)
            self.fleet = fleet
            self.served.set()

    def opened(self, spec: MemberSpec, info: pb.GetInfoResponse) -> None:
        if not self._is_current(spec):
            return
        facts = worker_facts(info, spec)
        holders = [Holder(spec.worker_id, rank) for rank in range(facts.ranks)]
        endpoints = Endpoints(events=info.events_endpoint, control=info.replay_endpoint)
        self.events.join(holders, read_epoch(info), endpoints, now_ns=self.now_ns())
        _log.info("worker %s joined, epoch %s", spec.worker_id, info.epoch)
        self.perform(self.core.joined(facts, self.now_ns()))

    def received(self, spec: MemberSpec, output: pb.StepOutput) -> None:
        if self._is_current(spec):
            report = step_report(output)
            self.perform(self.core.step(spec.worker_id, report, self.now_ns()))

    def closed(self, spec: MemberSpec, reason: str) -> None:
        if self._is_current(spec):
            _log.warning("worker %s lost: %s", spec.worker_id, reason)
            self.perform(self.core.lost(spec.worker_id, reason, self.now_ns()))

    def refused(self, spec: MemberSpec, reason: str) -> None:
        if self._is_current(spec):
            _log.error("worker %s refused: %s", spec.worker_id, reason)
            self.core.refused(spec.worker_id, reason)

    def unreachable(self, spec: MemberSpec, reason: str) -> None:
        _log.debug("worker %s not reached: %s", spec.worker_id, reason)
        self.core.state.counters.add(Count.CONNECTS_FAILED)

    def _is_current(self, spec: MemberSpec) -> bool:
        link = self._links.get(spec.worker_id)
        return link is not None and link.spec is spec

    # -- actions

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Emit():
                    self._emit(action)
                case Dispatch():
                    for message in dispatch_messages(action, self._settings.chunk_tokens):
                        self._send(action.worker_id, message)
                case Abort():
                    self._send(action.worker_id, abort_message(action))
                case Fail():
                    stream = self._streams.pop(action.request_id, None)
                    if stream is not None:
                        stream.fail(action.failure)
                case Connect() | Drop() | Disconnect():
                    self._link(action)
        self._arm()

    def _arm(self) -> None:
        """Sees to it that the core is called when it wants to be."""
        wake_ns = self.core.wake_ns
        if wake_ns is None or (self._wake is not None and self._wake_ns <= wake_ns):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_ns = wake_ns
        delay_s = max(0.0, (wake_ns - self.now_ns()) / 1e9)
        self._wake = asyncio.get_running_loop().call_later(delay_s, self._pump)

    def _pump(self) -> None:
        self._wake = None
        self.perform(self.core.pump(self.now_ns()))

    def _emit(self, emit: Emit) -> None:
        stream = self._streams.get(emit.request_id)
        if stream is not None:
            stream.put(emit)
            if emit.finish is not None:
                del self._streams[emit.request_id]

    def _send(self, worker_id: WorkerId, message: pb.EngineRequest) -> None:
        link = self._links.get(worker_id)
        if link is None or not link.send(message):
            # The session is broken and its end is on its way here: the core will resend elsewhere.
            self.core.state.counters.add(Count.SENDS_DROPPED)

    def _link(self, action: Connect | Drop | Disconnect) -> None:
        match action:
            case Connect(spec=spec):
                link = EngineLink(spec, self._settings.router_id, self._settings, self)
                self._links[spec.worker_id] = link
                link.start()
            case Drop(worker_id=worker_id):
                self.events.leave(worker_id)
                self._links[worker_id].drop()
            case Disconnect(worker_id=worker_id):
                self.events.leave(worker_id)
                self._close(self._links.pop(worker_id))

    def _close(self, link: EngineLink) -> None:
        task = asyncio.create_task(link.stop())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
