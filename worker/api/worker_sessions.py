"""Worker sessions: who has one open, and who gets which output of a step.

Owns each from open to close. Ended sessions reach the engine through `EngineCommands`; no I/O, no
clock. Called by the gRPC server and by the engine's listener, on one event loop.
"""

from collections import defaultdict, deque
from collections.abc import Iterable

from radixroute.events.wire.records import SessionLoad
from radixroute.radix.ids import Tokens
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.api.answers.plain_texts import PlainTexts
from radixroute.worker.api.commands import EngineCommands
from radixroute.worker.api.fences import Fences
from radixroute.worker.api.worker_session import WorkerSession
from radixroute.worker.engine.engine import (
    EngineStep,
    MoreOutput,
    TokenOutput,
    WorkerSessionProgress,
)

# Ended requests of direct clients that heartbeats still name: a short one may run between two.
DIRECT_ENDED_KEPT = 256


class WorkerSessions:
    """All open worker sessions of this worker."""

    def __init__(self, tokenizer: Tokenizer, engine: EngineCommands) -> None:
        self.tokenizer = tokenizer
        self.plain_texts = PlainTexts(tokenizer)
        self.engine = engine
        self.fences = Fences[WorkerSession]()
        self._sessions: dict[str, WorkerSession] = {}
        self._direct: dict[str, str] = {}  # running requests of direct clients, by session id
        self._direct_ended: deque[str] = deque(maxlen=DIRECT_ENDED_KEPT)
        self._n_opened = 0
        self.is_open = True  # False: the engine has ended
        self.unread = 0  # sessions closed because their caller read nothing for too long
        self.told_over = 0  # requests taken that are the last of their client's session

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def in_flight(self) -> int:
        return sum(session.in_flight for session in self._sessions.values())

    def open(self, router_id: str, *, takes_columns: bool = False) -> WorkerSession:
        """A session of its own, even for a router that has one: that one may be dying.

        `takes_columns`: of `OpenSession`."""
        self._n_opened += 1
        name = f"s{self._n_opened}"
        session = WorkerSession(name, router_id, self, takes_columns=takes_columns)
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
        outputs: defaultdict[str, list[TokenOutput]] = defaultdict(list)
        for output in step.outputs:
            outputs[output.session_id].append(output)
        more: defaultdict[str, list[MoreOutput]] = defaultdict(list)
        for one in step.more:
            more[one.session_id].append(one)
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
