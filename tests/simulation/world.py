"""A world of one seed: clients, workers, wires and a router, in virtual time.

Owns the agenda and everybody in it. `run` does the plan's deeds, then lets the weather clear and
everybody work until nothing is left. Raises `Broken` at the first broken invariant.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.records import Epoch, Event
from radixroute.request.verbatim.records import More
from radixroute.router.messages.actions import Abort, Action, Dispatch, Drop, Emit, Fail, Grant
from radixroute.router.messages.inputs import MemberSpec
from tests.simulation import adapter, deeds
from tests.simulation.adapter import Router
from tests.simulation.agenda import MS, Agenda, S
from tests.simulation.clients import Clients
from tests.simulation.edge import Edge, Wires
from tests.simulation.fleet.cache import names_of
from tests.simulation.fleet.liar import Liar
from tests.simulation.fleet.life import Life, Mouth
from tests.simulation.fleet.links import EventWire
from tests.simulation.invariants import Watchers
from tests.simulation.ledger import Ledger
from tests.simulation.plan import Plan, WorkerPlan
from tests.simulation.prompts import prompt_of

_LAST_MS = 40_000  # after which nobody may still be waiting for anything


@dataclass
class Worker:
    """One worker's address: lives come and go."""

    plan: WorkerPlan
    liar: Liar
    wires: Wires
    incarnation: int = 1
    lives: int = 0
    life: Life | None = None
    is_listed: bool = True
    is_absent: bool = False  # and the controller says that it starts it again
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to."""

    trace: str  # of every action, in order
    n_events: int
    tally: Counter[str]
    counters: dict[str, int]
    known: Counter[str]  # claims broken by faults that are known


class World:
    """Builds, runs and ends one seed's world."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.agenda = Agenda()
        self.ledger = Ledger(
            unseen_ns=round(adapter.LEASE_UNSEEN_S * S), ttl_ns=round(adapter.LEASE_TTL_S * S)
        )
        self.router = Router(plan)
        self._rng = random.Random(f"world {plan.seed}")
        self._trace = hashlib.blake2b(digest_size=12)
        # Of all prompts, those to come too: what may be lied about, and asked of the index.
        submits = [deed for deed in plan.deeds if isinstance(deed, deeds.Submit)]
        scopes = [adapter.scope_of(plan, deed) for deed in submits]
        pairs = zip(submits, scopes, strict=True)
        self.known_keys = [prompt_of(deed.pieces, scope)[1] for deed, scope in pairs]
        self._names = list(map(names_of, self.known_keys, scopes))
        self.clients = Clients(self)
        self.told: dict[Epoch, list[tuple[Event, ...]]] = {}  # what each batch of each life said
        self.workers = {worker.name: self._worker(worker) for worker in plan.workers}
        wires = {name: worker.wires for name, worker in self.workers.items()}
        self.edge = edge = Edge(self.agenda, self.router, self.ledger, wires, plan.seed)
        self.watchers = Watchers(self)
        edge.on_action, edge.on_input = self._note, self.watchers.after
        edge.on_emit, edge.on_grant = self.clients.take, self.clients.use
        edge.life_of = lambda worker: self.workers[worker].life
        edge.fits = lambda worker: self.workers[worker].fits
        for worker in self.workers.values():
            self._begin(worker)
        self.agenda.put(0, edge, self._list)
        for deed in plan.deeds:
            process = edge if isinstance(deed, (deeds.Submit, deeds.TakeLease)) else None
            self.agenda.put(deed.at_ms * MS, process, _DOERS[type(deed)], self, deed)

    def run(self) -> Outcome:
        agenda, calm_ns = self.agenda, self.plan.calm_ms * MS
        while agenda.step() and (agenda.now_ns <= calm_ns or not self._is_quiet()):
            pass
        self.watchers.end()
        return Outcome(
            trace=self._trace.hexdigest(),
            n_events=agenda.n_done,
            tally=self.ledger.tally,
            counters=dict(self.router.snapshot().counters),
            known=self.watchers.known,
        )

    # -- the world's own doings

    def _worker(self, plan: WorkerPlan) -> Worker:
        agenda, seed = self.agenda, self.plan.seed
        wires = Wires(
            *(
                EventWire(agenda, random.Random(f"{kind} {plan.name} {seed}"))
                for kind in ("events", "replies", "asks")
            )
        )
        rng = random.Random(f"liar {plan.name} {seed}")
        held = partial(self._held_by_others, plan.name)
        return Worker(plan, Liar(agenda, rng, self.known_keys, held), wires)

    def _held_by_others(self, name: str, number: int) -> list[int]:
        """First blocks of a known prompt that each worker but one holds."""
        lives = [worker.life for worker in self.workers.values() if worker.plan.name != name]
        return [life.engine.blocks.leading(self._names[number]) for life in lives if life]

    def _begin(self, worker: Worker) -> None:
        worker.lives += 1
        edge = self.edge
        mouth = Mouth(
            router=edge,
            events=worker.wires.events,
            replies=worker.wires.replies,
            hears_event=edge.hear_event,
            hears_reply=edge.hear_reply,
            hears_report=edge.hear_report,
            dies=self._die,
            ends_direct=self.clients.ends_direct,
        )
        epoch = make_epoch(worker.incarnation, self._rng.randbytes(8))
        worker.life = Life(self.agenda, worker.plan, epoch, mouth, worker.liar)
        worker.life.kills = self.clients.kills
        self.told[epoch] = worker.life.told

    def _die(self, name: str) -> None:
        """Its process ends by what it was asked; the controller brings another one."""
        self._kill(deeds.Kill(0, name, "replaced", 20, 300))

    def _list(self) -> None:
        listed = [
            adapter.member(name, worker.incarnation)
            for name, worker in self.workers.items()
            if worker.is_listed
        ]
        self.members: list[MemberSpec] = listed
        self.router.name_absent([name for name, w in self.workers.items() if w.is_absent])
        self.edge.do(self.router.list_members(listed, self.edge.clock_ns))

    def _note(self, action: Action) -> None:
        self._trace.update(_told(action, self.agenda.now_ns).encode())
        self.watchers.acted(action)

    def _is_quiet(self) -> bool:
        """Nothing is left to happen but heartbeats."""
        return self.agenda.now_ns > _LAST_MS * MS or self.watchers.is_settled()

    # -- deeds

    def _kill(self, deed: deeds.Kill) -> None:
        worker = self.workers[deed.worker]
        if worker.life is None:
            return
        worker.life.end()
        worker.life = None
        self.edge.session_broke(deed.worker)
        now_ns = self.agenda.now_ns
        if deed.how in ("unlisted", "restarting"):
            at_ns = now_ns + deed.noticed_after_ms * MS
            self.agenda.put(at_ns, None, self._take_off, worker, deed.how == "restarting")
        self.agenda.put(now_ns + deed.back_after_ms * MS, None, self._return, worker, deed.how)

    def _return(self, worker: Worker, how: str) -> None:
        worker.incarnation += how != "by_hand"
        self._begin(worker)
        worker.is_listed, worker.is_absent = True, False
        self.agenda.put(self.agenda.now_ns, self.edge, self._list)

    def _take_off(self, worker: Worker, is_absent: bool) -> None:
        worker.is_absent = is_absent
        self._set_listed(worker, False)

    def _set_listed(self, worker: Worker, is_listed: bool) -> None:
        worker.is_listed = is_listed
        self.agenda.put(self.agenda.now_ns, self.edge, self._list)

    def _stall(self, deed: deeds.Stall) -> None:
        life = self.workers[deed.worker].life
        if life is not None:
            life.stall(self.agenda.now_ns + deed.ms * MS)

    def _freeze(self, deed: deeds.Freeze) -> None:
        life = self.workers[deed.worker].life
        if life is not None:
            life.stands_still_until_ns = self.agenda.now_ns + deed.ms * MS

    def _break(self, deed: deeds.BreakSession) -> None:
        life = self.workers[deed.worker].life
        if life is not None:
            life.close_session()
        self.edge.session_broke(deed.worker)

    def _cut(self, deed: deeds.CutEvents) -> None:
        wires = self.workers[deed.worker].wires
        for wire in (wires.events, wires.replies, wires.asks):
            wire.cut_until_ns = self.agenda.now_ns + deed.ms * MS

    def _blow(self, deed: deeds.Weather) -> None:
        wires, until_ns = self.workers[deed.worker].wires, self.agenda.now_ns + deed.ms * MS
        wires.events.blow(deed, until_ns)
        quieter = deeds.Weather(0, deed.worker, 0, lose=deed.lose, delay=deed.delay)
        wires.replies.blow(quieter, until_ns)
        wires.asks.blow(quieter, until_ns)

    def _clear(self, deed: deeds.ClearCache) -> None:
        life = self.workers[deed.worker].life
        if life is not None:
            self.agenda.put(self.agenda.now_ns, life, life.clear_cache)

    def _hoard(self, deed: deeds.Hoard) -> None:
        life, keys = self.workers[deed.worker].life, prompt_of(deed.pieces)[1][:1]
        if life is not None:
            now_ns, gone = self.agenda.now_ns, deed.copies - deed.kept
            self.agenda.put(now_ns, life, life.hoard, keys, deed.copies)
            self.agenda.put(now_ns + deed.ms * MS, life, life.shed, keys, gone)

    def serves(self, worker: str, need: str) -> bool:
        """Whether it has what a request needs of it."""
        return self.workers[worker].plan.serves(need)

    def _lie(self, deed: deeds.Lie) -> None:
        self.workers[deed.worker].liar.begin(deed.kind, self.agenda.now_ns + deed.ms * MS)

    def _unlist(self, deed: deeds.Unlist) -> None:
        worker = self.workers[deed.worker]
        self._set_listed(worker, False)
        back_ns = self.agenda.now_ns + deed.ms * MS
        self.agenda.put(back_ns, None, self._set_listed, worker, True)

    def _report_dead(self, deed: deeds.ReportDead) -> None:
        edge, router = self.edge, self.router
        self.agenda.put(
            self.agenda.now_ns,
            edge,
            lambda: edge.do(router.lost(deed.worker, "reported dead", edge.clock_ns)),
        )

    def _misfit(self, deed: deeds.Misfit) -> None:
        worker = self.workers[deed.worker]
        worker.fits = False
        self.agenda.put(self.agenda.now_ns + deed.ms * MS, None, setattr, worker, "fits", True)

    def _stop_router(self, deed: deeds.StopRouter) -> None:
        self.edge.stands_still_until_ns = self.agenda.now_ns + deed.ms * MS

    def _jump(self, deed: deeds.JumpClock) -> None:
        self.edge.offset_ns += deed.ms * MS


_DOERS: dict[type, Callable[..., None]] = {
    deeds.Submit: lambda world, deed: world.clients.submit(deed),
    deeds.TakeLease: lambda world, deed: world.clients.take_lease(deed),
    deeds.Kill: World._kill,
    deeds.Stall: World._stall,
    deeds.Freeze: World._freeze,
    deeds.BreakSession: World._break,
    deeds.CutEvents: World._cut,
    deeds.Weather: World._blow,
    deeds.ClearCache: World._clear,
    deeds.Hoard: World._hoard,
    deeds.Lie: World._lie,
    deeds.Unlist: World._unlist,
    deeds.ReportDead: World._report_dead,
    deeds.Misfit: World._misfit,
    deeds.StopRouter: World._stop_router,
    deeds.JumpClock: World._jump,
}


def _told(action: Action, now_ns: int) -> str:
    """Everything that must be the same again about an action."""
    match action:
        case Dispatch():
            what = f"dispatch {action.spec.request_id}/{action.attempt} {action.worker_id}"
        case Emit():
            what = f"emit {action.request_id} {action.position} {action.finish} {action.usage}"
        case More():
            what = f"more {action.request_id} {action.data.hex()}"
        case Abort() | Fail() | Drop() | Grant():
            what = repr(action)
        case _:
            what = type(action).__name__
    return f"{now_ns} {what}\n"


def run(plan: Plan) -> Outcome:
    """Raises `Broken`."""
    return World(plan).run()
