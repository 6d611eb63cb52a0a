"""Real engines, caches and event streams around a real router, in virtual time.

Only the model is fake, and the wires: events, their replies and the sessions have delays of their
own, so reports and the batches they speak of cross. Owns the agenda; one seed decides everything.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.wire.control import (
    Delivery,
    Endpoints,
    ResendRequest,
    decode_reply,
)
from radixroute.events.wire.epoch import epoch_to_hex, make_epoch
from radixroute.events.wire.native import decode_frames, encode_heartbeat
from radixroute.events.wire.records import Event, LoadReport, SessionLoad
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.sampling import SamplingParams
from radixroute.router.core.router_core import RouterCore
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
from radixroute.worker.engine.engine import EngineRequest, EngineStep, TokenOutput
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings
from tests.audit.workers import MS, SIZE, Lie, Life, Model, Shape, Wire, Worker
from tests.worker.fakes import make_engine

S = 1_000_000_000
ROUTER_ID = "r"
_ENDPOINTS = Endpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


class Fleet:
    """`run` makes requests until as many as wanted have ended."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.rng, self.shape = random.Random(seed), shape
        self.now_ns = 0
        self.index = PrefixIndex(1 << 22)
        settings = RouterSettings(router_id=ROUTER_ID, policy="radix")
        self.core = RouterCore(settings, self.index, random.Random(seed))
        self.events = EventLink(self.core, self.index, self)
        self.ended: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.lie_of: dict[str, Lie] = {}
        self._agenda: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._n = 0
        self._open: dict[str, str] = {}  # request -> worker
        self.talks: list[list[int]] = [self._words(8, 40) for _ in range(shape.talks)]
        self._wanted = 0
        self.workers = {
            name: self._worker(name) for name in map("w{}".format, range(shape.workers))
        }
        settings_of = WorkerSettings(
            max_num_seqs=shape.seats, max_num_batched_tokens=shape.batch_tokens
        )
        self.hash_seed = engine_scope(settings_of, make_engine(self._model())[0].info).seed
        self._list()
        self._at(100 * MS, self._tick)

    def run(self, n_requests: int) -> None:
        """Until so many more were asked and all have ended."""
        self._wanted = self._n + n_requests
        self._at(1, self._arrive)
        while self._n < self._wanted or self._open:
            self._step()
        for _ in range(12):  # what is on its way arrives
            until_ns = self.now_ns + S
            while self._agenda[0][0] < until_ns:
                self._step()
            if not any(w.pending for w in self.core.audit._workers.values()):
                break
        self.core.check()

    def audit(self, name: str) -> Any:
        return self.core.audit.of(WorkerId(name))

    def has_credit(self, name: str) -> bool:
        return bool(self.audit(name).has_credit)

    # -- EventTransport

    def add(self, holder: Holder, endpoints: Endpoints) -> None: ...
    def remove(self, holder: Holder) -> None: ...

    def request_resend(self, holder: Holder, from_seq: int, to_seq: int) -> None:
        self._ask(holder, lambda life: life.stream.resend(ResendRequest(from_seq, to_seq)))

    def request_snapshot(self, holder: Holder) -> None:
        self._ask(holder, lambda life: life.stream.snapshot())

    def _ask(self, holder: Holder, read: Callable[[Life], Iterable[tuple[bytes, ...]]]) -> None:
        worker = self.workers[holder.worker]
        life = worker.life

        def answer() -> None:
            if life is not None and not life.is_over:
                for frames in list(read(life)):
                    self._put(worker.replies, self._hear, worker, life, decode_reply, frames)

        self._at(MS, answer)

    # -- time

    def _at(self, after_ns: int, call: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._agenda, (self.now_ns + after_ns, next(self._order), call, args))

    def _put(self, wire: Wire, call: Callable[..., None], *args: Any) -> None:
        due_ns = wire.arrival(self.now_ns)
        heapq.heappush(self._agenda, (due_ns, next(self._order), call, args))

    def _step(self) -> None:
        self.now_ns, _, call, args = heapq.heappop(self._agenda)
        call(*args)

    def _tick(self) -> None:
        self.events.tick(self.now_ns)
        self._do(self.core.tick(self.now_ns))
        self._at(100 * MS, self._tick)

    # -- clients

    def _arrive(self) -> None:
        rng = self.rng
        burst = rng.choice((1, 1, 1, 2, 5))
        talk = rng.choice(self.talks)
        for _ in range(min(burst, self._wanted - self._n)):
            if rng.random() < 0.6:
                prompt = talk[: rng.randrange(1, len(talk) + 1)] if rng.random() < 0.2 else talk
                prompt = prompt + self._words(1, 6)
            else:
                prompt = self._words(1, 60)
            self._submit(prompt)
        talk += self._words(1, 9)
        if len(talk) > 120:
            talk[:] = self._words(8, 40)
        if self._n < self._wanted:
            self._at(round(rng.expovariate(1 / 30) * MS), self._arrive)
        kill_each = self.shape.kill_each
        if kill_each and self._n % kill_each < burst:
            self.kill(rng.choice(list(self.workers)))

    def _submit(self, prompt: list[int]) -> None:
        self._n += 1
        name, tokens = str(self._n), np.array(prompt, np.uint32)
        spec = RequestSpec(
            request_id=name,
            prompt=tokens,
            keys=block_keys(tokens, SIZE, self.hash_seed),
            sampling=SamplingParams(max_tokens=self.rng.randrange(1, 12), ignore_eos=True),
            policy="radix",
            arrival_ns=self.now_ns,
            deadline_ns=self.now_ns + 3600 * S,
        )
        self._open[name] = ""
        self._do(self.core.submit(spec, self.now_ns))
        if self.rng.random() < self.shape.aborts:
            self._at(round(self.rng.uniform(1, 200) * MS), self._hang_up, name)

    def _hang_up(self, name: str) -> None:
        if self._open.pop(name, None) is not None:
            self.ended["hung up"] += 1
            self._do(self.core.abort(name, self.now_ns))

    def _words(self, least: int, most: int) -> list[int]:
        return [self.rng.randrange(1, 97) for _ in range(self.rng.randrange(least, most))]

    # -- the router's actions

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Dispatch():
                    worker = self.workers[action.worker_id]
                    self._put(worker.session, self._take, worker.life, action)
                case Emit() | Fail():
                    self._end(action)
                case _:
                    self._link(action)
        wake_ns = self.core.wake_ns
        if wake_ns is not None:
            self._at(max(1, wake_ns - self.now_ns), self._wake)

    def _end(self, action: Emit | Fail) -> None:
        if isinstance(action, Fail):
            self._open.pop(action.request_id, None)
            self.failed[action.failure.name] += 1
        elif action.finish is not None and self._open.pop(action.request_id, None) is not None:
            self.ended[action.finish.name] += 1

    def _link(self, action: Action) -> None:
        match action:
            case Abort(worker_id, request_id, attempt):
                life = self.workers[worker_id].life
                if life is not None:
                    life.engine.abort(request_id, attempt)
            case Connect(spec):
                self._at(5 * MS, self._connect, spec)
            case Drop(worker_id) | Disconnect(worker_id):
                self.events.leave(worker_id)

    def _wake(self) -> None:
        wake_ns = self.core.wake_ns
        if wake_ns is not None and wake_ns <= self.now_ns:
            self._do(self.core.schedule_waiting(self.now_ns))

    def _list(self) -> None:
        specs = [MemberSpec(WorkerId(w.name), w.name, w.incarnation) for w in self.workers.values()]
        self._do(self.core.set_members(specs, self.now_ns))

    def _connect(self, spec: MemberSpec) -> None:
        worker = self.workers[spec.worker_id]
        if worker.incarnation != spec.incarnation:
            return
        life = worker.life = self._new_life(worker)
        self.events.join([Holder(spec.worker_id)], life.epoch, _ENDPOINTS, now_ns=self.now_ns)
        facts = WorkerFacts(
            worker_id=spec.worker_id,
            epoch=epoch_to_hex(life.epoch),
            block_size=SIZE,
            eos_token_ids=frozenset(),
            kv_blocks_total=self.shape.kv_blocks,
            max_batched_tokens=self.shape.batch_tokens,
            max_num_seqs=self.shape.seats,
            max_waiting=64,
        )
        self._do(self.core.joined(facts, self.now_ns))

    # -- workers

    def _worker(self, name: str) -> Worker:
        shape = self.shape
        events, session = Wire(self.rng, shape.event_ms), Wire(self.rng, shape.session_ms)
        return Worker(name, events=events, replies=Wire(self.rng, 9.0), session=session)

    def _model(self) -> Any:
        return Model(self.shape, self.rng)

    def _new_life(self, worker: Worker) -> Life:
        shape = self.shape
        engine, _ = make_engine(
            self._model(),
            max_num_seqs=shape.seats,
            max_num_batched_tokens=shape.batch_tokens,
            watermark=0.0,
        )
        epoch = make_epoch(worker.incarnation, self.rng.randbytes(8))
        sizes = {"ring_batches": 64, "ring_bytes": 1 << 20, "part_blocks": 32}
        life = Life(engine, OutboundStream(epoch, 0, mirror_bytes=1 << 20, **sizes), epoch)
        self._at(MS, self._beat, worker, life)
        return life

    def kill(self, name: str) -> None:
        """Its next life begins at once."""
        worker = self.workers[name]
        if worker.life is None:
            return
        worker.life.is_over = True
        worker.life = None
        worker.incarnation += 1
        self._do(self.core.lost(WorkerId(worker.name), "died", self.now_ns))
        self._list()

    def _take(self, life: Life | None, dispatch: Dispatch) -> None:
        if life is None or life.is_over:
            return
        life.acknowledged = max(life.acknowledged, dispatch.dispatch_seq)
        spec = dispatch.spec
        request = EngineRequest(
            request_id=spec.request_id,
            attempt=dispatch.attempt,
            session_id=ROUTER_ID,
            prompt=spec.prompt,
            sampling=spec.sampling,
            emitted=np.frombuffer(dispatch.emitted, np.uint32),
            dispatch_seq=dispatch.dispatch_seq,
        )
        life.engine.submit(request, self.now_ns)
        worker = self.workers[dispatch.worker_id]
        self._go_on(worker, life)

    def _go_on(self, worker: Worker, life: Life) -> None:
        if not life.steps and not life.is_over and life.engine.has_work:
            life.steps = True
            self._at(round(self.rng.uniform(2, 20) * MS), self._end_step, worker, life)

    def _end_step(self, worker: Worker, life: Life) -> None:
        if life.is_over:
            return
        life.steps = False
        step = life.engine.step(self.now_ns)
        if step is not None:
            worker.preempted += life.engine.scheduler_counters.preemptions - life.preempted
            life.preempted = life.engine.scheduler_counters.preemptions
            self._publish(worker, life, step.events)
            life.progress = step.sessions
            report = self._report(worker, step)
            self._put(worker.session, self._told, worker, life, report)
        self._go_on(worker, life)

    def _publish(self, worker: Worker, life: Life, events: tuple[Event, ...]) -> None:
        if not events:
            return
        lie = self.lie_of.get(worker.name)
        if lie is not None:
            events = lie(events)
        if self.rng.random() < self.shape.drop:
            life.stream.drop(events)
            return
        frames = life.stream.record(events, 0.0)
        is_false = lie is not None and life.stream.n_blocks != len(life.engine.resident_keys())
        if is_false and worker.false_since is None:
            worker.false_since = worker.told["reports"]
        if frames is not None and self.rng.random() >= self.shape.loss:
            self._put(worker.events, self._hear, worker, life, decode_frames, frames)

    def _beat(self, worker: Worker, life: Life) -> None:
        if life.is_over:
            return
        sessions = tuple(
            SessionLoad(
                ROUTER_ID, p.acknowledged_dispatch, p.in_flight, p.queued_tokens, p.active_blocks
            )
            for p in life.progress
        )
        load = LoadReport(0.0, self.shape.kv_blocks, 0, sessions)
        frames = tuple(encode_heartbeat(life.stream.heartbeat(load)))
        self._put(worker.events, self._hear, worker, life, decode_frames, frames)
        self._at(250 * MS, self._beat, worker, life)

    def _hear(self, worker: Worker, life: Life, decode: Any, frames: Any) -> None:
        if life.is_over:
            return
        delivery = Delivery(Holder(WorkerId(worker.name)), decode(frames))
        self._do(self.events.receive([delivery], self.now_ns))
        while self.events.is_busy:
            self._do(self.events.go_on(self.now_ns))

    def _report(self, worker: Worker, step: EngineStep) -> StepReport:
        deltas = tuple(self._delta(worker, output) for output in step.outputs)
        return StepReport(10.0, step.prefill_tokens, step.decode_tokens, deltas)

    def _delta(self, worker: Worker, output: TokenOutput) -> Delta:
        facts, report = None, output.prompt
        if report is not None:
            worker.told["reports"] += 1
            worker.told["hits"] += report.cached_tokens > 0
            worker.told["inside"] += report.events_before > 0
            facts = PromptFacts(
                report.prompt_tokens,
                report.cached_tokens,
                report.recomputed_tokens,
                report.event_seq if self.shape.tells_position else None,
                report.events_before,
            )
        tokens = PackedTokens(np.array(output.token_ids, np.uint32).tobytes())
        return Delta(
            output.request_id, output.attempt, output.position, tokens, "", output.finish, facts
        )

    def _told(self, worker: Worker, life: Life, report: StepReport) -> None:
        if not life.is_over:
            self._do(self.core.step(WorkerId(worker.name), report, self.now_ns))
