"""Attribution: why each prompt token was computed that a cache might have served, live.

The classes, their order and the code that decides them are those of replays
(`replay.analysis.misses`), over what a router's tape tells: decisions, first tokens, reports, and
the caches' own event streams. Exact where these are: a change of a cache counts from when its
worker says that it happened, on the router's clock (the fastest message of late took no time), so
requests are looked at `settle_ns` after they were decided on, when all changes of before have been
heard. Whatever cannot be known is left out with a reason, and never guessed.

Owns the timeline and requests that wait for their turn in it. Pure: no clock.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np

from radixroute.insight.misses.blocks import Blocks
from radixroute.insight.misses.caches import Bools, Caches
from radixroute.insight.misses.sums import (
    CACHED,
    EITHER,
    LIVE_CLASSES,
    N_COLUMNS,
    PROMPT,
    REQUESTS,
    MissSums,
    Tokens,
    Whose,
)
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Holder, Numbers, WorkerId
from radixroute.replay.analysis import misses_layout as at
from radixroute.replay.arrays import Cells
from radixroute.router.core.logs.tape import (
    Begun,
    CacheChanged,
    CacheCleared,
    CacheCredited,
    Closed,
    Lost,
    Opened,
    Record,
    Reported,
    Sent,
    WorkerJoined,
    WorkerLost,
)
from radixroute.router.messages.inputs import PromptFacts, RequestSpec

MAX_OPEN: Final = 1 << 16  # requests
_NEVER: Final = 1 << 62
_NONE: Final = np.zeros(0, np.int32)
_EITHER: Final = LIVE_CLASSES.index(EITHER)


class _Asked(msgspec.Struct, eq=False):
    """One request. Only `Attribution` changes it."""

    spec: RequestSpec
    block_size: int = 0
    worker_id: WorkerId | None = None  # of its first attempt
    unit: int = -1
    decided_ns: int = -1
    end_ns: int = _NEVER  # when its prompt was computed, or will not be there
    rows: Cells | None = None
    predicted: int = 0  # leading blocks, as the router thought
    best: int = 0
    reach: Numbers | None = None  # once it was looked at
    told: Reported | None = None
    is_over: bool = False
    why_not: str = ""  # nobody can say why its tokens were missed


class Attribution:
    """One router's."""

    def __init__(self, max_bytes: int, settle_ns: int, sums: MissSums) -> None:
        self.blocks = Blocks(max_bytes)
        self._caches = Caches(self.blocks)
        self.sums = sums
        self._settle_ns = settle_ns
        self._asked: dict[str, _Asked] = {}
        self._decided: list[_Asked] = []  # in order of their decisions; not looked at yet
        self._computing: list[_Asked] = []  # looked at, and not computed by then
        self._looked: list[_Asked] = []  # looked at, and not reported yet
        self._safe_stamp = 0
        caches = self._caches
        self._takes: dict[type, Callable[[Any], None]] = {
            CacheChanged: caches.told,
            CacheCleared: caches.told,
            CacheCredited: caches.credited,
            WorkerJoined: lambda record: caches.joined(record.facts),
            WorkerLost: lambda record: caches.lost(record.worker_id),
            Opened: self._opened,
            Sent: self._sent,
            Reported: self._reported,
            Begun: self._ended,
            Lost: self._ended,
            Closed: self._closed,
        }

    @property
    def n_open(self) -> int:
        return len(self._asked)

    def read(self, records: Iterable[Record]) -> None:
        """In the tape's order."""
        for record in records:
            take = self._takes.get(type(record))
            if take is not None:
                take(record)

    def settle(self, now_ns: int) -> None:
        """Looks at all that was decided so long ago that what was before it has been heard."""
        self._look(now_ns - self._settle_ns)
        self._safe_stamp = self.blocks.stamp

    # -- what is told

    def _opened(self, record: Opened) -> None:
        spec = record.spec
        if len(self._asked) >= MAX_OPEN:
            self.sums.leave_out(spec.prompt_tokens, "too_many", record.now_ns)
            return
        one = self._asked[spec.request_id] = _Asked(spec)
        if not spec.is_read:
            one.why_not = "unread"
        elif spec.resumed is not None:
            one.why_not = "resumed"

    def _sent(self, record: Sent) -> None:
        one = self._asked.get(record.request_id)
        if one is None or one.worker_id is not None:
            return
        view, now_ns = record.decision.view, record.now_ns
        one.worker_id, one.decided_ns = record.decision.worker_id, now_ns
        one.block_size = view.block_size
        unknown = "leased" if record.is_leased else self._caches.why_unknown(one.worker_id)
        one.why_not = one.why_not or unknown
        if one.why_not:
            return
        one.unit = self._caches.unit_of(Holder(one.worker_id))
        one.predicted = record.predicted_tokens // view.block_size
        one.best = int(view.held_blocks.max(initial=0))
        self._decided.append(one)

    def _reported(self, record: Reported) -> None:
        one = self._asked.get(record.request_id)
        if one is not None and record.is_first:
            one.told = record

    def _ended(self, record: Begun | Lost) -> None:
        """Its prompt is computed, or will not be: not there."""
        one = self._asked.get(record.request_id)
        if one is None:
            return
        one.end_ns = min(one.end_ns, record.now_ns)
        if isinstance(record, Lost) and one.told is None:
            # It was never admitted: what becomes of it elsewhere is as of a new one.
            one.is_over = True
            self._asked[record.request_id] = _Asked(one.spec, why_not=one.why_not)

    def _closed(self, record: Closed) -> None:
        one = self._asked.pop(record.spec.request_id, None)
        if one is None:
            return
        one.is_over = True
        one.end_ns = min(one.end_ns, record.now_ns)
        if one.why_not and one.told is not None:
            self.sums.leave_out(one.spec.prompt_tokens, one.why_not, record.now_ns)

    # -- looking

    def _look(self, until_ns: int) -> None:
        """At what was decided before, and at what became of requests before."""
        n = bisect_left(self._decided, until_ns, key=lambda one: one.decided_ns)
        decided, self._decided = self._decided[:n], self._decided[n:]
        computing = [*self._computing, *(one for one in decided if one.end_ns > one.decided_ns)]
        self._computing = [one for one in computing if one.end_ns >= until_ns]
        ended = sorted(
            (one for one in computing if one.end_ns < until_ns), key=lambda one: one.end_ns
        )
        events = self._caches.take(until_ns, self._safe_stamp)
        self._place(decided)
        if decided or ended or len(events[0]):
            earlier = [one for one in ended if one.decided_ns < 0 or one.reach is not None]
            self._run([*decided, *earlier], len(decided), ended, events)
        looked = [*self._looked, *decided]
        self._looked = [one for one in looked if one.told is None and not one.is_over]
        self._attribute([one for one in looked if one.told is not None], until_ns)

    def _place(self, decided: Sequence[_Asked]) -> None:
        """Rows of their blocks."""
        if decided:
            keys = np.concatenate([one.spec.keys for one in decided])
            rows = self.blocks.rows_of(keys, self._safe_stamp)
            first = 0
            for one in decided:
                end = first + len(one.spec.keys)
                one.rows, first = rows[first:end], end

    def _run(
        self,
        table: Sequence[_Asked],
        n_decided: int,
        ended: Sequence[_Asked],
        events: tuple[Numbers, Numbers, Cells, Bools],
    ) -> None:
        """`table`: requests that are decided on, and those that have ended, in any order."""
        number = {id(one): n for n, one in enumerate(table)}
        rows = [_NONE if one.rows is None else one.rows for one in table]
        first = np.zeros(len(table) + 1, np.int64)
        np.cumsum([len(one) for one in rows], out=first[1:])
        reached = np.zeros((len(table), at.REACH_LEN), np.int64)
        blocks = self.blocks
        _miss_kernels().look(
            first,
            np.concatenate([_NONE, *rows]),
            np.array([_reusable(one) for one in table], np.int64),
            np.array([one.unit for one in table], np.int64),
            np.arange(n_decided),
            np.array([one.decided_ns for one in table], np.int64),
            np.array([number[id(one)] for one in ended], np.int64),
            np.array([one.end_ns for one in table], np.int64),
            *events,
            blocks.held,
            blocks.coming,
            blocks.n_coming,
            blocks.is_seen,
            reached,
        )
        for n, one in enumerate(table[:n_decided]):
            one.reach = reached[n]

    def _attribute(self, asked: Sequence[_Asked], now_ns: int) -> None:
        """Those that were looked at and reported."""
        if not asked:
            return
        cached = np.array([_facts(one).cached_tokens for one in asked], np.int64)
        reusable = np.array([_reusable(one) for one in asked], np.int64)
        beliefs = np.zeros((len(asked), at.BELIEF_LEN), np.int64)
        beliefs[:, at.PREDICTED] = [one.predicted for one in asked]
        beliefs[:, at.BEST] = [one.best for one in asked]
        reached = np.array([one.reach for one in asked], np.int64)
        missed = np.zeros((len(asked), at.MISSES_LEN), np.int64)
        size = asked[0].block_size
        _miss_kernels().classify(reusable, cached, reached, beliefs, size, missed)
        tokens = self._told(asked, missed, reusable, cached)
        is_evicted = missed[:, at.EVICTED_EVERYWHERE] > 0
        extra = [
            self._extra(one) if evicted else None
            for one, evicted in zip(asked, is_evicted.tolist(), strict=True)
        ]
        self.sums.add([_whose(one) for one in asked], tokens, extra, now_ns)

    def _told(
        self, asked: Sequence[_Asked], missed: Numbers, reusable: Numbers, cached: Numbers
    ) -> Tokens:
        """With what needs no history; shape (requests, columns of `sums`)."""
        prompt = np.array([one.spec.prompt_tokens for one in asked], np.int64)
        size = asked[0].block_size
        tail, is_full = prompt - np.maximum(reusable * size, cached), prompt % size == 0
        missed[:, at.LAST_TOKEN] += np.where(is_full, tail, 0)
        missed[:, at.PARTIAL_BLOCK] += np.where(is_full, 0, tail)
        missed[:, at.PREEMPTION] += [_facts(one).recomputed_tokens for one in asked]
        tokens = np.zeros((len(asked), N_COLUMNS), np.int64)
        tokens[:, : at.MISSES_LEN] = missed
        untimed = [
            row
            for row, one in enumerate(asked)
            if one.worker_id is not None and not self._caches.is_timed(one.worker_id)
        ]
        for column in (at.EVICTED_BEFORE_ADMISSION, at.STALE_INDEX):
            tokens[untimed, _EITHER] += tokens[untimed, column]
            tokens[untimed, column] = 0
        tokens[:, PROMPT], tokens[:, CACHED], tokens[:, REQUESTS] = prompt, cached, 1
        return tokens

    def _extra(self, one: _Asked) -> int | None:
        """So many blocks more, and the cache that lost the first of its evicted blocks last would
        have it still: what it took since, if it evicts what was used longest ago."""
        if one.reach is None or one.rows is None:
            return None
        place = int(one.reach[: at.SEEN].max())
        row = int(one.rows[place]) if place < len(one.rows) else -1
        by = int(self.blocks.gone_by[row]) if row >= 0 else -1
        return int(self.blocks.stores[by] - self.blocks.gone_at[row]) if by >= 0 else None


def _whose(one: _Asked) -> Whose:
    return Whose(one.worker_id or WorkerId(""), one.spec.tenant, one.spec.session)


def _reusable(one: _Asked) -> int:
    """Leading blocks that a cache could serve."""
    return min(max(0, one.spec.prompt_tokens - 1) // one.block_size, len(one.spec.keys))


def _facts(one: _Asked) -> PromptFacts:
    if one.told is None:
        raise BrokenInvariant("a request is attributed that was not reported")
    return one.told.facts


@cache
def _miss_kernels() -> Any:
    from radixroute.replay.analysis import misses_kernels

    return misses_kernels
