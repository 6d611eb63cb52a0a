"""Worker sessions: who gets which output, and what waits to be sent to each.

A worker session is one `Session` stream of a router, or one request of a direct client. Owns each
from open to close, with the `AnswerStream` of every request. The ids that the engine sees are made
here (session and a counter), so that requests of different callers can never meet. Submits, aborts
and ended sessions reach the engine through `EngineCommands`; no I/O, no clock. Called by the gRPC
server and by the engine's listener, on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from radixroute.events.wire.records import SessionLoad
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.request.wire import finish_to_proto, pack_tokens
from radixroute.worker.api.commands import EngineCommands
from radixroute.worker.api.fences import Fences
from radixroute.worker.api.intake import Submission
from radixroute.worker.api.streams import AnswerStream, Piece
from radixroute.worker.api.wire import token_delta
from radixroute.worker.engine.engine import (
    NOT_HERE,
    EngineRequest,
    EngineStep,
    MoreOutput,
    TokenOutput,
    WorkerSessionProgress,
)

# Ended requests of direct clients that heartbeats still name: a short one may run between two.
DIRECT_ENDED_KEPT = 256
# Of verbatim answers in one message, and what one piece brings on top: routers read no giant one.
MORE_BYTES = 1 << 20
LATER_ATTEMPT = "request_id: a later attempt of this request runs here"


@dataclass(frozen=True, slots=True)
class _Answer:
    request_id: str  # the caller's
    stream: AnswerStream | None  # None: its engine's own answer goes by


class WorkerSession:
    """One caller's stream: its requests, and the outputs that wait to be sent."""

    def __init__(self, session_id: str, router_id: str, sessions: "WorkerSessions") -> None:
        self.session_id = session_id
        self.router_id = router_id
        self._sessions = sessions
        self._answers: dict[tuple[str, int], _Answer] = {}  # by engine id and attempt
        self._engine_ids: dict[tuple[str, int], str] = {}  # by the caller's id and attempt
        self._n_submitted = 0
        self._acknowledged = 0
        self._outbox: deque[pb.StepOutput] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False
        # Told whenever there is output or the end; instead of whoever waits in `next_output`.
        self.listener: Callable[[], None] | None = None

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def in_flight(self) -> int:
        return len(self._answers)

    def submit(self, submission: Submission) -> None:
        """Hand a checked request to the engine; its outputs come through `next_output`.

        Raises `InvalidRequest` once the session is closed: nobody would read or end the answer.
        """
        if self._is_closed:
            raise InvalidRequest("session", "is closed; open another and send the request there")
        caller_key = (submission.request_id, submission.attempt)
        if caller_key in self._engine_ids:
            reason = "request_id: this attempt is running already"
            self.refuse(*caller_key, FinishReason.INVALID, reason)
            return
        self._n_submitted += 1
        request = EngineRequest(
            request_id=f"{self.session_id}.{self._n_submitted}",
            attempt=submission.attempt,
            session_id=self.session_id,
            prompt=submission.prompt,
            sampling=submission.sampling,
            emitted=submission.emitted,
            dispatch_seq=submission.dispatch_seq,
            scope=submission.scope,
            verbatim=submission.verbatim,
            allowance=submission.allowance,
            traceparent=submission.traceparent,
        )
        stream = None
        if request.verbatim is None:
            stream = AnswerStream(self._sessions.tokenizer, request, submission.emitted_text_len)
        if not self._sessions.fence(self, *caller_key):
            self.refuse(*caller_key, FinishReason.INVALID, LATER_ATTEMPT)
            return
        self._sessions.engine.submit(request)
        self._engine_ids[caller_key] = request.request_id
        key = (request.request_id, submission.attempt)
        self._answers[key] = _Answer(submission.request_id, stream)

    def refuse(self, request_id: str, attempt: int, finish: FinishReason, reason: str) -> None:
        """A request that never reaches the engine ends at once."""
        error = pb.TokenDelta(
            request_id=request_id,
            attempt=attempt,
            finish_reason=finish_to_proto(finish),
            error=reason,
        )
        self._put(pb.StepOutput(deltas=[error], acknowledged_dispatch=self._acknowledged))

    def abort(self, request_id: str, attempt: int) -> None:
        """The engine confirms with an ABORT; an unknown request has crossed its own end."""
        engine_id = self._engine_ids.get((request_id, attempt))
        if engine_id is not None:
            self._sessions.engine.abort(engine_id, attempt)

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        """So much more of a verbatim answer may come; an unknown request has crossed its end."""
        engine_id = self._engine_ids.get((request_id, attempt))
        if engine_id is not None:
            self._sessions.engine.allow(engine_id, attempt, n_bytes)

    def render(self, request_id: str, asked: Verbatim, lora: str) -> None:
        """Its answer comes among the outputs."""
        self._sessions.engine.render(self.session_id, request_id, asked, lora)

    def inquire(self, attempts: Iterable[tuple[str, int]]) -> None:
        """Those that are not here any more end once more, behind all that is sent by now."""
        for request_id, attempt in attempts:
            engine_id = self._engine_ids.get((request_id, attempt))
            if engine_id is None:
                self.refuse(request_id, attempt, FinishReason.ABORT, NOT_HERE)
            else:
                self._sessions.engine.inquire(self.session_id, engine_id, attempt)

    def end_attempt(self, request_id: str, attempt: int) -> None:
        """A later attempt begins: nothing more of this one, and its router is told."""
        engine_id = self._engine_ids.pop((request_id, attempt), None)
        if engine_id is not None:
            del self._answers[engine_id, attempt]
            self._sessions.engine.abort(engine_id, attempt)
            # No ABORT: its router would try elsewhere what nobody waits for any more.
            self.refuse(request_id, attempt, FinishReason.INVALID, LATER_ATTEMPT)

    async def next_output(self) -> pb.StepOutput | None:
        """What to send next; None when the session is closed. Waits."""
        while not self._outbox:
            if self._is_closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._outbox.popleft()

    def take_outputs(self) -> list[pb.StepOutput]:
        """All that waits to be sent."""
        waiting = list(self._outbox)
        self._outbox.clear()
        return waiting

    def close(self) -> None:
        """Nothing more is sent; every request that still runs is aborted. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for request_id, attempt in self._engine_ids:
            self._sessions.fences.end(request_id, attempt, self)
        self._outbox.clear()
        self._sessions.forget(self)
        self._tell()

    def deliver(
        self,
        step: EngineStep,
        outputs: Iterable[TokenOutput],
        acknowledged: int,
        more: Iterable[MoreOutput] = (),
    ) -> None:
        """Queue what a step did for this session; nothing if it did nothing."""
        deltas = [delta for output in outputs if (delta := self._delta(output)) is not None]
        if not deltas and not more and acknowledged == self._acknowledged:
            return
        self._acknowledged = acknowledged
        first, *rest = self._more(more) if more else (None,)
        self._put(
            pb.StepOutput(
                step=step.step,
                deltas=deltas,
                step_ms=step.step_ms,
                prefill_tokens=step.prefill_tokens,
                decode_tokens=step.decode_tokens,
                acknowledged_dispatch=acknowledged,
                more=first,
            )
        )
        for part in rest:
            self._put(pb.StepOutput(step=step.step, acknowledged_dispatch=acknowledged, more=part))

    def deliver_rendered(self, request_id: str, tokens: Tokens | None) -> None:
        packed = b"" if tokens is None else pack_tokens(tokens)
        rendered = pb.Rendered(request_id=request_id, token_ids=packed)
        self._put(pb.StepOutput(rendered=[rendered], acknowledged_dispatch=self._acknowledged))

    def deliver_refusal(self, output: TokenOutput) -> None:
        """The engine would not take a request."""
        delta = self._delta(output)
        if delta is not None:
            self._put(pb.StepOutput(deltas=[delta], acknowledged_dispatch=self._acknowledged))

    def _delta(self, output: TokenOutput) -> pb.TokenDelta | None:
        key = (output.request_id, output.attempt)
        answer = self._answers.get(key)
        if answer is None:
            return None  # cut at a stop string before: this is the engine's word on the abort
        if answer.stream is None:
            piece = Piece((), "", output.finish, False)
        else:
            piece = answer.stream.take(output)
        if piece.finish is not None:
            del self._answers[key]
            del self._engine_ids[(answer.request_id, output.attempt)]
            self._sessions.fences.end(answer.request_id, output.attempt, self)
        if piece.cut and output.finish is None:
            self._sessions.engine.abort(*key)
        return token_delta(answer.request_id, output, piece)

    def _more(self, outputs: Iterable[MoreOutput]) -> list[pb.More]:
        """Under their callers' ids, in messages of a size; at least one. What was given up
        meanwhile is nobody's."""
        parts, n_bytes = list[pb.More](), 0
        names: list[str] = []
        taken: list[MoreOutput] = []
        for one in outputs:
            answer = self._answers.get((one.request_id, one.attempt))
            if answer is None:
                continue
            if n_bytes > MORE_BYTES:
                parts.append(_more(names, taken))
                names, taken, n_bytes = [], [], 0
            names.append(answer.request_id)
            taken.append(one)
            n_bytes += len(one.data)
        return [*parts, _more(names, taken)]

    def _put(self, message: pb.StepOutput) -> None:
        if not self._is_closed:
            self._outbox.append(message)
            self._tell()

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener()
        self._arrived.set()


def _more(names: list[str], outputs: list[MoreOutput]) -> pb.More:
    return pb.More(
        request_ids=names,
        attempts=[one.attempt for one in outputs],
        data=[one.data for one in outputs],
        n_tokens=[one.n_tokens for one in outputs],
    )


class WorkerSessions:
    """All open worker sessions of this worker."""

    def __init__(self, tokenizer: Tokenizer, engine: EngineCommands) -> None:
        self.tokenizer = tokenizer
        self.engine = engine
        self.fences = Fences[WorkerSession]()
        self._sessions: dict[str, WorkerSession] = {}
        self._direct: dict[str, str] = {}  # running requests of direct clients, by session id
        self._direct_ended: deque[str] = deque(maxlen=DIRECT_ENDED_KEPT)
        self._n_opened = 0
        self.is_open = True  # False: the engine has ended
        self.unread = 0  # sessions closed because their caller read nothing for too long

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def in_flight(self) -> int:
        return sum(session.in_flight for session in self._sessions.values())

    def open(self, router_id: str) -> WorkerSession:
        """A session of its own, even for a router that has one: that one may be dying."""
        self._n_opened += 1
        session = WorkerSession(f"s{self._n_opened}", router_id, self)
        self._sessions[session.session_id] = session
        return session

    def open_direct(self, request_id: str) -> WorkerSession:
        """Of one client that was routed here."""
        session = self.open("")
        self._direct[session.session_id] = request_id
        return session

    @property
    def direct(self) -> tuple[str, ...]:
        """Requests of direct clients that run, by their own ids."""
        return tuple(self._direct.values())

    @property
    def direct_ended(self) -> tuple[str, ...]:
        """The last of them that ended."""
        return tuple(self._direct_ended)

    def fence(self, session: WorkerSession, request_id: str, attempt: int) -> bool:
        """Before an attempt starts, lower ones of its request end. False: a higher one runs.

        Among sessions of routers only: a direct client's ids are its own word.
        """
        if session.session_id in self._direct:
            return True
        if self.fences.is_behind(request_id, attempt):
            return False
        older = self.fences.begin(request_id, attempt, session)
        if older is not None:
            older_attempt, owner = older
            owner.end_attempt(request_id, older_attempt)
        return True

    def forget(self, session: WorkerSession) -> None:
        """Called by `WorkerSession.close`."""
        request_id = self._direct.pop(session.session_id, None)
        if request_id is not None:
            self._direct_ended.append(request_id)
        if self._sessions.pop(session.session_id, None) is not None:
            self.engine.end_session(session.session_id)

    def close_all(self) -> None:
        """The engine is gone: every session ends, and no new one makes sense."""
        self.is_open = False
        for session in list(self._sessions.values()):
            session.close()

    def deliver(self, step: EngineStep) -> None:
        """Share a step's outputs out; those of closed sessions have nobody to go to."""
        outputs: dict[str, list[TokenOutput]] = {}
        for output in step.outputs:
            outputs.setdefault(output.session_id, []).append(output)
        more: dict[str, list[MoreOutput]] = {}
        for one in step.more:
            more.setdefault(one.session_id, []).append(one)
        for progress in step.sessions:
            session = self._sessions.get(progress.session_id)
            if session is not None:
                session_id, acknowledged = progress.session_id, progress.acknowledged_dispatch
                own = outputs.get(session_id, ())
                session.deliver(step, own, acknowledged, more.get(session_id, ()))

    def deliver_refusal(self, output: TokenOutput) -> None:
        session = self._sessions.get(output.session_id)
        if session is not None:
            session.deliver_refusal(output)

    def deliver_rendered(self, session_id: str, request_id: str, tokens: Tokens | None) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            session.deliver_rendered(request_id, tokens)

    def load(self, progress: Iterable[WorkerSessionProgress]) -> tuple[SessionLoad, ...]:
        """Load by router. A router's newest session says what was acknowledged."""
        load: dict[str, SessionLoad] = {}
        for entry in progress:
            session = self._sessions.get(entry.session_id)
            if session is None:
                continue
            older = load.get(session.router_id)  # another session of the same router
            load[session.router_id] = SessionLoad(
                router_id=session.router_id,
                acknowledged_dispatch=entry.acknowledged_dispatch,
                in_flight=entry.in_flight + (older.in_flight if older else 0),
                queued_tokens=entry.queued_tokens + (older.queued_tokens if older else 0),
                active_blocks=entry.active_blocks + (older.active_blocks if older else 0),
            )
        return tuple(load.values())
