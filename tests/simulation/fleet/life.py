"""One life of a worker's process: its engine, its real stream of events, its sessions.

Owns what dies with the process. `told` keeps what each batch said, so that others can tell what an
index that followed it should hold.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radixroute.events.errors import RemoteEventError
from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.wire.control import SnapshotRequest, decode_request
from radixroute.events.wire.native import encode_heartbeat
from radixroute.events.wire.records import Epoch, Event, LoadReport, SessionLoad
from radixroute.radix.ids import Keys
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import More
from radixroute.router.messages.actions import AttemptName, Dispatch
from radixroute.router.messages.inputs import Delta, RequestSpec, StepReport
from tests.simulation import adapter
from tests.simulation.agenda import MS, Agenda, Process
from tests.simulation.fleet.engine import Engine, Running
from tests.simulation.fleet.hoard import HoardMirror
from tests.simulation.fleet.liar import Liar
from tests.simulation.fleet.links import EventWire, Session
from tests.simulation.plan import WorkerPlan
from tests.simulation.prompts import Answer, prompt_in

BEAT_NS = 250 * MS
_MIRROR_BYTES = 1 << 20  # a default one takes longer to make than all that a seed stores in it
ROUTER, DIRECT = "router", "direct"
_ENDED_KEPT = 8  # names of direct clients' requests that have ended


@dataclass
class Mouth:
    """Where a life speaks to: the router, over wires that outlive it."""

    router: Process
    events: EventWire
    replies: EventWire
    hears_event: Callable[..., None]
    hears_reply: Callable[..., None]
    hears_report: Callable[[str, StepReport], None]
    dies: Callable[[str], None]
    ends_direct: Callable[[str], None]


class Life(Process):
    """A worker's process from its start to its end."""

    def __init__(
        self, agenda: Agenda, plan: WorkerPlan, epoch: Epoch, mouth: Mouth, liar: Liar
    ) -> None:
        super().__init__()
        self.plan, self.epoch = plan, epoch
        self.engine = Engine(plan)
        self.liar = liar
        self.told: list[tuple[Event, ...]] = []  # by seq
        self.session: Session | None = None
        self.kills: set[str] = set()
        self._direct_ended: deque[str] = deque(maxlen=_ENDED_KEPT)
        self._agenda = agenda
        self._mouth = mouth
        self._stream = OutboundStream(
            epoch,
            0,
            ring_batches=plan.ring_batches,
            ring_bytes=1 << 20,
            part_blocks=37,
            mirror_bytes=_MIRROR_BYTES,
        )
        self._steps = False
        self._stalled_until_ns = 0
        self._stepped_ns = agenda.now_ns
        agenda.put(agenda.now_ns, self, self._beat)

    # -- what is asked of it

    def open_session(self, session: Session) -> None:
        self.close_session()
        self.session = session
        self.engine.acknowledged = 0

    def close_session(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
        self.engine.end_session(ROUTER)

    def submit(self, dispatch: Dispatch) -> None:
        if self.engine.is_full:
            self._tell([adapter.refusal(dispatch)])
            return
        emitted = len(dispatch.emitted) // 4
        self._take(ROUTER, dispatch.spec, dispatch.attempt, emitted, dispatch.dispatch_seq)

    def submit_direct(self, spec: RequestSpec) -> None:
        """Of a client that was routed here."""
        if self.engine.is_full:
            self._mouth.ends_direct(spec.request_id)
        else:
            self._take(DIRECT, spec, 0, 0, 0)

    def abort(self, request_id: str, attempt: int) -> None:
        self.engine.abort((ROUTER, request_id, attempt))

    def inquired(self, attempts: Sequence[AttemptName]) -> None:
        """Those that are not here any more end once more."""
        gone = [name for name in attempts if (ROUTER, *name) not in self.engine.requests]
        if gone:
            self._tell([adapter.gone(name) for name in gone])

    def asked(self, _is_mangled: bool, frames) -> None:
        """A request on the control channel of its stream."""
        try:
            request = decode_request(frames)
        except RemoteEventError:
            return
        if isinstance(request, SnapshotRequest):
            replies = self._stream.snapshot()
        else:
            replies = self._stream.resend(request)
        for reply in replies:
            self._mouth.replies.send(
                reply, self._mouth.router, self._mouth.hears_reply, self.plan.name
            )

    # -- what befalls it

    def stall(self, until_ns: int) -> None:
        self._stalled_until_ns = max(self._stalled_until_ns, until_ns)

    def hoard(self, keys: Keys, copies: int) -> None:
        """It holds more copies of some blocks than our own publisher would say."""
        stream = self._stream
        vars(stream)["_mirror"] = HoardMirror(stream._mirror, keys)
        self.engine.blocks.hoard(keys, copies)
        self._publish(self.engine.blocks.take_told())

    def shed(self, keys: Keys, copies: int) -> None:
        self.engine.blocks.shed(keys, copies)
        self._publish(self.engine.blocks.take_told())

    def clear_cache(self) -> None:
        self.engine.blocks.clear()
        self._publish(self.engine.blocks.take_told())

    @property
    def step_age_ms(self) -> float:
        """Since it finished a step, or had nothing to do."""
        return (self._agenda.now_ns - self._stepped_ns) / 1e6 if self.engine.requests else 0.0

    def end(self) -> None:
        self.is_over = True
        self.close_session()

    def check(self) -> None:
        self._stream.check()

    # -- its work

    def _take(
        self, session: str, spec: RequestSpec, attempt: int, emitted: int, dispatch_seq: int
    ) -> None:
        answer = Answer(prompt_in(spec), spec.sampling)
        self.engine.submit(Running(session, spec, attempt, emitted, dispatch_seq, answer, -1))
        self._go_on()

    def _go_on(self) -> None:
        if self._steps:
            return
        ns = self.engine.begin(len(self.told))
        if ns is None:
            return
        if not self._has_worked:
            self._stepped_ns = self._agenda.now_ns
        self._steps = self._has_worked = True
        self._agenda.put(self._agenda.now_ns + ns, self, self._end_step)

    _has_worked = False

    def _end_step(self) -> None:
        now_ns = self._agenda.now_ns
        if now_ns < self._stalled_until_ns:
            self._agenda.put(self._stalled_until_ns, self, self._end_step)
            return
        if self.kills and self.engine.would_kill(self.kills):
            self._mouth.dies(self.plan.name)
            return
        self._steps = False
        self._stepped_ns = now_ns
        outputs: dict[str, list[Delta]] = defaultdict(list)
        more: list[More] = []
        for request, output in self.engine.finish():
            if isinstance(output, More):
                more.append(output)
            else:
                outputs[request.session].append(output)
        self._publish((*self.engine.blocks.take_told(), *self.liar.events(self)))
        if outputs[ROUTER] or more:
            self._tell(outputs[ROUTER], more)
        for delta in outputs[DIRECT]:
            if delta.finish is not None:
                self._direct_ended.append(delta.request_id)
                self._mouth.ends_direct(delta.request_id)
        self._has_worked = bool(self.engine.requests)
        self._go_on()

    def _tell(self, deltas: Sequence[Delta], more: Sequence[More] = ()) -> None:
        engine = self.engine
        is_refusal = bool(deltas) and deltas[0].finish is FinishReason.FULL
        work = (0.0, 0, 0) if is_refusal else (
            engine.step_ms, engine.prefill_tokens, engine.decode_tokens
        )  # fmt: skip
        step = StepReport(*work, tuple(deltas), more=tuple(more))
        for report in self.liar.reports(self, step):
            if self.session is not None:
                self.session.to_router(self._mouth.hears_report, self.plan.name, report)

    def _publish(self, events: tuple[Event, ...]) -> None:
        if not events:
            return
        self.told.append(events)
        up = self._mouth.events
        if up.happens(up.weather.drop):
            self._stream.drop(events)
            return
        frames = self._stream.record(events, float(self._agenda.now_ns % 7))
        assert frames is not None
        up.send(frames, self._mouth.router, self._mouth.hears_event, self.plan.name)

    def _beat(self) -> None:
        self._agenda.put(self._agenda.now_ns + BEAT_NS, self, self._beat)
        frames = encode_heartbeat(self._stream.heartbeat(self.liar.load(self._load())))
        up = self._mouth.events
        up.send(frames, self._mouth.router, self._mouth.hears_event, self.plan.name)

    def _load(self) -> LoadReport:
        engine = self.engine
        sessions = []
        for session in (ROUTER, DIRECT):
            n = sum(place[0] == session for place in engine.requests)
            name, seen = (
                (adapter.ROUTER_ID, engine.acknowledged) if session == ROUTER else (session, 0)
            )
            if n or session == ROUTER:
                queued = engine.queued_tokens(session)
                sessions.append(SessionLoad(name, seen, n, queued, 0))
        age_ms = self.step_age_ms
        direct = tuple(place[1] for place in engine.requests if place[0] == DIRECT)
        return LoadReport(
            age_ms,
            self.plan.kv_blocks,
            len(engine.blocks),
            tuple(sessions),
            direct,
            tuple(self._direct_ended),
        )
