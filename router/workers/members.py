"""Members: which workers there are and where each stands in its life.

Owns every `Member`; only verbs here change one. The transition table below is the whole truth about
member life: an input that the table does not allow raises `BrokenInvariant`. `version` counts what
may change who can be chosen.
Never opens a connection and never looks at a clock: `RouterCore` calls with `now_ns`.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from radixroute.events.wire.control import Endpoints
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import SamplingParams
from radixroute.router.messages.inputs import (
    VERBATIM_NEED,
    AbsentWorker,
    MemberSpec,
    WorkerFacts,
)
from radixroute.router.workers.columns import WorkerColumns


class MemberState(Enum):
    """Where a member stands."""

    JOINING = "joining"  # being connected and checked
    LIVE = "live"
    SUSPECT = "suspect"  # silent for a while: keeps its requests, gets no new ones
    DRAINING = "draining"  # no longer listed: finishes its requests, gets no new ones
    DEAD = "dead"  # its requests went elsewhere; it is being reconnected
    REFUSED = "refused"  # does not match the fleet


_S = MemberState
# state -> states it may become. A member that is no longer listed and idle is forgotten.
TRANSITIONS: dict[MemberState, frozenset[MemberState]] = {
    _S.JOINING: frozenset({_S.LIVE, _S.REFUSED}),
    _S.LIVE: frozenset({_S.SUSPECT, _S.DRAINING, _S.DEAD}),
    _S.SUSPECT: frozenset({_S.LIVE, _S.DRAINING, _S.DEAD}),
    _S.DRAINING: frozenset({_S.LIVE, _S.DEAD}),
    # SUSPECT: it went silent and opens sessions again; a heartbeat must come first.
    _S.DEAD: frozenset({_S.JOINING, _S.LIVE, _S.SUSPECT, _S.REFUSED}),
    _S.REFUSED: frozenset({_S.JOINING, _S.LIVE}),
}
CONNECTED = frozenset({_S.LIVE, _S.SUSPECT, _S.DRAINING})
# Workers that are listed no more and remembered; the one that left first is forgotten first.
MOST_FORMER: Final = 4096


class Adapters(NamedTuple):
    """Which adapters the fleet serves, now or before long."""

    served: frozenset[str]  # by a worker that lives or comes back: there, or in its last life
    may_be_any: bool  # a worker is on its way that has never said what it serves
    needs: frozenset[str] = frozenset()  # that these meet

    def may_serve(self, need: str) -> bool:
        """Empty: what all serve."""
        return self.may_be_any or not need or need in self.needs


@dataclass(slots=True)
class Member:
    """One listed worker. Only `Members` may change it."""

    spec: MemberSpec
    column: int  # where its numbers stand in every column
    state: MemberState = MemberState.JOINING
    epoch: str = ""  # of the life that was accepted last, hexadecimal
    last_heard_ns: int = 0
    is_fresh: bool = False  # its event stream is applied up to date
    has_credit: bool = True  # and what it reports agrees with that stream
    next_dispatch: int = 1
    kv_blocks_total: int = 0
    kv_blocks_used: int = 0
    max_batched_tokens: int = 0
    max_num_seqs: int = 0  # requests it runs at once; 0: not known
    max_waiting: int = 0  # requests its own queue takes beside them
    is_full: bool = False  # it sent a request back; until it is heard of again
    ejected_until_ns: int = 0  # its breaker is open; 0: closed
    ranks: int = 1  # event streams
    process: str = ""  # that its server runs in; empty: it does not say
    compat: Endpoints | None = None  # where it also sends events in vLLM's form; for display only
    metrics_address: str = ""  # of its page, for display only; empty: none
    adapters: frozenset[str] | None = None  # that it serves, or did in its last life; None: unsaid
    resent_is_prompt: bool = False  # to it, output of others counts as prompt
    cannot_resume: bool = False  # it takes no output of others, nor they of it
    needs: frozenset[str] = frozenset()  # that it meets, or did in its last life
    step_age_ms: float = 0.0
    fell_silent: bool = False  # its last session ended for want of heartbeats or steps
    deaths: int = 0
    reason: str = ""

    @property
    def room(self) -> int:
        """Requests it takes, those in its own queue too; 0: not known."""
        return self.max_num_seqs + self.max_waiting if self.max_waiting else 0

    def serves(self, need: str) -> bool:
        """Empty: what all serve."""
        return not need or need in self.needs

    def takes(self, need: str) -> bool:
        """Now."""
        return self.state is MemberState.LIVE and self.serves(need)

    def goes_on_with(self, sampling: SamplingParams) -> bool:
        """Output that another made, under these parameters."""
        return not (self.cannot_resume or (self.resent_is_prompt and sampling.reads_output))

    @property
    def is_believed(self) -> bool:
        """Its cache is what the index says."""
        return self.is_fresh and self.has_credit

    @property
    def may_serve(self) -> bool:
        """Now, or before long by itself: it lives, or whoever listed it is starting it again."""
        return self.state not in {MemberState.REFUSED, MemberState.DRAINING}

    @property
    def is_connected(self) -> bool:
        return self.state in CONNECTED


class _Former(NamedTuple):
    """What is kept of a worker that is not listed now."""

    deaths: int
    adapters: frozenset[str] | None
    needs: frozenset[str] = frozenset()


class Members:
    """The listed workers, by id."""

    def __init__(self, columns: WorkerColumns) -> None:
        self._columns = columns
        self._by_id: dict[WorkerId, Member] = {}
        self._former: OrderedDict[WorkerId, _Former] = OrderedDict()
        self.absent: tuple[AbsentWorker, ...] = ()  # those that the controller is bringing up
        self.kv_blocks_total = 0  # of all members
        self.version = 0
        self._adapters: Adapters | None = None  # None: to be found out
        self.had_adapters = False  # some member served one, ever
        self.had_limited = False  # some member could not go on with anything, ever

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def adapters(self) -> Adapters:
        """What one of them serves, or of those that are being brought up. O(1) unless it changed,
        then O(workers)."""
        if self._adapters is None:
            said = [one.adapters for one in self if one.may_serve]
            said += [self.adapters_of(one.worker_id) for one in self.absent_unlisted()]
            served = frozenset[str]().union(*(names for names in said if names is not None))
            met = [one.needs for one in self if one.may_serve]
            met += [self._needs_of(one.worker_id) for one in self.absent_unlisted()]
            needs = frozenset[str]().union(*met)
            self._adapters = Adapters(served, may_be_any=None in said, needs=needs)
        return self._adapters

    @property
    def mean_kv_blocks(self) -> float:
        """Of a member."""
        return self.kv_blocks_total / max(1, len(self._by_id))

    def adapters_of(self, worker_id: WorkerId) -> frozenset[str] | None:
        """Listed or not: what it serves, or served when it was heard of last. None: not known."""
        member = self._by_id.get(worker_id)
        if member is not None:
            return member.adapters
        former = self._former.get(worker_id)
        return None if former is None else former.adapters

    def _needs_of(self, worker_id: WorkerId) -> frozenset[str]:
        """Of one that is not listed."""
        former = self._former.get(worker_id)
        return frozenset() if former is None else former.needs

    def absent_unlisted(self) -> Iterator[AbsentWorker]:
        """Those that are being brought up, without any that is still listed."""
        return (one for one in self.absent if one.worker_id not in self._by_id)

    def has_successor(self, sampling: SamplingParams) -> bool:
        """For an answer that another began: now or before long. O(workers)."""
        if not self.had_limited or not self._by_id:
            return True
        return any(one.may_serve and one.goes_on_with(sampling) for one in self)

    def get(self, worker_id: WorkerId) -> Member | None:
        return self._by_id.get(worker_id)

    def add(self, spec: MemberSpec) -> Member:
        if spec.worker_id in self._by_id:
            raise BrokenInvariant(f"worker {spec.worker_id} is listed already")
        former = self._former.pop(spec.worker_id, _Former(0, None))
        column = self._columns.give(spec.worker_id)
        member = Member(
            spec, column, deaths=former.deaths, adapters=former.adapters, needs=former.needs
        )
        self._by_id[spec.worker_id] = member
        # Kept in id order so that every walk over the fleet, hence every choice, is reproducible.
        self._by_id = dict(sorted(self._by_id.items()))
        self._changed()
        return member

    def forget(self, worker_id: WorkerId) -> None:
        """Its column goes to the next one that is listed."""
        member = self._by_id.pop(worker_id)
        self._former[worker_id] = _Former(member.deaths, member.adapters, member.needs)
        if len(self._former) > MOST_FORMER:
            self._former.popitem(last=False)
        self.kv_blocks_total -= member.kv_blocks_total
        self._columns.take_back(worker_id)
        self._changed()

    def set_absent(self, absent: Sequence[AbsentWorker]) -> None:
        """Workers that are coming up; the list replaces the one before."""
        self.absent = tuple(absent)
        self._adapters = None

    def deaths_of(self, worker_id: WorkerId) -> int:
        """Times it was seen to die here or its controller says so, listed or not."""
        member = self._by_id.get(worker_id)
        former = self._former.get(worker_id, _Former(0, None))
        seen = former.deaths if member is None else member.deaths
        told = 0 if member is None else member.spec.deaths
        away = (one.deaths for one in self.absent if one.worker_id == worker_id)
        return max(seen, told, *away)

    def relist(self, member: Member, spec: MemberSpec) -> None:
        """Its next life, perhaps elsewhere, begins."""
        if member.state is not MemberState.JOINING:
            self.move(member, MemberState.JOINING)
        member.spec = spec

    def move(self, member: Member, state: MemberState, reason: str = "") -> None:
        if state not in TRANSITIONS[member.state]:
            raise BrokenInvariant(f"{member.spec.worker_id}: {member.state} cannot become {state}")
        member.state = state
        member.reason = reason
        if state is MemberState.DEAD:
            member.is_fresh = False
        self._changed()

    def accept(self, member: Member, facts: WorkerFacts) -> None:
        """What the worker said of itself when its session opened."""
        member.epoch = facts.epoch
        member.ranks = facts.ranks
        member.process = facts.process
        member.adapters = facts.adapters
        member.resent_is_prompt = facts.resent_is_prompt
        member.cannot_resume = facts.cannot_resume
        member.needs = _needs(facts)
        is_limited = facts.resent_is_prompt or facts.cannot_resume
        self.had_limited = self.had_limited or is_limited
        self.had_adapters = self.had_adapters or bool(facts.adapters)
        member.compat = facts.compat
        member.metrics_address = facts.metrics_address
        member.max_batched_tokens = facts.max_batched_tokens
        member.max_num_seqs = facts.max_num_seqs
        member.max_waiting = facts.max_waiting
        member.is_full = False
        self.set_kv_blocks(member, total=facts.kv_blocks_total, used=0)
        self._changed()

    def set_kv_blocks(self, member: Member, *, total: int, used: int) -> None:
        """As its last heartbeat says."""
        self.kv_blocks_total += total - member.kv_blocks_total
        member.kv_blocks_total = total
        member.kv_blocks_used = used

    def believe(self, member: Member, is_fresh: bool) -> None:
        """Whether its event stream is applied up to date; never of one that is not connected."""
        is_fresh = is_fresh and member.is_connected
        if member.is_fresh is not is_fresh:
            member.is_fresh = is_fresh
            self.version += 1

    def credit(self, member: Member, *, has_credit: bool) -> None:
        """Whether its reports agree with its event stream."""
        if member.has_credit is not has_credit:
            member.has_credit = has_credit
            self.version += 1

    def fill(self, member: Member, is_full: bool) -> None:
        """Whether it sends requests back."""
        if member.is_full is not is_full:
            member.is_full = is_full
            self.version += 1

    def eject(self, member: Member, until_ns: int) -> None:
        """No new requests until then; 0: it takes them again."""
        if member.ejected_until_ns != until_ns:
            member.ejected_until_ns = until_ns
            self.version += 1

    def check(self) -> None:
        self._columns.check()
        if self.kv_blocks_total != sum(member.kv_blocks_total for member in self):
            raise BrokenInvariant("the fleet's blocks are not the sum of its members'")
        for worker_id, member in self._by_id.items():
            if member.spec.worker_id != worker_id:
                raise BrokenInvariant(f"member {worker_id} is filed under another id")
            if member.is_fresh and not member.is_connected:
                raise BrokenInvariant(f"member {worker_id} is fresh but not connected")
            if self._columns.of(worker_id) != member.column:
                raise BrokenInvariant(f"member {worker_id} has another's column")
            if worker_id in self._former:
                raise BrokenInvariant(f"member {worker_id} is listed and is not")

    def _changed(self) -> None:
        self.version += 1
        self._adapters = None


def _needs(facts: WorkerFacts) -> frozenset[str]:
    """That not every worker meets."""
    if not facts.takes_verbatim:
        return facts.adapters
    verbatim = (VERBATIM_NEED + name for name in ("", *facts.adapters))
    return facts.adapters.union(verbatim)
