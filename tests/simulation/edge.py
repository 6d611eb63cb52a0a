"""The router's edge without I/O: what `RouterRuntime` and its links do, in virtual time.

Owns the links to the workers, the real `EventLink`, the router's clock and its wake-ups. Every
input to the core goes through here, and every action that comes back is performed here.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.control import (
    Delivery,
    Endpoints,
    Malformed,
    ResendRequest,
    SnapshotRequest,
    decode_reply,
    encode_request,
)
from radixroute.events.wire.native import decode_frames
from radixroute.events.wire.records import Epoch, LoadReport
from radixroute.radix.ids import Holder, WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import More
from radixroute.router.counters import Count
from radixroute.router.links.event_link import EventLink
from radixroute.router.messages.actions import (
    Abort,
    Action,
    Connect,
    Disconnect,
    Dispatch,
    Drop,
    Emit,
    Fail,
    Grant,
    Inquire,
    ToWorker,
)
from radixroute.router.messages.inputs import Delta, MemberSpec, StepReport
from tests.simulation import adapter
from tests.simulation.adapter import Router
from tests.simulation.agenda import MS, Agenda, Process
from tests.simulation.fleet.life import Life
from tests.simulation.fleet.links import EventWire, Session
from tests.simulation.ledger import Ledger

TICK_NS = 200 * MS
_HOP_NS = MS
_RETRY_NS = 200 * MS
_ENDPOINTS = Endpoints("events", "control")
_NO_ANSWER = (FinishReason.ABORT, FinishReason.ERROR, FinishReason.FULL, FinishReason.INVALID)


@dataclass(eq=False)
class Link:
    """To one listed worker; it goes on trying."""

    spec: MemberSpec
    session: Session | None = None
    life: Life | None = None
    is_trying: bool = False
    n_tries: int = 0  # the last one counts; those before it were given up


@dataclass
class Wires:
    """Of one worker's address; they outlive its lives."""

    events: EventWire
    replies: EventWire
    asks: EventWire


class Edge(Process):
    """The router's process."""

    def __init__(
        self, agenda: Agenda, router: Router, ledger: Ledger, wires: dict[str, Wires], seed: int
    ) -> None:
        super().__init__()
        self.router, self.ledger = router, ledger
        self.events = EventLink(router.core, router.index, self)
        # Workers whose index may be wrong for now: a mangled batch fools a stream until a heartbeat
        # contradicts it.
        self.mangled: set[str] = set()
        self.ever_mangled: set[str] = set()
        self.links: dict[str, Link] = {}
        self.epochs: dict[str, Epoch] = {}  # whose events count, by worker
        self.offset_ns = 0
        self.n_deltas = 0  # that the core was given
        self.has_acted = self.is_tick = False
        self.heard: str | None = None  # whose event was the last input
        self.n_reported = 0  # outputs in the last input
        self.reported_by: str | None = None  # whose they are
        self.fenced: set[str] = set()  # requests it spoke of, but not of their attempts there
        # Told of each action before it is performed, and after each input.
        self.on_action: Callable[[Action], None] = lambda action: None
        self.on_input: Callable[[], None] = lambda: None
        self.life_of: Callable[[str], Life | None] = lambda worker: None
        self.fits: Callable[[str], bool] = lambda worker: True
        self.on_emit: Callable[[str], None] = lambda request_id: None
        self.on_grant: Callable[[Grant], None] = lambda grant: None
        router.core.on_heartbeat = self._note_heartbeat
        self._agenda = agenda
        self._wires = wires
        self._rng = random.Random(f"edge {seed}")
        self._wake_ns: int | None = None
        self._is_applying = False  # a turn of a busy stream is due
        agenda.put(0, self, self._tick)

    @property
    def clock_ns(self) -> int:
        """What the router takes for the time."""
        return self._agenda.now_ns + self.offset_ns

    def do(self, actions: Iterable[Action]) -> None:
        """Performs what an input led to."""
        for action in actions:
            # A token on its way changes nothing that a snapshot shows.
            is_passing = type(action) is More
            is_passing = is_passing or (type(action) is Emit and action.finish is None)
            self.has_acted = self.has_acted or not is_passing
            self.on_action(action)
            self.ledger.acted(action, self.clock_ns)
            match action:
                case Emit() | More():
                    self.on_emit(action.request_id)
                case Grant():
                    self.on_grant(action)
                case Fail():
                    pass
                case Dispatch() | Abort() | Inquire():
                    self._send(action)
                case Connect():
                    link = self.links[action.spec.worker_id] = Link(action.spec)
                    self._try_soon(link, _HOP_NS)
                case Drop():
                    self.events.leave(action.worker_id)
                    self._drop(self.links[action.worker_id])
                case Disconnect():
                    self.events.leave(action.worker_id)
                    link = self.links.pop(action.worker_id)
                    self._hang_up(link)
        self._arm()
        self.ledger.over()
        self.on_input()
        self.heard, self.reported_by, self.n_reported = None, None, 0
        self.fenced.clear()
        self.is_tick = self.has_acted = False

    # -- inputs

    def hear_report(self, worker: str, report: StepReport) -> None:
        self.n_reported = len(report.deltas) + len(report.more)
        self.n_deltas += self.n_reported
        current: set[str] = set()
        self.ledger.standing.full.discard(worker)
        for delta in report.deltas:
            self._note_fence(worker, delta, current)
            finish = delta.finish
            if finish in _NO_ANSWER:
                request_id, attempt = delta.request_id, delta.attempt
                self.ledger.told(worker, request_id, attempt, finish, self.clock_ns)
        for more in report.more:
            self._note_fence(worker, more, current)
        self.reported_by = worker
        self.do(self.router.step(worker, report, self.clock_ns))

    def _note_heartbeat(self, worker: str, load: LoadReport) -> None:
        if load.step_age_ms < adapter.STUCK_SUSPECT_S * 1000:
            self.ledger.standing.full.discard(worker)
        self.ledger.heard(worker, load, self.clock_ns)

    def _note_fence(self, worker: str, delta: Delta | More, current: set[str]) -> None:
        request_id = delta.request_id
        client = self.ledger.open.get(request_id)
        if client is not None and (client.worker, client.attempt) == (worker, delta.attempt):
            current.add(request_id)
            self.fenced.discard(request_id)
        elif request_id not in current:
            self.fenced.add(request_id)

    def hear_event(self, is_mangled: bool, frames, worker: str) -> None:
        self._hear(is_mangled, frames, worker, decode_frames)

    def hear_reply(self, is_mangled: bool, frames, worker: str) -> None:
        self._hear(is_mangled, frames, worker, decode_reply)

    def session_broke(self, worker: str) -> None:
        """Somebody else ended it: the router hears of it a moment later."""
        link = self.links.get(worker)
        if link is not None and link.session is not None:
            link.session.close()
            self._agenda.put(
                self._agenda.now_ns + _HOP_NS, self, self._session_ended, link, link.session
            )

    def _hear(self, is_mangled: bool, frames, worker: str, decode) -> None:
        holder = Holder(WorkerId(worker))
        try:
            item = decode(frames)
        except RemoteEventError as error:
            item = Malformed(str(error))
        if is_mangled:
            self.mangled.add(worker)
            self.ever_mangled.add(worker)
        self.heard = worker
        self.do(self.events.receive([Delivery(holder, item)], self.clock_ns))
        self._apply_soon()

    def _apply_soon(self) -> None:
        """As the runtime does: streams with more than a turn's work go on in turns."""
        if self.events.is_busy and not self._is_applying:
            self._is_applying = True
            self._agenda.put(self._agenda.now_ns, self, self._apply_more)

    def _apply_more(self) -> None:
        self._is_applying = False
        self.do(self.events.go_on(self.clock_ns))
        self._apply_soon()

    def _tick(self) -> None:
        self._agenda.put(self._agenda.now_ns + TICK_NS, self, self._tick)
        self.is_tick = True
        now_ns = self.clock_ns
        self.events.tick(now_ns)
        self.ledger.elapsed(now_ns)
        self.do(self.router.tick(now_ns))

    def _wake(self, wake_ns: int) -> None:
        if self._wake_ns == wake_ns:
            self._wake_ns = None
            self.do(self.router.wake(self.clock_ns))

    def _arm(self) -> None:
        wake_ns = self.router.wake_ns
        if wake_ns is not None and (self._wake_ns is None or wake_ns < self._wake_ns):
            self._wake_ns = wake_ns
            self._agenda.put(wake_ns - self.offset_ns, self, self._wake, wake_ns)

    # -- sessions

    def _try_soon(self, link: Link, ns: int) -> None:
        if not link.is_trying:
            link.is_trying = True
            self._agenda.put(self._agenda.now_ns + ns, self, self._try, link)

    def _try(self, link: Link) -> None:
        link.is_trying = False
        worker = link.spec.worker_id
        if self.links.get(worker) is not link or link.session is not None:
            return
        self._try_soon(link, _RETRY_NS)
        link.n_tries += 1
        life = self.life_of(worker)
        if life is None:
            self.router.core.count(Count.CONNECTS_FAILED)
        elif not self.fits(worker):
            self.router.refused(worker)
            self.has_acted = True
            self.do([])
        else:
            self._agenda.put(
                self._agenda.now_ns + _HOP_NS, life, self._accept, link, life, link.n_tries
            )

    def _accept(self, link: Link, life: Life, n_tries: int) -> None:
        """The worker lets a router in, if that still wants to; the session before it is over."""
        if n_tries != link.n_tries:
            return
        session = Session(self._agenda, self, life)
        life.open_session(session)
        at_ns = self._agenda.now_ns + _HOP_NS
        self._agenda.put(at_ns, self, self._opened, link, life, session, n_tries)

    def _opened(self, link: Link, life: Life, session: Session, n_tries: int) -> None:
        worker = link.spec.worker_id
        is_wanted = self.links.get(worker) is link and n_tries == link.n_tries
        if not is_wanted or link.session is not None or not session.is_open:
            session.close()
            return
        link.session, link.life = session, life
        self.epochs[worker] = life.epoch
        self.mangled.discard(worker)
        self.ledger.epochs[worker] = life.epoch.hex()
        self.ledger.standing.full.discard(worker)
        self.events.join([Holder(worker)], life.epoch, _ENDPOINTS, now_ns=self.clock_ns)
        self.has_acted = True  # the worker's state is another, even if nobody is sent there
        self.do(self.router.joined(life.plan, life.epoch, self.clock_ns))

    def _session_ended(self, link: Link, session: Session) -> None:
        if link.session is session:
            link.session = None
            self.do(self.router.lost(link.spec.worker_id, "broken", self.clock_ns))
            if self.links.get(link.spec.worker_id) is link:
                self._try_soon(link, _RETRY_NS)

    def _drop(self, link: Link) -> None:
        self._hang_up(link)
        self._try_soon(link, _RETRY_NS)

    def _hang_up(self, link: Link) -> None:
        session, link.session = link.session, None
        if session is not None:
            session.close()
            life = link.life
            assert life is not None
            self._agenda.put(self._agenda.now_ns + _HOP_NS, life, _close, life, session)

    def _send(self, action: ToWorker) -> None:
        link = self.links.get(action.worker_id)
        if link is None or link.session is None or link.life is None:
            self.router.core.count(Count.SENDS_DROPPED)
        elif isinstance(action, Dispatch):
            link.session.to_worker(link.life.submit, action)
        elif isinstance(action, Inquire):
            link.session.to_worker(link.life.inquired, action.attempts)
        elif isinstance(action, Abort):
            link.session.to_worker(link.life.abort, action.request_id, action.attempt)

    # -- what `EventLink` wants of its transport

    def add(self, holder: Holder, _endpoints: Endpoints) -> None:
        """It hears nothing before it is connected."""
        delay_ns = self._rng.choice((0, 1, 40, 200)) * MS
        self._wires[holder.worker].events.connected_ns = self._agenda.now_ns + delay_ns

    def remove(self, holder: Holder) -> None:
        self._wires[holder.worker].events.connected_ns = None

    def request_resend(self, holder: Holder, from_seq: int, to_seq: int) -> None:
        self._ask(holder, ResendRequest(from_seq, to_seq))

    def request_snapshot(self, holder: Holder) -> None:
        self._ask(holder, SnapshotRequest())

    def _ask(self, holder: Holder, request: ResendRequest | SnapshotRequest) -> None:
        life = self.life_of(holder.worker)
        if life is not None:
            self._wires[holder.worker].asks.send(encode_request(request), life, life.asked)


def _close(life: Life, session: Session) -> None:
    if life.session is session:
        life.close_session()
