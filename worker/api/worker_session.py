"""Worker session: one caller's requests, their answers as text, and what waits to be sent.

One `Session` stream of a router, or one request of a direct client. The ids that the engine sees
are made here (session and a counter), so that requests of different callers can never meet. No
I/O, no clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.request.wire import finish_to_proto, pack_tokens
from radixroute.worker.api.answers.plain_texts import PlainTexts
from radixroute.worker.api.answers.streams import AnswerStream, Piece
from radixroute.worker.api.answers.wire import Columns, is_row, more_messages, token_delta
from radixroute.worker.api.commands import EngineCommands
from radixroute.worker.api.fences import Fences
from radixroute.worker.api.intake import Submission
from radixroute.worker.engine.engine import (
    NOT_HERE,
    EngineRequest,
    EngineStep,
    MoreOutput,
    TokenOutput,
)

LATER_ATTEMPT = "request_id: a later attempt of this request runs here"


class AllSessions(Protocol):
    """What a session needs of the others and of the engine."""

    told_over: int  # requests taken that are the last of their client's session

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def plain_texts(self) -> PlainTexts: ...

    @property
    def engine(self) -> EngineCommands: ...

    @property
    def fences(self) -> "Fences[WorkerSession]": ...

    def fence(self, session: "WorkerSession", request_id: str, attempt: int) -> bool:
        """Before an attempt starts, lower ones of its request end. False: a higher one runs."""
        ...

    def forget(self, session: "WorkerSession") -> None:
        """It is closed."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    request_id: str  # the caller's
    dispatch_seq: int
    stream: AnswerStream | None  # None: its engine's own answer goes by


class WorkerSession:
    """One caller's stream: its requests, and the outputs that wait to be sent."""

    def __init__(
        self, session_id: str, router_id: str, sessions: AllSessions, *, takes_columns: bool
    ) -> None:
        self.session_id = session_id
        self.router_id = router_id
        self._sessions = sessions
        self._takes_columns = takes_columns
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
            last_of_session=submission.last_of_session,
        )
        stream = None
        if request.verbatim is None:
            stream = AnswerStream(self._sessions.tokenizer, request, submission.emitted_text_len)
        if not self._sessions.fence(self, *caller_key):
            self.refuse(*caller_key, FinishReason.INVALID, LATER_ATTEMPT)
            return
        self._sessions.engine.submit(request)
        self._sessions.told_over += request.last_of_session is not None
        self._engine_ids[caller_key] = request.request_id
        key = (request.request_id, submission.attempt)
        self._answers[key] = _Answer(submission.request_id, submission.dispatch_seq, stream)

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
        columns, deltas = Columns(), list[pb.TokenDelta]()
        apart: set[tuple[str, int]] = set()  # who has a delta in this message
        for output in outputs:
            key = (output.request_id, output.attempt)
            may_be_row = self._takes_columns and key not in apart
            if may_be_row and self._add_plain(columns, key, output):
                apart.add(key)
                continue
            taken = self._take(output)
            if taken is None:
                continue
            answer, piece = taken
            if may_be_row and is_row(output, piece):
                columns.add(answer.dispatch_seq, output.position, piece.token_ids, piece.text)
            else:
                deltas.append(token_delta(answer.request_id, output, piece))
            apart.add(key)
        rows = columns.message()
        if not (deltas or more) and rows is None and acknowledged == self._acknowledged:
            return
        self._acknowledged = acknowledged
        first, *rest = self._more(more) if more else (None,)
        self._put(
            pb.StepOutput(
                step=step.step,
                columns=rows,
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
        taken = self._take(output)
        if taken is not None:
            answer, piece = taken
            delta = token_delta(answer.request_id, output, piece)
            self._put(pb.StepOutput(deltas=[delta], acknowledged_dispatch=self._acknowledged))

    def _add_plain(self, columns: Columns, key: tuple[str, int], output: TokenOutput) -> bool:
        """As a row, if its text is that of its tokens and the stream need not see it."""
        answer = self._answers.get(key)
        if answer is None or answer.stream is None or not answer.stream.is_plain:
            return False
        if not output.token_ids or not output.is_plain:
            return False
        text = self._sessions.plain_texts.of(output.token_ids)
        if text is None:
            return False
        columns.add(answer.dispatch_seq, output.position, output.token_ids, text)
        return True

    def _take(self, output: TokenOutput) -> tuple[_Answer, Piece] | None:
        """Whose it is, and what it adds."""
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
        return answer, piece

    def _more(self, outputs: Iterable[MoreOutput]) -> list[pb.More]:
        """Under their callers' ids; what was given up meanwhile is nobody's."""
        answers = self._answers
        return more_messages(
            (answer.request_id, one)
            for one in outputs
            if (answer := answers.get((one.request_id, one.attempt))) is not None
        )

    def _put(self, message: pb.StepOutput) -> None:
        if not self._is_closed:
            self._outbox.append(message)
            self._tell()

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener()
        self._arrived.set()
