"""Load book: what this router has given each worker, and what the workers say they still have.

Owns every booking. `book` happens in the same step as selection, `settle` exactly once. A worker's
report covers the dispatches it acknowledges; later ones are added to it, so that nothing counts
twice and other routers' requests are seen. What changed is written to the columns that decisions
read when one reads them. No clock, no I/O; `RouterCore` calls.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from radixroute.events.wire.records import SessionLoad
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import ColumnList, Numbers, WorkerColumns

# Of what a step may compute: other routers' prompts that take as much go on in the next one.
FULL: Final = 0.9
# How much more they have then is learned of our own prompts: the last of those that are as long.
REST_MEMORY: Final = 16.0  # prompts
USUAL_REST: Final = 8192.0  # tokens, until then
MOST_STEP_NS: Final = 250_000_000  # few steps take longer


class BookingId(NamedTuple):
    """One attempt at a request, or one lease (attempt 0)."""

    request_id: str
    attempt: int


class _Booking(msgspec.Struct):
    worker_id: WorkerId
    is_lease: bool  # nobody reports its first token to us
    dispatch_seq: int
    queued_tokens: int  # uncached prompt tokens; 0 once the first token came
    has_first_token: bool = False
    is_acknowledged: bool = False
    is_settled: bool = False


class Load(NamedTuple):
    """A worker's load as this router believes it."""

    in_flight: int = 0  # requests, other routers' included
    queued_tokens: int = 0  # uncached prompt tokens before a new request
    decoding: int = 0  # requests that have their first token
    prompts: int = 0  # requests of ours without a first token
    since_ns: int = 0  # when the work on what is queued could begin, or was last heard to go on


@dataclass(slots=True)
class _Desk:
    """One worker's bookings."""

    column: int
    bookings: dict[BookingId, _Booking] = field(default_factory=dict)
    unacknowledged: deque[_Booking] = field(default_factory=deque)  # in dispatch order
    acknowledged_tokens: int = 0
    unacknowledged_tokens: int = 0
    decoding: int = 0
    prompts: int = 0
    since_ns: int = 0
    n_acknowledged: int = 0  # of the bookings; leases are not ours to be told of
    short_since_ns: int | None = None  # since when reports counted fewer of them
    reported_tokens: int | None = None  # ours, as last reported
    foreign_in_flight: int = 0
    foreign_tokens: int = 0
    is_shared: bool = False  # its last report named another router
    reported_ns: int = 0
    begun_ns: int = 0  # when the last step of others' prompts began, as its cache showed
    begun_tokens: int = 0  # that it computes of them
    begun_least: int = 0  # with what is likely to follow
    is_busy: bool = False


class LoadBook:
    """Bookings of all workers."""

    def __init__(self, router_id: str, columns: WorkerColumns) -> None:
        self._router_id = router_id
        self._columns = columns
        self._table = columns.table(*Load())
        self._desks: dict[WorkerId, _Desk] = {}
        self._worker_by_id: dict[BookingId, WorkerId] = {}
        self._unwritten: dict[int, _Desk] = {}  # by column: desks that changed since a decision
        self.busy: set[WorkerId] = set()  # with requests in flight, other routers' too; read only
        self._usual_rest = USUAL_REST
        self.n_turns = 0  # times one of them became busy, or idle

    def __len__(self) -> int:
        return len(self._worker_by_id)

    def book(
        self,
        key: BookingId,
        worker_id: WorkerId,
        *,
        dispatch_seq: int,
        queued_tokens: int,
        now_ns: int,
        a_step: int = 0,
    ) -> None:
        """`a_step`: tokens that this worker computes in one; 0: not known."""
        if 0 < a_step < queued_tokens:
            self._usual_rest += (queued_tokens - a_step - self._usual_rest) / REST_MEMORY
        if key in self._worker_by_id:
            raise BrokenInvariant(f"{key} is booked already")
        desk = self._desk(worker_id)
        if _queued_tokens(desk) == 0:
            desk.since_ns = now_ns
        booking = _Booking(worker_id, key.attempt == 0, dispatch_seq, queued_tokens)
        desk.bookings[key] = booking
        desk.prompts += not booking.is_lease
        desk.unacknowledged.append(booking)
        desk.unacknowledged_tokens += queued_tokens
        self._worker_by_id[key] = worker_id
        self._changed(worker_id, desk)

    def first_token(self, key: BookingId, now_ns: int) -> None:
        """Its prompt is computed: it decodes from now on."""
        desk = self._desks[self._worker_by_id[key]]
        booking = desk.bookings[key]
        if not booking.has_first_token:
            _take_tokens(desk, booking)
            booking.has_first_token = True
            desk.decoding += 1
            desk.prompts -= not booking.is_lease
            desk.since_ns = now_ns
            self._unwritten[desk.column] = desk

    def settle(self, key: BookingId) -> None:
        """The attempt is over, however it ended."""
        worker_id = self._worker_by_id.pop(key, None)
        if worker_id is None:
            raise BrokenInvariant(f"{key} is not booked: settled twice?")
        desk = self._desks[worker_id]
        booking = desk.bookings.pop(key)
        _take_tokens(desk, booking)
        booking.is_settled = True
        desk.decoding -= booking.has_first_token
        desk.n_acknowledged -= booking.is_acknowledged and not booking.is_lease
        desk.prompts -= not (booking.has_first_token or booking.is_lease)
        _acknowledge(desk, 0)  # drops what is settled from the head: the queue stays short
        self._changed(worker_id, desk)

    def report(self, worker_id: WorkerId, sessions: Iterable[SessionLoad], now_ns: int) -> None:
        """A heartbeat's word on every session of this worker."""
        desk = self._desk(worker_id)
        before = _queued_tokens(desk)
        # A report is made when a step ends: of one that runs it may know nothing yet.
        runs = desk.begun_tokens > 0 and now_ns - desk.begun_ns < MOST_STEP_NS
        desk.foreign_in_flight = desk.foreign_tokens = 0
        desk.reported_tokens, desk.reported_ns = None, now_ns
        desk.is_shared = False
        for session in sessions:
            if session.router_id == self._router_id:
                desk.reported_tokens = session.queued_tokens
                _acknowledge(desk, session.acknowledged_dispatch)
                if session.in_flight >= desk.n_acknowledged:
                    desk.short_since_ns = None
                elif desk.short_since_ns is None:
                    desk.short_since_ns = now_ns
            else:
                desk.is_shared = True
                desk.foreign_in_flight += session.in_flight
                desk.foreign_tokens += session.queued_tokens
        if runs:
            desk.foreign_tokens = max(desk.foreign_tokens, desk.begun_least)
        elif _queued_tokens(desk) != before:
            desk.since_ns = now_ns
        self._changed(worker_id, desk)

    def is_shared(self, worker_id: WorkerId) -> bool:
        """Whether other routers give it work, too, as far as its last report says."""
        desk = self._desks.get(worker_id)
        return desk is not None and desk.is_shared

    def others_began(self, worker_id: WorkerId, tokens: int, now_ns: int, *, a_step: int) -> int:
        """A step began that computes so many prompt tokens of other routers, as what its cache
        stores shows; reports come later. What is told of one time adds up, to what `a_step` takes
        at most: a cache that is told anew is no work. Returns how many counted."""
        desk = self._desk(worker_id)
        if now_ns < desk.begun_ns:  # heard late: it is over
            return min(tokens, a_step)
        is_news = now_ns >= desk.reported_ns
        if desk.begun_ns != now_ns:  # the step before it is over
            if is_news:
                desk.foreign_tokens = max(0, desk.foreign_tokens - desk.begun_tokens)
            desk.begun_ns, desk.begun_tokens = now_ns, 0
        counted = max(0, min(tokens, a_step - desk.begun_tokens))
        desk.begun_tokens += counted
        if counted and is_news:
            # Of a prompt that fills a step more will come. It may have been reported as waiting.
            is_full = desk.begun_tokens >= FULL * a_step
            rest = self._usual_rest if is_full else 0.0
            desk.begun_least = desk.begun_tokens + round(rest)
            desk.foreign_tokens = max(desk.foreign_tokens, desk.begun_least)
            desk.since_ns = max(desk.since_ns, now_ns)
        self._unwritten[desk.column] = desk
        return counted

    def unaccounted(self, worker_id: WorkerId, *, since_ns: int, now_ns: int) -> list[BookingId]:
        """Acknowledged bookings, if reports have counted fewer of them all the time since then:
        which is missing they do not say. Told once, until it has been so as long again."""
        desk = self._desks.get(worker_id)
        if desk is None or desk.short_since_ns is None or desk.short_since_ns > since_ns:
            return []
        desk.short_since_ns = now_ns
        return [key for key, one in desk.bookings.items() if one.is_acknowledged and key.attempt]

    def forget_worker(self, worker_id: WorkerId) -> None:
        """A new life of this worker begins: old reports say nothing about it."""
        desk = self._desks.get(worker_id)
        if desk is not None:
            if desk.bookings:
                raise BrokenInvariant(f"{worker_id} still has bookings")
            del self._desks[worker_id]
            self._unwritten.pop(desk.column, None)
            self._turn(worker_id, desk, is_busy=False)
            self._table.unset(desk.column)

    def take(self, columns: ColumnList) -> Numbers:
        """The loads of these workers, a row for each field of `Load`. O(workers)."""
        self._write()
        return self._table.take(columns)

    def now(self) -> Numbers:
        """The same of every column; to read at once: it changes, or is another one, any time."""
        self._write()
        return self._table.numbers

    def load(self, worker_id: WorkerId) -> Load:
        """Of one worker, from its bookings. An unknown one has none."""
        desk = self._desks.get(worker_id)
        return Load() if desk is None else _load(desk)

    def booked(self, worker_id: WorkerId) -> list[BookingId]:
        """This router's live bookings on a worker, oldest first."""
        desk = self._desks.get(worker_id)
        return list(desk.bookings) if desk is not None else []

    def n_booked(self, worker_id: WorkerId) -> int:
        desk = self._desks.get(worker_id)
        return len(desk.bookings) if desk is not None else 0

    def check(self) -> None:
        seen = {key: w for w, desk in self._desks.items() for key in desk.bookings}
        if seen != self._worker_by_id:
            raise BrokenInvariant("bookings and their directory differ")
        for worker_id, desk in self._desks.items():
            _check_desk(worker_id, desk)
        self._write()
        loads = {desk.column: _load(desk) for desk in self._desks.values()}
        for column in range(self._table.capacity):
            if self._table.of(column) != loads.get(column, Load()):
                raise BrokenInvariant(f"column {column}: the columns differ from the bookings")
        if self.busy != {w for w, desk in self._desks.items() if _load(desk).in_flight}:
            raise BrokenInvariant("who is busy is not who has requests in flight")

    def _changed(self, worker_id: WorkerId, desk: _Desk) -> None:
        self._unwritten[desk.column] = desk
        self._turn(worker_id, desk, is_busy=bool(desk.bookings) or desk.foreign_in_flight > 0)

    def _turn(self, worker_id: WorkerId, desk: _Desk, *, is_busy: bool) -> None:
        if desk.is_busy is is_busy:
            return
        desk.is_busy = is_busy
        self.n_turns += 1
        if is_busy:
            self.busy.add(worker_id)
        else:
            self.busy.remove(worker_id)

    def _write(self) -> None:
        """What changed since the last decision, into the columns."""
        for column, desk in self._unwritten.items():
            self._table.write(column, *_load(desk))
        self._unwritten.clear()

    def _desk(self, worker_id: WorkerId) -> _Desk:
        desk = self._desks.get(worker_id)
        if desk is None:
            desk = self._desks[worker_id] = _Desk(self._columns.of(worker_id))
        return desk


def _queued_tokens(desk: _Desk) -> int:
    own = desk.acknowledged_tokens
    if desk.reported_tokens is not None:
        # The report is the finer view (chunks done), the book the newer one (first tokens).
        own = min(own, desk.reported_tokens)
    return own + desk.unacknowledged_tokens + desk.foreign_tokens


def _load(desk: _Desk) -> Load:
    return Load(
        in_flight=len(desk.bookings) + desk.foreign_in_flight,
        queued_tokens=_queued_tokens(desk),
        decoding=desk.decoding + desk.foreign_in_flight,
        prompts=desk.prompts,
        since_ns=desk.since_ns,
    )


def _take_tokens(desk: _Desk, booking: _Booking) -> None:
    if booking.is_acknowledged:
        desk.acknowledged_tokens -= booking.queued_tokens
    else:
        desk.unacknowledged_tokens -= booking.queued_tokens
    booking.queued_tokens = 0


def _acknowledge(desk: _Desk, up_to: int) -> None:
    while desk.unacknowledged and (
        desk.unacknowledged[0].is_settled or desk.unacknowledged[0].dispatch_seq <= up_to
    ):
        booking = desk.unacknowledged.popleft()
        if not booking.is_settled:
            booking.is_acknowledged = True
            desk.n_acknowledged += not booking.is_lease
            desk.unacknowledged_tokens -= booking.queued_tokens
            desk.acknowledged_tokens += booking.queued_tokens


def _check_desk(worker_id: WorkerId, desk: _Desk) -> None:
    live = desk.bookings.values()
    acknowledged = sum(b.queued_tokens for b in live if b.is_acknowledged)
    unacknowledged = sum(b.queued_tokens for b in live if not b.is_acknowledged)
    decoding = sum(b.has_first_token for b in live)
    prompts = sum(not (b.has_first_token or b.is_lease) for b in live)
    n_acknowledged = sum(b.is_acknowledged and not b.is_lease for b in live)
    if (acknowledged, unacknowledged, decoding, prompts, n_acknowledged) != (
        desk.acknowledged_tokens,
        desk.unacknowledged_tokens,
        desk.decoding,
        desk.prompts,
        desk.n_acknowledged,
    ):
        raise BrokenInvariant(f"{worker_id}: the desk's totals differ from its bookings")
