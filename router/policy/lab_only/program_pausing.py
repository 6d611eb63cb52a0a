"""Program pausing (ThunderAgent, arXiv 2602.13692): a program runs only where its context fits.

    used(worker) = sum of c over programs that reason + sum of c * 2^-t over those that act

c: tokens of a program's context; it acts while none of its requests is open, t seconds so far.
Every 5 s, while used > the worker's KV tokens, programs are paused, those that act first, then
those that reason, the shortest first. A paused program gives up its worker when its open requests
have ended. Its next request waits until it is restored: returning programs before new ones, the
shortest first, as many as fit all workers together; of these the longest goes first, to the worker
with most room. A new program starts at once where nobody waits and it fits.

What the paper leaves open, and what is chosen here. A program is a session: a request without one
is a program alone. c is the longest prompt of it so far with the output that was asked for, less
what was cached on its worker when it first came: a trunk that all share is not in memory once for
each. Restoring is tried whenever a request has ended, not only every 5 s. Programs are never said
to be over: those that act weigh next to nothing after some seconds, and are forgotten after half an
hour. What a sandbox for tools costs is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.policy import Bound, Dispatched, Plan, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Numbers, Scores, View
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import MemberState

CHECK_NS = 5_000_000_000  # the paper's interval
FORGOTTEN_NS = 1_800_000_000_000  # after so long without a request
WEIGHTLESS_NS = 100_000_000_000  # c * 2^-100: of no c anything is left beside a worker's tokens


@dataclass(slots=True, eq=False)
class _Program:
    """One program. Only `ProgramPausing` changes it."""

    tokens: int = 0  # of its longest context, the output asked for included
    shared: int = 0  # of these: not its own, cached already when it first came
    worker: WorkerId | None = None  # None: it is new, or paused
    is_new: bool = True
    is_marked: bool = False  # to be paused when nothing of it is open
    acting_since_ns: int = 0  # counts while nothing is open
    open: set[str] = field(default_factory=set)  # its requests that have not ended

    @property
    def own_tokens(self) -> int:
        return self.tokens - self.shared

    def weight(self, now_ns: int) -> float:
        """Tokens that it counts as."""
        if self.open:
            return float(self.own_tokens)
        return float(self.own_tokens * 2.0 ** (-(now_ns - self.acting_since_ns) / 1e9))


class _Home(NamedTuple):
    """What a view has beside the fleet's numbers."""

    place: int  # of the program's worker in the view; -1: it has none there
    used: Numbers  # share of each worker's KV tokens, at most 1; shape (workers,)


class _Placed(NamedTuple):
    """What `adopt` has to note."""

    program: _Program
    worker: WorkerId


class ProgramPausing:
    """Holds programs back until they fit; requests of those that run go at once."""

    binds_late = True

    def __init__(self, parts: PolicyParts) -> None:
        self._name = parts.name
        self._members = parts.members
        self._block_size = 1
        self._programs: dict[int | str, _Program] = {}
        self._weighing: dict[_Program, None] = {}  # those that weigh anything
        self._program_by_request: dict[str, _Program] = {}  # requests that have not ended
        self._just_acting: list[_Program] = []  # since some moment before the next one we hear of
        self._check_at_ns = 0
        self._may_restore = False  # something changed since nobody could be restored

    def elapse(self, now_ns: int) -> None:
        for program in self._just_acting:
            program.acting_since_ns = now_ns
        self._just_acting.clear()
        if now_ns >= self._check_at_ns:
            self._check_at_ns = now_ns + CHECK_NS
            self._may_restore = True
            self._pause(now_ns)
            self._forget(now_ns)

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        self._block_size = snapshot.block_size
        self.elapse(snapshot.now_ns)
        session = ask.spec.session
        program = self._programs.setdefault(
            ask.request_id if session is None else session, _Program()
        )
        others_wait = any(one.worker is None for one in self._program_by_request.values())
        self._weighing[program] = None
        program.open.add(ask.request_id)
        program.tokens = max(program.tokens, ask.prompt_tokens + ask.spec.sampling.max_tokens)
        self._program_by_request[ask.request_id] = program
        if program.worker is None and program.is_new and not others_wait:
            program.worker = self._fit(program, self._rooms(snapshot.now_ns))
        self._may_restore |= program.worker is None
        return program.worker is not None

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        """On its program's worker; where that cannot take it, where most room is."""
        return self._bound(ask, snapshot, self._program_by_request[ask.request_id].worker)

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        return None if self._may_restore else self._waits()

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        """One request at a time: whoever goes changes what the next one finds."""
        paused = list[tuple[bool, int, int]]()  # (is new, tokens, place among those that wait)
        for place, ask in enumerate(waiting):
            program = self._program_by_request[ask.request_id]
            if program.worker is not None:
                plan = self._bound(ask, snapshot, program.worker)
                if plan.bound:
                    return plan
            else:
                paused.append((program.is_new, program.own_tokens, place))
        rooms, left, chosen = self._rooms(snapshot.now_ns), 0.0, list[tuple[int, int]]()
        total = sum(room for room in rooms.values() if room > 0)
        for _, tokens, place in sorted(paused):
            if left + tokens <= total:
                left += tokens
                chosen.append((tokens, place))
        for _, place in sorted(chosen, reverse=True):
            ask = waiting[place]
            worker = self._fit(self._program_by_request[ask.request_id], rooms)
            if worker is not None:
                plan = self._bound(ask, snapshot, worker)
                if plan.bound:
                    return plan
        return self._waits()

    def scores(self, view: View) -> Scores:
        home: _Home = view.own
        away = np.zeros(len(view.worker_ids))
        if home.place >= 0:
            away += 2.0  # more than any worker's share
            away[home.place] = 0.0
        return Scores(("away", "used"), ("flag", "share"), np.stack((away, home.used)))

    def adopt(self, plan: Plan) -> None:
        placed: _Placed | None = plan.own
        if placed is None:
            self._may_restore = False
            return
        placed.program.worker = placed.worker

    def on_dispatch(self, dispatched: Dispatched) -> None:
        program = self._program_by_request.get(dispatched.spec.request_id)
        if program is not None and program.is_new:
            view, chosen = dispatched.decision.view, dispatched.decision.chosen
            program.shared = view.cached_tokens(int(view.overlap_blocks[chosen]))
            program.is_new = False

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        pass

    def on_settle(self, booking: BookingId) -> None:
        self._may_restore = True

    def on_end(self, request_id: str) -> None:
        program = self._program_by_request.pop(request_id, None)
        if program is None:
            return
        program.open.discard(request_id)
        self._may_restore = True
        if not program.open:
            self._just_acting.append(program)
            if program.is_marked:
                program.is_marked, program.worker = False, None

    def forget(self, worker_id: WorkerId) -> None:
        for program in self._programs.values():
            if program.worker == worker_id:
                program.worker, program.is_marked = None, False
        self._may_restore = True

    def check(self) -> None:
        opened = {name for program in self._programs.values() for name in program.open}
        if opened != set(self._program_by_request):
            raise BrokenInvariant("open requests and their programs differ")
        for program in self._programs.values():
            if program.is_marked and (program.worker is None or not program.open):
                raise BrokenInvariant("a program is marked to be paused and cannot be")

    def _waits(self) -> Plan:
        return Plan(is_weighed=True, wake_ns=self._check_at_ns)

    def _bound(self, ask: Ask, snapshot: Snapshot, worker: WorkerId | None) -> Plan:
        """On this worker if it can take it. Nothing bound: nobody can."""
        view = snapshot.view(ask)
        if view is None:
            return Plan()
        rooms = self._rooms(snapshot.now_ns)
        capacity = self._capacity()
        used = np.array(
            [1.0 - rooms[one] / capacity[one] if one in rooms else 1.0 for one in view.worker_ids]
        )
        place = view.worker_ids.index(worker) if worker in view.worker_ids else -1
        view = view.with_own(_Home(place, np.clip(used, 0.0, 1.0)))
        chosen = int(self.scores(view).totals.argmin())
        reason = "Its program is there." if chosen == place else "Its program fits there best."
        decision = Decision(ask.attempt + 1, self._name, view, chosen, reason)
        placed = _Placed(self._program_by_request[ask.request_id], view.worker_ids[chosen])
        return Plan((Bound(ask, decision),), asks_again=True, own=placed)

    def _capacity(self) -> dict[WorkerId, int]:
        """KV tokens of each worker that serves and says them."""
        return {
            member.spec.worker_id: member.kv_blocks_total * self._block_size
            for member in self._members
            if member.state is MemberState.LIVE and member.kv_blocks_total
        }

    def _rooms(self, now_ns: int) -> dict[WorkerId, float]:
        """Tokens that fit each worker beside its programs; below 0: too much is there."""
        rooms = {worker: float(tokens) for worker, tokens in self._capacity().items()}
        for program in self._weighing:
            if program.worker in rooms:
                rooms[program.worker] -= program.weight(now_ns)
        return rooms

    def _fit(self, program: _Program, rooms: dict[WorkerId, float]) -> WorkerId | None:
        """The worker with most room, if it is enough. Equal ones: the first by name."""
        if not rooms:
            return None
        worker = max(sorted(rooms), key=lambda one: rooms[one])
        return worker if program.own_tokens <= rooms[worker] else None

    def _pause(self, now_ns: int) -> None:
        for worker, room in self._rooms(now_ns).items():
            here = [one for one in self._programs.values() if one.worker == worker]
            room += sum(one.weight(now_ns) for one in here if one.is_marked)  # it goes already
            for program in sorted(here, key=lambda one: (bool(one.open), one.own_tokens)):
                if room >= 0:
                    break
                if program.is_marked:
                    continue
                room += program.weight(now_ns)
                if program.open:
                    program.is_marked = True
                else:
                    program.worker = None

    def _forget(self, now_ns: int) -> None:
        for program in list(self._weighing):
            if not program.open and now_ns - program.acting_since_ns > WEIGHTLESS_NS:
                del self._weighing[program]
        for key, program in list(self._programs.items()):
            if not program.open and now_ns - program.acting_since_ns > FORGOTTEN_NS:
                del self._programs[key]


POLICIES: dict[str, PolicyFactory] = {"program_pausing": ProgramPausing}
