"""Runtime: drives `RouterCore` in one event loop and performs what it asks for.

Owns the links to the workers and who gets which answer. Decides nothing: every input goes to the
core, every action that comes back is performed in order. Knows no door and no wire format: a door
hands in a `RequestSpec` and an `AnswerSink`. All its methods run in the loop that owns it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from radixroute.events.wire.control import Delivery
from radixroute.radix.ids import Holder, Tokens, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.request.verbatim.records import More, Verbatim
from radixroute.request.wire import unpack_tokens
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.links.engine_link import EngineLink
from radixroute.router.links.event_link import EventLink, EventTransport
from radixroute.router.links.handshake import Handshake, Joined
from radixroute.router.loop_lag import LagMeter
from radixroute.router.messages.actions import (
    Abort,
    Action,
    Allow,
    Connect,
    Disconnect,
    Dispatch,
    Drop,
    Emit,
    Fail,
    Failure,
    Grant,
    Inquire,
    Render,
    ToWorker,
)
from radixroute.router.messages.answer_sink import AnswerSink
from radixroute.router.messages.inputs import (
    TOKEN_BYTES,
    VERBATIM_NEED,
    AbsentWorker,
    MemberSpec,
    Rendered,
    RequestSpec,
    StepReport,
)
from radixroute.router.settings import RouterSettings
from radixroute.trust.identity import Identity

_log = logging.getLogger(__name__)

# Rows looked at in each tick for what workers that left held; about a millisecond's work.
SWEEP_ROWS = 50_000
# For the tokens of a prompt that only an engine can read; longer than that, load must do.
RENDER_S = 1.0


class RouterRuntime:
    """One router at work. Listens to its links."""

    def __init__(
        self,
        settings: RouterSettings,
        core: RouterCore,
        index: PrefixIndex,
        now_ns: Callable[[], int],
        identity: Identity | None = None,
    ) -> None:
        """`identity`: towards workers; None: in the clear."""
        self.core = core
        self.now_ns = now_ns
        self.handshake = Handshake(settings)
        self.lag_meter = LagMeter()
        self.roused = asyncio.Event()  # something came, so that time may lead to more
        self._settings = settings
        self._index = index
        self._identity = identity
        self._events: EventLink | None = None
        self._links: dict[WorkerId, EngineLink] = {}
        self._sinks: dict[str, AnswerSink] = {}
        self._leases: dict[str, asyncio.Future[Grant | Failure]] = {}
        self._rendering: dict[str, asyncio.Future[Tokens | None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_applying = self._is_scheduling = False
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ns = 0

    @property
    def events(self) -> EventLink:
        if self._events is None:
            raise RuntimeError("listen() comes first")
        return self._events

    @property
    def index_bytes(self) -> int:
        """Memory of the prefix index."""
        return self._index.n_bytes

    @property
    def n_leases_asked(self) -> int:
        """Leases that clients wait for."""
        return len(self._leases)

    def listen(self, transport: EventTransport) -> None:
        """Where the workers' event streams come from."""
        self._events = EventLink(self.core, self._index, transport)

    async def close(self) -> None:
        for link in self._links.values():
            self._close(link)
        self._links.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # -- inputs

    def set_members(self, specs: list[MemberSpec], absent: Sequence[AbsentWorker]) -> None:
        self.roused.set()
        self.core.set_absent(absent)
        self.perform(self.core.set_members(specs, self.now_ns()))

    def report_dead(self, worker_id: WorkerId) -> None:
        self.roused.set()
        self.perform(self.core.lost(worker_id, "reported dead", self.now_ns()))

    def submit(self, spec: RequestSpec, sink: AnswerSink) -> None:
        """The answer goes there, from now until its end or `abort`."""
        self._sinks[spec.request_id] = sink
        self._submit(spec)

    def abort(self, request_id: str) -> None:
        """Its client is gone, or has had its answer: then nothing is left to do."""
        if self._sinks.pop(request_id, None) is not None:
            self.perform(self.core.abort(request_id, self.now_ns()))
        self.core.leave(request_id)

    def allow(self, request_id: str, n_bytes: int) -> None:
        """The client of a verbatim request has taken so much of its answer."""
        self.perform(self.core.allow(request_id, n_bytes))

    async def render(self, verbatim: Verbatim, request_id: str, lora: str) -> Tokens | None:
        """The tokens that an engine would make of its prompt; None: nobody tells in time."""
        worker_id = self.core.renderer(VERBATIM_NEED + lora)
        if worker_id is None:
            return None
        told: asyncio.Future[Tokens | None] = asyncio.get_running_loop().create_future()
        self._rendering[request_id] = told
        try:
            async with asyncio.timeout(RENDER_S):
                self._send(Render(worker_id, request_id, verbatim, lora))
                return await told
        except TimeoutError:
            return None
        finally:
            del self._rendering[request_id]

    async def lease(self, spec: RequestSpec) -> Grant | Failure:
        """Waits in the queue like any request; `spec` names the lease. Cancelled: nobody wants it
        any more."""
        granted: asyncio.Future[Grant | Failure] = asyncio.get_running_loop().create_future()
        self._leases[spec.request_id] = granted
        try:
            self._submit(spec)
            return await granted
        finally:
            if self._leases.pop(spec.request_id, None) is not None:
                self.perform(self.core.abort(spec.request_id, self.now_ns()))

    def release(self, lease_id: str) -> bool:
        """False: the lease was unknown or had lapsed."""
        actions = self.core.release(lease_id, self.now_ns())
        self.perform(actions or ())
        return actions is not None

    def receive_events(self, deliveries: Iterable[Delivery]) -> None:
        self.perform(self.events.receive(deliveries, self.now_ns()))
        self._apply_soon()
        if not self.roused.is_set() and not self.events.is_quiet:
            self.roused.set()

    def _apply_soon(self) -> None:
        """Streams with more than a turn's work go on after what else the loop has to do."""
        if self.events.is_busy and not self._is_applying:
            self._is_applying = True
            asyncio.get_running_loop().call_soon(self._apply_more)

    def _apply_more(self) -> None:
        self._is_applying = False
        self.perform(self.events.go_on(self.now_ns()))
        self._apply_soon()

    def lagged(self, lag_s: float) -> None:
        """The loop ran something so late."""
        if self.lag_meter.observe(lag_s):
            self.core.count(Count.LOOP_LAGGED)

    def tick(self) -> int:
        """How long nothing comes of time if nobody comes, in ns; 0: something is under way."""
        now_ns = self.now_ns()
        self.events.tick(now_ns)
        self.perform(self.core.tick(now_ns))
        is_swept = self._index.sweep(SWEEP_ROWS) < SWEEP_ROWS
        if not (is_swept and self.events.is_quiet):
            return 0  # a stream asks for something, or an index is swept
        return self.core.rests_until_ns(now_ns) - now_ns

    # -- what the links tell

    def opened(self, spec: MemberSpec, joined: Joined) -> None:
        if not self._is_current(spec):
            return
        self.roused.set()
        holders = [Holder(spec.worker_id, rank) for rank in range(joined.facts.ranks)]
        self.events.join(holders, joined.epoch, joined.endpoints, now_ns=self.now_ns())
        _log.info("worker %s joined, epoch %s", spec.worker_id, joined.facts.epoch)
        self.perform(self.core.joined(joined.facts, self.now_ns()))

    def received(self, spec: MemberSpec, report: StepReport) -> None:
        if self._is_current(spec):
            for one in report.rendered:
                self._rendered(one)
            now_ns = self.now_ns()
            self.perform(self.core.step(spec.worker_id, report, now_ns, schedules=False))
            self._schedule_soon()

    def _rendered(self, rendered: Rendered) -> None:
        told = self._rendering.get(rendered.request_id)
        if told is not None and not told.done():
            packed = rendered.token_ids
            is_told = bool(packed) and not len(packed) % TOKEN_BYTES
            told.set_result(unpack_tokens(packed) if is_told else None)

    def closed(self, spec: MemberSpec, reason: str) -> None:
        if self._is_current(spec):
            _log.warning("worker %s lost: %s", spec.worker_id, reason)
            self.roused.set()
            self.perform(self.core.lost(spec.worker_id, reason, self.now_ns()))

    def refused(self, spec: MemberSpec, reason: str) -> None:
        if self._is_current(spec):
            _log.error("worker %s refused: %s", spec.worker_id, reason)
            self.core.refused(spec.worker_id, reason)

    def unreachable(self, spec: MemberSpec, reason: str) -> None:
        _log.debug("worker %s not reached: %s", spec.worker_id, reason)
        self.core.count(Count.CONNECTS_FAILED)

    def _is_current(self, spec: MemberSpec) -> bool:
        link = self._links.get(spec.worker_id)
        return link is not None and link.spec is spec

    # -- actions

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Emit():
                    self._emit(action)
                case More():
                    self._pass_on(action)
                case Dispatch() | Abort() | Inquire() | Allow():
                    self._send(action)
                case Fail():
                    self._fail(action)
                case Grant():
                    self._answer_lease(action.request_id, action)
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
        self._wake = asyncio.get_running_loop().call_later(delay_s, self._schedule)

    def _schedule(self) -> None:
        self._wake = None
        self.perform(self.core.schedule_waiting(self.now_ns()))

    def _submit(self, spec: RequestSpec) -> None:
        """Who finds others waiting is scheduled with them."""
        self.roused.set()
        is_alone = not self.core.n_waiting
        self.perform(self.core.submit(spec, self.now_ns(), is_last=is_alone))
        self._schedule_soon()

    def _schedule_soon(self) -> None:
        """Once for all that comes in one turn of the loop: more may have, and each would cost a
        plan of all that wait."""
        if self.core.n_waiting and not self._is_scheduling:
            self._is_scheduling = True
            asyncio.get_running_loop().call_soon(self._schedule_waiting)

    def _schedule_waiting(self) -> None:
        self._is_scheduling = False
        self.perform(self.core.schedule_waiting(self.now_ns()))

    def _emit(self, emit: Emit) -> None:
        sink = self._sinks.get(emit.request_id)
        if sink is not None:
            sink.put(emit)
            if emit.finish is not None:
                del self._sinks[emit.request_id]

    def _pass_on(self, more: More) -> None:
        sink = self._sinks.get(more.request_id)
        if sink is not None:
            sink.more(more.data)

    def _fail(self, fail: Fail) -> None:
        sink = self._sinks.pop(fail.request_id, None)
        if sink is not None:
            sink.fail(fail.failure, fail.detail)
        self._answer_lease(fail.request_id, fail.failure)

    def _answer_lease(self, request_id: str, answer: Grant | Failure) -> None:
        granted = self._leases.pop(request_id, None)
        if granted is not None and not granted.done():
            granted.set_result(answer)

    def _send(self, action: ToWorker) -> None:
        link = self._links.get(action.worker_id)
        dropped = 1 if link is None else link.send(action)
        if dropped:
            # The session is broken and its end is on its way here: the core will resend elsewhere.
            self.core.count(Count.SENDS_DROPPED, dropped)

    def _link(self, action: Connect | Drop | Disconnect) -> None:
        match action:
            case Connect(spec=spec):
                link = EngineLink(spec, self._settings, self.handshake, self, self._identity)
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
