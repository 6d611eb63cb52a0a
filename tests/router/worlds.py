"""A simulated world around RouterCore: workers that compute tokens, clients that check them.

No I/O and no real time. Whatever the world does (deaths, silence, aborts, late and repeated
messages), every client's stream must come out whole and end once.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from radixroute.events.wire.records import LoadReport, SessionLoad
from radixroute.radix.ids import BlockKey, Holder, Keys, WorkerId
from radixroute.radix.index.contract import Overlaps
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import More
from radixroute.router.core.logs.tape import Tape
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.actions import (
    Abort,
    Action,
    Disconnect,
    Dispatch,
    Drop,
    Emit,
    Fail,
    Failure,
    Grant,
    Inquire,
)
from radixroute.router.messages.inputs import (
    Delta,
    MemberSpec,
    PackedTokens,
    PromptFacts,
    RequestSpec,
    StepReport,
    WorkerFacts,
)
from radixroute.router.settings import RouterSettings

MS = 1_000_000
S = 1000 * MS


def spec(worker_id: str, incarnation: int = 1) -> MemberSpec:
    return MemberSpec(WorkerId(worker_id), f"{worker_id}:1", incarnation)


def facts(
    worker_id: str, epoch: str = "e1", seats: int = 0, queue: int = 0, adapters: Iterable[str] = ()
) -> WorkerFacts:
    return WorkerFacts(
        worker_id=WorkerId(worker_id),
        epoch=epoch,
        block_size=16,
        eos_token_ids=frozenset({2}),
        kv_blocks_total=1000,
        max_batched_tokens=512,
        max_num_seqs=seats,
        max_waiting=queue,
        adapters=frozenset(adapters),
    )


def packed(*token_ids: int) -> PackedTokens:
    return PackedTokens(np.array(token_ids, np.uint32).tobytes())


def token(request_id: str, position: int) -> int:
    """Of the request and the position only: a move must not change it."""
    return 10 + (sum(request_id.encode()) * 31 + position * 7) % 200


def request(
    request_id: str, prefix: int = 0, *, n: int = 5, blocks: int = 8, now_ns: int = 0, **more
) -> RequestSpec:
    """`blocks` full blocks and a bit; requests of one prefix share half of them, or `shared`."""
    shared = more.get("shared", blocks // 2)
    keys = [(prefix << 20) + i + 1 for i in range(shared)]
    keys += [(1 << 40) + hash_of(request_id) + i for i in range(blocks - shared)]
    return RequestSpec(
        request_id=request_id,
        prompt=np.zeros(blocks * 16 + 3, np.uint32),
        keys=np.array(keys, np.uint64),
        sampling=SamplingParams(max_tokens=n),
        policy=more.get("policy", "radix_at_once"),
        arrival_ns=now_ns,
        deadline_ns=more.get("deadline_ns", now_ns + 600 * S),
        session=more.get("session"),
        tenant=more.get("tenant", ""),
        priority=more.get("priority", 5),
        scope=RequestScope(lora=more["lora"]) if "lora" in more else UNSCOPED,
    )


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[:4].ljust(4, b"\0")) << 8


class FakeIndex:
    """Exact overlaps by brute force over sets of keys; its holders are all that ever held."""

    def __init__(self) -> None:
        self.held: dict[WorkerId, set[int]] = defaultdict(set)
        self._holders: tuple[Holder, ...] = ()

    def overlaps(self, keys: Keys) -> Overlaps:
        holders = tuple(Holder(worker) for worker in self.held)
        if holders != self._holders:  # the same tuple as long as it is equal, as the real one's
            self._holders = holders
        blocks = [_leading(self.held[holder.worker], keys.tolist()) for holder in self._holders]
        rows = {holder: row for row, holder in enumerate(self._holders)}
        return Overlaps(self._holders, np.array(blocks, np.int32), rows)

    def copies(self, holder: Holder, key: BlockKey) -> int:
        return key in self.held[holder.worker]

    def forgotten_by(self, holder: Holder) -> int:
        return 0


def _leading(held: set[int], keys: list[int]) -> int:
    return next((n for n, key in enumerate(keys) if key not in held), len(keys))


@dataclass
class Client:
    """One request's client; checks what it gets."""

    spec: RequestSpec
    got: int = 0
    end: FinishReason | Failure | str | None = None

    def take(self, emit: Emit) -> None:
        assert self.end is None, "output after the end"
        assert emit.position == self.got, "positions are not contiguous"
        ids = np.frombuffer(emit.token_ids, np.uint32).tolist()
        rid = self.spec.request_id
        assert ids == [token(rid, p) for p in range(self.got, self.got + len(ids))]
        self.got += len(ids)
        if emit.finish is not None:
            self.close(emit.finish)
            assert self.spec.verbatim or self.got == self.spec.sampling.max_tokens
            assert emit.usage is not None

    def close(self, how: FinishReason | Failure | str) -> None:
        assert self.end is None, "a second end"
        self.end = how


@dataclass
class Running:
    spec: RequestSpec
    attempt: int
    position: int
    has_reported: bool = False


@dataclass
class Worker:
    running: dict[tuple[str, int], Running] = field(default_factory=dict)
    epoch: int = 1
    is_up: bool = True
    is_mute: bool = False
    step_age_ms: float = 0.0
    seen: int = 0
    direct: tuple[str, ...] = ()
    direct_ended: tuple[str, ...] = ()
    last: list[Delta] = field(default_factory=list)
    loses_ends: bool = False  # the outputs that end requests reach nobody
    late: list[list[Delta]] | None = None  # outputs on their way; None: they arrive at once


class World:
    """Performs the core's actions and makes its inputs."""

    def __init__(
        self,
        *worker_ids: str,
        seed: int = 0,
        seats: int = 0,
        queue: int = 0,
        adapters: Mapping[str, Iterable[str]] | None = None,
        verbatim: str = "",
        **settings,
    ) -> None:
        """`seats`, `queue`: requests that each worker runs, and that wait there; 0: not told.
        `verbatim`: ids of those that take such requests, one letter each."""
        self.adapters = adapters or {}
        self.verbatim = verbatim
        self.seats, self.queue, self.checks = seats, queue, True
        self.index = FakeIndex()
        self.settings = RouterSettings(router_id="me", **settings)
        self.tape = Tape()
        rng = random.Random(seed)
        self.core = RouterCore(self.settings, self.index, rng, tape=self.tape)
        self.now_ns = 0
        self.clients: dict[str, Client] = {}
        self.passed: dict[str, list[bytes]] = {}  # of verbatim answers, by request
        self.workers = {w: Worker() for w in worker_ids}
        self.log: list[str] = []
        self.leases_waiting: set[str] = set()  # requests
        self.do(self.core.set_members([spec(w) for w in worker_ids], 0))
        for w in worker_ids:
            self.join(w)

    def do(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            self.log.append(_told(action))
            self._perform(action)
        if self.checks:
            self.core.check()
            self._check_cap_of_bookings()
        return actions

    def join(self, w: str, *, is_fresh: bool = True) -> None:
        told = facts(
            w, f"e{self.workers[w].epoch}", self.seats, self.queue, self.adapters.get(w, ())
        )
        told = replace(told, takes_verbatim=w in self.verbatim)
        self.do(self.core.joined(told, self.now_ns))
        self.core.cache_believed(WorkerId(w), is_fresh)

    def submit(self, what: RequestSpec) -> Client:
        client = self.clients[what.request_id] = Client(what)
        self.do(self.core.submit(what, self.now_ns))
        return client

    def route(self, what: RequestSpec, lease_id: str) -> Grant | Failure | None:
        """A lease, or why there is none; None: it waits."""
        self.leases_waiting.add(what.request_id)
        actions = self.core.submit(msgspec.structs.replace(what, lease_id=lease_id), self.now_ns)
        self.do(actions)
        answers = [a for a in actions if isinstance(a, (Grant, Fail))]
        for answer in answers:
            if answer.request_id == what.request_id:
                return answer.failure if isinstance(answer, Fail) else answer
        return None

    def release(self, lease_id: str) -> bool:
        actions = self.core.release(lease_id, self.now_ns)
        self.do(actions or [])
        return actions is not None

    def abort(self, request_id: str) -> None:
        client = self.clients[request_id]
        if client.end is None:
            client.close("aborted")
        self.do(self.core.abort(request_id, self.now_ns))

    def step(self, w: str) -> None:
        """One engine step: a token for each request on it."""
        worker = self.workers[w]
        if not worker.is_up or not worker.running:
            return
        deltas = [self._advance(w, running) for running in list(worker.running.values())]
        if worker.loses_ends:
            deltas = [delta for delta in deltas if delta.finish is None]
        worker.last = deltas
        self._send(w, deltas)

    def arrive(self, w: str) -> None:
        """What was on its way from there, in order."""
        late, self.workers[w].late = self.workers[w].late or [], None
        for deltas in late:
            self.deliver(w, deltas)

    def _send(self, w: str, deltas: list[Delta]) -> None:
        late = self.workers[w].late
        if late is None:
            self.deliver(w, deltas)
        else:
            late.append(deltas)

    def deliver(self, w: str, deltas: list[Delta]) -> None:
        report = StepReport(5.0, 0, len(deltas), tuple(deltas))
        self.do(self.core.step(WorkerId(w), report, self.now_ns))

    def pass_on(self, w: str, *more: More) -> None:
        self.do(self.core.step(WorkerId(w), StepReport(0.0, 0, 0, (), more=more), self.now_ns))

    def beat(self, w: str) -> None:
        worker = self.workers[w]
        if worker.is_up and not worker.is_mute:
            mine = SessionLoad("me", worker.seen, len(worker.running), 0, 0)
            direct = worker.direct, worker.direct_ended
            load = LoadReport(worker.step_age_ms, 1000, 10, (mine,), *direct)
            self.do(self.core.heartbeat(WorkerId(w), load, self.now_ns))

    def kill(self, w: str) -> None:
        worker = self.workers[w]
        worker.is_up, worker.running = False, {}
        self.index.held[WorkerId(w)].clear()
        self.do(self.core.lost(WorkerId(w), "broken", self.now_ns))

    def revive(self, w: str) -> None:
        worker = self.workers[w]
        if not worker.is_up:
            worker.is_up, worker.is_mute = True, False
            worker.epoch += 1
            self.join(w)

    def pass_time(self, ns: int, tick_ns: int = 100 * MS) -> None:
        end = self.now_ns + ns
        while self.now_ns < end:
            self.now_ns = min(end, self.now_ns + tick_ns)
            for w in self.workers:
                self.beat(w)
            self.do(self.core.tick(self.now_ns))

    def settle(self) -> None:
        """Everybody comes back and works until nothing is left."""
        for w in self.workers:
            self.workers[w].is_mute = self.workers[w].loses_ends = False
            self.revive(w)
        for _ in range(200):
            self.pass_time(100 * MS)
            for w in self.workers:
                self.step(w)

    def on(self, w: str) -> list[str]:
        return [request_id for request_id, _ in self.workers[w].running]

    def _advance(self, w: str, running: Running) -> Delta:
        rid, position = running.spec.request_id, running.position
        report = None
        if not running.has_reported:
            running.has_reported = True
            held = self.index.overlaps(running.spec.keys).blocks_of(Holder(WorkerId(w)))
            report = PromptFacts(len(running.spec.prompt), held * 16, position)
            self.index.held[WorkerId(w)].update(running.spec.keys.tolist())
            self.core.stored(WorkerId(w), running.spec.keys)
        running.position += 1
        is_last = running.position == running.spec.sampling.max_tokens
        if is_last:
            del self.workers[w].running[rid, running.attempt]
        finish = FinishReason.LENGTH if is_last else None
        return Delta(
            rid, running.attempt, position, packed(token(rid, position)), "x", finish, report
        )

    def _perform(self, action: Action) -> None:
        match action:
            case Emit():
                self.clients[action.request_id].take(action)
            case More():
                assert self.clients[action.request_id].end is None
                self.passed.setdefault(action.request_id, []).append(action.data)
            case Grant() | Fail() if action.request_id in self.leases_waiting:
                self.leases_waiting.remove(action.request_id)
            case Fail():
                self.clients[action.request_id].close(action.failure)
            case Dispatch():
                worker = self.workers[action.worker_id]
                worker.seen = action.dispatch_seq
                if worker.is_up:
                    key = action.spec.request_id, action.attempt
                    emitted = len(action.emitted) // 4
                    assert action.emitted_text_len == emitted
                    worker.running[key] = Running(action.spec, action.attempt, emitted)
            case Abort():
                key = action.request_id, action.attempt
                self.workers[action.worker_id].running.pop(key, None)
            case Inquire():
                running = self.workers[action.worker_id].running
                self._send(
                    action.worker_id,
                    [gone(*name) for name in action.attempts if tuple(name) not in running],
                )
            case Drop() | Disconnect():
                worker = self.workers[action.worker_id]
                worker.running.clear()
                worker.late = None
                worker.is_up = False

    def _check_cap_of_bookings(self) -> None:
        open_now = [c for c in self.clients.values() if c.end is None]
        assert len(self.core._state.requests) == len(open_now) + len(self.leases_waiting)


def gone(request_id: str, attempt: int) -> Delta:
    """What a worker says of an attempt that it has not."""
    return Delta(request_id, attempt, 0, packed(), "", FinishReason.ABORT)


def _told(action: Action) -> str:
    """Everything that must be reproducible about an action, in one line."""
    match action:
        case Dispatch():
            return f"dispatch {action.spec.request_id}/{action.attempt} to {action.worker_id}"
        case Emit():
            return f"emit {action.request_id} {action.position} {action.finish} {action.usage}"
        case _:
            return repr(action)
