"""One native event stream, sans I/O: what to do with what arrived, and when to ask for more.

Owns one holder's stream state: which epoch counts, which batch comes next, what is buffered, the
one outstanding request. Each heartbeat is compared with the account of what the caller applied.
Never touches a socket, a clock or the index: callers pass `now_ns` (monotonic) and carry out the
returned actions in order. The router keeps one for each (worker, rank) and calls it from its loop
only.

Invariants: LIVE means that every batch known to exist is applied and nothing is buffered; a
request is outstanding only in SYNCING and RESYNC (a snapshot) and GAP (a resend).
"""

from collections.abc import Callable, Sequence

from radixroute.events.errors import LocalEventError
from radixroute.events.session.actions import (
    Action,
    Apply,
    RequestResend,
    RequestSnapshot,
    Reset,
    StateChanged,
)
from radixroute.events.session.assembly import SnapshotAssembly
from radixroute.events.session.counters import SessionCounters
from radixroute.events.session.order import BatchOrder
from radixroute.events.session.requests import RequestClock
from radixroute.events.session.states import Cause, StreamState, follow
from radixroute.events.settings import SessionSettings
from radixroute.events.wire.control import Malformed, ResendDone, StreamItem
from radixroute.events.wire.records import Epoch, Event, EventBatch, Heartbeat, SnapshotPart
from radixroute.radix.digest import Account

_AWAITING_SNAPSHOT = (StreamState.SYNCING, StreamState.RESYNC)


class StreamSession:
    """State of one (worker, rank). Every input returns the actions it leads to.

    `account` says what the caller has applied; actions are carried out before the next input.
    """

    def __init__(
        self,
        account: Callable[[], Account],
        rank: int = 0,
        settings: SessionSettings | None = None,
    ) -> None:
        self._account = account
        self._rank = rank
        self._settings = settings or SessionSettings()
        self._stale_after_ns = int(self._settings.stale_after_s * 1e9)
        self.counters = SessionCounters()
        self._state = StreamState.SYNCING
        self._epoch: Epoch | None = None
        self._requests = RequestClock(self._settings)
        self._assembly = SnapshotAssembly()
        self._order = BatchOrder(self._settings.max_buffered_batches)
        self._heard_ns = 0
        self._is_based = False  # everything resident before the next batch is known
        self._is_distrusted = False

    @property
    def state(self) -> StreamState:
        return self._state

    @property
    def epoch(self) -> Epoch | None:
        """The confirmed epoch."""
        return self._epoch

    @property
    def applied_seq(self) -> int | None:
        """Last batch applied; None when there is none."""
        return self._order.last_seq if self._is_based else None

    # -- inputs ------------------------------------------------------------------------------------

    def confirm_epoch(self, epoch: Epoch, now_ns: int) -> list[Action]:
        """`GetInfo` named the worker's epoch: only its events count from here on."""
        if epoch == self._epoch:
            return []
        self._epoch = epoch
        self._heard_ns = now_ns
        self._order.clear()
        self._assembly.clear()
        self._requests.reset()
        self._is_based = self._is_distrusted = False
        return [*self._move(Cause.RESTARTED), Reset(), *self._ask(now_ns)]

    def deliver(self, item: StreamItem, now_ns: int) -> list[Action]:
        """Any item of the subscriber."""
        match item:
            case EventBatch():
                return self.receive(item, now_ns)
            case Heartbeat():
                return self.receive_heartbeat(item, now_ns)
            case SnapshotPart():
                return self.receive_snapshot(item, now_ns)
            case ResendDone():
                return self.resend_done(item, now_ns)
            case Malformed():
                return self.malformed(now_ns)

    def receive(self, batch: EventBatch, now_ns: int) -> list[Action]:
        """A batch, live or sent again."""
        if not self._is_ours(batch):
            return []
        if self._state is StreamState.LIVE and self._order.step(batch.seq):
            self.counters.applied += 1
            return _apply(batch.events, batch.seq, batch.ts)
        if self._is_seen(batch.seq):
            self.counters.duplicates += 1
            return []
        if not self._order.keep(batch):
            self.counters.overflows += 1
        if self._state is StreamState.SYNCING and self._order.is_complete_from_start:
            return self._rebase(next_seq=0)
        return self._advance(now_ns)

    def receive_heartbeat(self, beat: Heartbeat, now_ns: int) -> list[Action]:
        """Proof of life, and of what the index should be after `last_seq`."""
        if not self._is_ours(beat):
            return []
        self._heard_ns = now_ns
        if beat.last_seq is not None:
            self._order.learn(beat.last_seq)
        is_whole = beat.last_seq is None or self._order.is_complete_from_start
        if not self._is_based and is_whole:
            was_stale = self._state is StreamState.STALE
            return [
                *(self._move(Cause.HEARD_UNBASED) if was_stale else []),
                *self._rebase(next_seq=0),
            ]
        if self._state is StreamState.STALE:
            return self._hear_again(beat, now_ns)
        if self._state is StreamState.LIVE and self._is_contradicted_by(beat):
            self.counters.digest_mismatches += 1
            return self._distrust(now_ns)
        if self._state is StreamState.LIVE and self._is_confirmed_by(beat):
            self._requests.calm()
        return self._advance(now_ns)

    def receive_snapshot(self, part: SnapshotPart, now_ns: int) -> list[Action]:
        """A part of everything resident; applied when the last part is there."""
        if not self._is_ours(part):
            return []
        if self._state not in _AWAITING_SNAPSHOT:
            self.counters.unwanted_parts += 1
            return []
        if not self._assembly.add(part):
            self.counters.unwanted_parts += 1
            return []
        self._requests.progressed(now_ns)
        if not self._assembly.is_complete:
            return []
        runs = self._assembly.take()
        self.counters.snapshots_applied += 1
        next_seq = 0 if part.seq is None else part.seq + 1
        return [Reset(), *_apply(runs), *self._rebase(next_seq)]

    def resend_done(self, done: ResendDone, now_ns: int) -> list[Action]:
        """The publisher sent all it had of a resend: what is missing now needs a snapshot."""
        requested = self._requests.resend
        if done.epoch != self._epoch or requested is None or done.from_seq != requested.from_seq:
            self.counters.late_replies += 1
            return []
        if self._order.next_seq <= requested.to_seq:
            return self.resend_failed(now_ns)
        self._requests.finish()
        return self._ask(now_ns)  # further batches were lost meanwhile

    def resend_failed(self, now_ns: int) -> list[Action]:
        """The outstanding resend will not mend the gap."""
        if self._state is not StreamState.GAP:
            return []
        self.counters.resends_failed += 1
        return self._distrust(now_ns)

    def malformed(self, now_ns: int) -> list[Action]:
        """This sender's bytes were not of the protocol: what they meant to say is lost."""
        self.counters.malformed += 1
        return self.distrust(now_ns)

    def distrust(self, now_ns: int) -> list[Action]:
        """Somebody knows that what is known is wrong: a snapshot is wanted."""
        if self._state is StreamState.STALE:
            self._is_distrusted = True
        if self._state in (StreamState.LIVE, StreamState.GAP):
            return self._distrust(now_ns)
        return []

    def tick(self, now_ns: int) -> list[Action]:
        """Call each 100 ms or so: silence, timeouts and delayed requests are noticed here."""
        if self._epoch is None or self._state is StreamState.STALE:
            return []
        if now_ns - self._heard_ns > self._stale_after_ns:
            self.counters.silences += 1
            self._requests.finish()
            self._assembly.clear()
            return self._move(Cause.SILENT)
        if not self._requests.has_expired(now_ns):
            return self._ask(now_ns)
        self.counters.timeouts += 1
        if self._state is StreamState.GAP:
            return self.resend_failed(now_ns)
        self._requests.finish()
        self._assembly.clear()
        return self._ask(now_ns)

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        self._order.check()
        if self._state is StreamState.LIVE and self._order.is_behind:
            raise LocalEventError("a live stream misses batches")
        if self._state is StreamState.GAP and not self._order.is_behind:
            raise LocalEventError("a stream in a gap misses nothing")
        if self._requests.resend is not None and self._state is not StreamState.GAP:
            raise LocalEventError("a resend is outstanding outside a gap")

    # -- what follows ------------------------------------------------------------------------------

    def _advance(self, now_ns: int) -> list[Action]:
        """Applies what is contiguous and moves between LIVE and GAP; elsewhere batches wait."""
        if self._state in _AWAITING_SNAPSHOT:
            return []
        actions = self._apply_batches(self._order.take()) if self._is_based else []
        if self._state is StreamState.STALE:
            return actions
        if self._state is StreamState.GAP and not self._order.is_behind:
            self._requests.finish()
            return [*actions, *self._move(Cause.MENDED)]
        if self._state is StreamState.LIVE and self._order.is_behind:
            self.counters.gaps += 1
            actions += self._move(Cause.MISSING)
        if self._order.missing > self._settings.max_replay_batches:
            return [*actions, *self._distrust(now_ns)]
        return [*actions, *self._ask(now_ns)]

    def _rebase(self, next_seq: int) -> list[Action]:
        """What is applied is the state before `next_seq`: go on from there.

        For seq 0 that is nothing: no block was resident before an epoch's first batch.
        """
        self._is_based, self._is_distrusted = True, False
        self._requests.finish()
        self._assembly.clear()
        batches = self._order.rebase(next_seq)
        return [*self._move(Cause.BASED), *self._apply_batches(batches)]

    def _hear_again(self, beat: Heartbeat, now_ns: int) -> list[Action]:
        if not self._is_based:
            return [*self._move(Cause.HEARD_UNBASED), *self._ask(now_ns)]
        if self._is_distrusted or self._is_contradicted_by(beat):
            return self._distrust(now_ns, Cause.HEARD_WRONG)
        if self._order.is_behind:
            self.counters.gaps += 1
            return [*self._move(Cause.HEARD_BEHIND), *self._advance(now_ns)]
        if self._is_confirmed_by(beat):
            return self._move(Cause.HEARD_SOUND)
        return []  # older than what is applied: proves nothing, the next one will

    def _distrust(self, now_ns: int, cause: Cause = Cause.DISTRUSTED) -> list[Action]:
        self._is_distrusted = True
        self._requests.finish()
        return [*self._move(cause), *self._ask(now_ns)]

    def _ask(self, now_ns: int) -> list[Action]:
        """The request this state needs, unless one is outstanding or must wait for its turn."""
        known_seq, next_seq = self._order.known_seq, self._order.next_seq
        if self._state is StreamState.GAP and known_seq is not None:
            if not self._requests.start_resend(next_seq, known_seq, now_ns):
                return []
            self.counters.resends_requested += 1
            return [RequestResend(next_seq, known_seq)]
        if self._state in _AWAITING_SNAPSHOT and self._requests.start_snapshot(now_ns):
            self.counters.snapshots_requested += 1
            return [RequestSnapshot()]
        return []

    def _move(self, cause: Cause) -> list[Action]:
        old, self._state = self._state, follow(self._state, cause)
        return [StateChanged(old, self._state, cause)]

    def _apply_batches(self, batches: list[EventBatch]) -> list[Action]:
        self.counters.applied += len(batches)
        return [action for batch in batches for action in _apply(batch.events, batch.seq, batch.ts)]

    # -- readers -----------------------------------------------------------------------------------

    def _is_ours(self, item: EventBatch | Heartbeat | SnapshotPart) -> bool:
        if self._epoch is None or item.epoch != self._epoch:
            self.counters.foreign += 1
            return False
        if item.rank != self._rank:
            self.counters.wrong_rank += 1
            return False
        return True

    def _is_seen(self, seq: int) -> bool:
        # A snapshot may be older than what was applied, so in RESYNC old batches are kept again.
        counts = self._is_based and self._state is not StreamState.RESYNC
        return self._order.is_waiting(seq) or (counts and seq < self._order.next_seq)

    def _is_contradicted_by(self, beat: Heartbeat) -> bool:
        return beat.last_seq == self.applied_seq and beat.account != self._account()

    def _is_confirmed_by(self, beat: Heartbeat) -> bool:
        return beat.last_seq == self.applied_seq and beat.account == self._account()


def _apply(events: Sequence[Event], seq: int | None = None, ts: float = 0.0) -> list[Action]:
    return [Apply(events, seq, ts)] if events else []
