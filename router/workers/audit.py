"""Audit: what workers tell of their caches, compared with what their event streams say.

Owns the journals, the reports that wait to be judged, and each worker's record. A report that says
where in the stream its prompt was looked up is compared with exactly that moment: any difference is
a fault, of the worker's events or of what the router made of them. Others are compared with the
least that the worker held between dispatch and a settling time after the report, over a window.

A difference takes the worker's credit: it counts as a worker whose cache is not known, and a
snapshot is asked for. Credit comes back when reports agree again, after more of them each time. So
a lie costs who tells it: without credit a worker is chosen by load alone, as if it held nothing. It
cannot starve its neighbours, whose own streams go on counting, and its requests run on as before.
Where a cache is only believed nobody lies: a report that found less is no difference, but a belief
that misses most over a window counts for nothing until it agrees.

No clock, no I/O: `RouterCore` and the event link call; `take_turns` says what changed.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from radixroute.events.wire.records import Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Holder, Keys, WorkerId
from radixroute.router.counters import Count, Counters
from radixroute.router.workers.claims import NO_MARK, AuditRecord, Claim, Mark, Turn
from radixroute.router.workers.credit import Credit
from radixroute.router.workers.journal import (
    MAX_WORDS,
    AuditedIndex,
    Journal,
    held_at,
    least_since,
)
from radixroute.router.workers.members import Members

# Of all journals together; a fleet of many workers keeps less of each.
_ALL_WORDS: Final = 1 << 23
_MIN_WORDS: Final = 1 << 12
_MAX_PENDING: Final = 1024  # reports of one worker that wait for its events
_EVENTS_LATE_NS: Final = 10_000_000_000  # a report waits so long for the batches it names
_SETTLE_NS: Final = 1_000_000_000  # events of before a report have come by then
_WINDOW: Final = 32
_MIN_WINDOW: Final = 16
_NEVER: Final = 1 << 62


@dataclass(slots=True)
class _Worker:
    epoch: str = ""
    is_believed: bool = False
    credit: Credit = field(default_factory=Credit)
    judged: int = 0
    differing: int = 0
    unjudged: int = 0
    journals: dict[Holder, Journal] = field(default_factory=dict)
    pending: list[Claim] = field(default_factory=list)
    rests: bool = True  # nothing runs there that could report: its journals keep nothing
    names_moments: bool = False  # its last report said when it looked
    wakes_at: int = _NEVER  # batches after which one of them may be judged
    window: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW))


class Audit:
    """Of one router's workers. Implements `AppliedListener` of `events`."""

    def __init__(self, index: AuditedIndex, members: Members, counters: Counters) -> None:
        self._index = index
        self._members = members
        self._counters = counters
        self._workers: dict[WorkerId, _Worker] = {}
        self._n_journals = 0
        self._turns: list[Turn] = []

    # -- streams

    def rebuilding(self, holder: Holder) -> None:
        self._journal(holder).rebuild()

    def based(self, holder: Holder, next_seq: int) -> None:
        self._journal(holder).base(next_seq)
        self._settle(self._workers[holder.worker])

    def applied(self, holder: Holder, seq: int, events: Sequence[Event]) -> None:
        journal = self._journal(holder)
        worker = self._workers[holder.worker]
        share = max(_MIN_WORDS, min(MAX_WORDS, _ALL_WORDS // self._n_journals))
        max_words = 0 if worker.rests else share
        journal.add(seq, events, max_words, notes_removals=not worker.names_moments)
        if worker.pending and seq + 1 >= worker.wakes_at:
            self._settle(worker)

    def left(self, holder: Holder) -> None:
        """What waits for its events will not see them."""
        worker = self._workers.get(holder.worker)
        if worker is None or worker.journals.pop(holder, None) is None:
            return
        self._n_journals -= 1
        pending, worker.pending = worker.pending, []
        self._unjudged(worker, len(pending))

    # -- workers

    def begin(self, worker_id: WorkerId, epoch: str, *, is_believed: bool = False) -> None:
        """It was accepted. Another life begins with credit; the same one has what it had."""
        worker = self._worker(worker_id)
        worker.is_believed = is_believed
        if worker.epoch != epoch:
            worker.epoch = epoch
            worker.window.clear()
            worker.credit.renew()
        worker.credit.restart()  # its journals are new ones
        self._show(worker_id, worker)

    def forget(self, worker_id: WorkerId) -> None:
        """No longer listed."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            self._n_journals -= len(worker.journals)

    def of(self, worker_id: WorkerId) -> AuditRecord:
        worker = self._workers.get(worker_id)
        if worker is None:
            return AuditRecord()
        credit = worker.credit
        return AuditRecord(
            credit.is_given,
            worker.judged,
            worker.differing,
            worker.unjudged,
            credit.reason,
            worker.is_believed,
        )

    # -- requests

    def mark(self, worker_id: WorkerId, keys: Keys) -> Mark:
        """Where its streams stand: kept with a request of these keys that is sent there now."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return NO_MARK
        worker.rests = False
        seqs = tuple([journal.next_seq for journal in worker.journals.values()])
        if worker.names_moments or not len(keys):
            return Mark(seqs)
        overlaps = self._index.overlaps(keys)
        return Mark(seqs, tuple([overlaps.blocks_of(holder) for holder in worker.journals]))

    def reported(self, claim: Claim) -> None:
        """Judges it, now or when the events that it speaks of are here."""
        worker = self._worker(claim.worker_id)
        if not worker.journals:
            self._unjudged(worker)
            return
        worker.names_moments = _is_placed(worker, claim)
        if worker.names_moments and self._try(worker, claim):
            return
        if len(worker.pending) == _MAX_PENDING:
            del worker.pending[0]
            self._unjudged(worker)
            self._await(worker)
        worker.pending.append(claim)
        if claim.position is not None:
            worker.wakes_at = min(worker.wakes_at, _needed(claim))

    def tick(self, n_booked: Callable[[WorkerId], int], now_ns: int) -> None:
        """Some waited long enough: they are judged by what was held meanwhile. O(workers)."""
        for worker_id, worker in self._workers.items():
            if not worker.pending:
                if not worker.rests and not n_booked(worker_id):
                    worker.rests = True
                    for journal in worker.journals.values():
                        journal.trim()
                continue
            waiting, worker.pending = worker.pending, []
            for claim in waiting:
                if now_ns - claim.told_ns < _patience_ns(worker, claim):
                    worker.pending.append(claim)
                else:
                    self._judge_over_time(worker, claim)
            self._await(worker)

    @property
    def has_pending(self) -> bool:
        """Some reports wait to be judged. O(workers)."""
        return any(worker.pending for worker in self._workers.values())

    @property
    def has_turns(self) -> bool:
        return bool(self._turns)

    def take_turns(self) -> list[Turn]:
        """Since the last call. Who takes them asks for a snapshot where credit is gone."""
        turns, self._turns = self._turns, []
        return turns

    def check(self) -> None:
        if self._n_journals != sum(len(worker.journals) for worker in self._workers.values()):
            raise BrokenInvariant("journals are lost or shared")
        for worker_id, worker in self._workers.items():
            for journal in worker.journals.values():
                journal.check()
            member = self._members.get(worker_id)
            if member is not None and member.has_credit is not worker.credit.is_given:
                raise BrokenInvariant(f"{worker_id}: the audit and the members differ")

    # -- judging

    def _settle(self, worker: _Worker) -> None:
        """Judges those whose batches are all here. Each that waits is looked at once a batch."""
        if not worker.pending or len(worker.journals) != 1:
            return
        (journal,) = worker.journals.values()
        if not journal.is_based:
            return
        pending, ready, worker.pending = worker.pending, list[Claim](), []
        worker.wakes_at = _NEVER
        for claim in pending:
            if claim.position is None:
                worker.pending.append(claim)
            elif (needed := _needed(claim)) <= journal.next_seq:
                ready.append(claim)
            else:
                worker.pending.append(claim)
                worker.wakes_at = min(worker.wakes_at, needed)
        for claim in ready:
            self._try(worker, claim)

    def _try(self, worker: _Worker, claim: Claim) -> bool:
        """By the moment it names; False: the batches up to there are not here yet."""
        ((holder, journal),) = worker.journals.items()
        if not journal.is_based or _needed(claim) > journal.next_seq:
            return False
        seq, before = claim.position or (0, 0)
        held = None
        if journal.knows(seq):
            since = journal.since(seq, before)
            # One block more than it told is enough to see a difference; how large it is costs more.
            held = held_at(self._index, holder, claim.keys[: claim.told + 1], since)
            if held is not None and held > claim.told:
                held = held_at(self._index, holder, claim.keys, since)
        # An index that was full believes in too little, never in too much.
        has_forgotten = self._index.forgotten_by(holder) > 0
        if held is None or (claim.told > held and has_forgotten):
            self._unjudged(worker)
            return True
        self._judged(claim.worker_id, worker, held=held, told=claim.told)
        return True

    def _judge_over_time(self, worker: _Worker, claim: Claim) -> None:
        """By the least it held since it was sent there. Of several ranks it may have been any, but
        where it says which."""
        streams = _streams_of(worker, claim)
        if not streams or not all(one.journal.knows(one.seq) for one in streams):
            self._unjudged(worker)
            return
        least = min(
            least_since(self._index, one.holder, one.journal, claim.keys, one.seq, one.held)
            for one in streams
        )
        # One block is left for engines that compute the last one again.
        excess = max(0, least - 1 - claim.told)
        worker.judged += 1
        self._counters.add(Count.REPORTS_AUDITED)
        if not least:
            return
        worker.window.append((least, excess))
        n_held, n_excess = (sum(column) for column in zip(*worker.window, strict=True))
        if excess and not worker.is_believed:
            worker.differing += 1
            self._counters.add(Count.AUDIT_TOLD_LESS)
        is_off = len(worker.window) >= _MIN_WINDOW and 2 * n_excess > n_held
        if is_off or (excess and not worker.credit.is_given):
            worker.window.clear()
            self._distrust(claim.worker_id, worker, _REASON.format(n_excess, n_held))
        elif not excess:
            self._agree(claim.worker_id, worker)

    def _judged(self, worker_id: WorkerId, worker: _Worker, *, held: int, told: int) -> None:
        self._counters.add(Count.REPORTS_AUDITED)
        worker.judged += 1
        if told == held:
            if held:
                self._agree(worker_id, worker)
            return
        worker.differing += 1
        self._counters.add(Count.AUDIT_TOLD_LESS if told < held else Count.AUDIT_TOLD_MORE)
        reason = f"it found {told} blocks of a prompt where its events say {held}"
        self._distrust(worker_id, worker, reason)

    def _distrust(self, worker_id: WorkerId, worker: _Worker, reason: str) -> None:
        had_credit = worker.credit.is_given
        n_snapshots = sum(journal.n_bases for journal in worker.journals.values())
        if worker.credit.differs(reason, n_snapshots):
            if had_credit:
                self._counters.add(Count.CREDIT_LOST)
            self._turn(worker_id, worker)

    def _agree(self, worker_id: WorkerId, worker: _Worker) -> None:
        """Something was held, and that is what it told."""
        if worker.credit.agrees():
            self._counters.add(Count.CREDIT_RETURNED)
            self._turn(worker_id, worker)

    def _turn(self, worker_id: WorkerId, worker: _Worker) -> None:
        credit = worker.credit
        self._turns.append(Turn(worker_id, has_credit=credit.is_given, reason=credit.reason))
        self._show(worker_id, worker)

    def _unjudged(self, worker: _Worker, n: int = 1) -> None:
        worker.unjudged += n
        self._counters.add(Count.REPORTS_UNAUDITED, n)

    def _show(self, worker_id: WorkerId, worker: _Worker) -> None:
        member = self._members.get(worker_id)
        if member is not None:
            self._members.credit(member, has_credit=worker.credit.is_given)

    def _await(self, worker: _Worker) -> None:
        needed = [_needed(claim) for claim in worker.pending if claim.position is not None]
        worker.wakes_at = min(needed, default=_NEVER)

    def _worker(self, worker_id: WorkerId) -> _Worker:
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._workers[worker_id] = _Worker()
        return worker

    def _journal(self, holder: Holder) -> Journal:
        worker = self._worker(holder.worker)
        journal = worker.journals.get(holder)
        if journal is None:
            journal = worker.journals[holder] = Journal()
            self._n_journals += 1
        return journal


_REASON = "of the last blocks held all the time it missed {} of {}"


def _is_placed(worker: _Worker, claim: Claim) -> bool:
    """Whether it names a moment. With several ranks nobody knows in whose stream."""
    return claim.position is not None and len(worker.journals) == 1


class _Stream(NamedTuple):
    """One that a claim may speak of, and where it stood when the prompt was sent there."""

    holder: Holder
    journal: Journal
    seq: int
    held: int | None


def _streams_of(worker: _Worker, claim: Claim) -> list[_Stream]:
    """None: there were others then."""
    seqs = claim.mark.seqs
    if len(seqs) != len(worker.journals):
        return []
    held = claim.mark.held or (None,) * len(seqs)
    return [
        _Stream(holder, journal, seq, then)
        for seq, then, (holder, journal) in zip(seqs, held, worker.journals.items(), strict=True)
        if claim.rank in (None, holder.rank) or len(seqs) == 1
    ]


def _needed(claim: Claim) -> int:
    """Batches before which it cannot be judged."""
    seq, before = claim.position or (0, 0)
    return seq + (before > 0)


def _patience_ns(worker: _Worker, claim: Claim) -> int:
    return _EVENTS_LATE_NS if _is_placed(worker, claim) else _SETTLE_NS
