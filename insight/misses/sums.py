"""Sums of attributed tokens: ever, and over a sliding window by worker, tenant, session and time.

Owns the buckets, one a minute. Bounded: so many buckets, tenants and sessions of each. Pure.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from radixroute.metrics.few_names import FewNames
from radixroute.radix.ids import WorkerId
from radixroute.replay.analysis.misses import CLASSES

# Told of workers whose events have no times: which of the two it was nobody can say.
EITHER: Final = "evicted_or_stale"
LIVE_CLASSES: Final = (*CLASSES, EITHER)
# Columns behind the classes.
PROMPT: Final = len(LIVE_CLASSES)
CACHED: Final = PROMPT + 1
REQUESTS: Final = PROMPT + 2
N_COLUMNS: Final = PROMPT + 3

MINUTE_NS: Final = 60_000_000_000
MAX_TENANTS: Final = 64
MAX_SESSIONS: Final = 512  # of a minute
MAX_EXTRA: Final = 4096  # of a minute

Tokens = NDArray[np.int64]


K = TypeVar("K")


class Whose(NamedTuple):
    """Whose tokens they are."""

    worker_id: WorkerId
    tenant: str
    session: int | None


@dataclass(slots=True)
class Minute:
    """What was attributed in one minute, by who it was of. Shapes (columns,)."""

    number: int
    workers: dict[WorkerId, Tokens] = field(default_factory=dict)
    tenants: dict[str, Tokens] = field(default_factory=dict)
    sessions: dict[int, Tokens] = field(default_factory=dict)
    # Of tokens evicted everywhere: (blocks more that a worker would have kept them with, tokens).
    extra: list[tuple[int, int]] = field(default_factory=list)
    unattributed: dict[str, int] = field(default_factory=dict)  # prompt tokens, by why


class MissSums:
    """Of one router."""

    def __init__(self, minutes: int) -> None:
        self._most = max(1, minutes)
        self._minutes: OrderedDict[int, Minute] = OrderedDict()
        self._tenants = FewNames(MAX_TENANTS)
        self.totals: dict[WorkerId, Tokens] = {}
        self.unattributed: dict[str, int] = {}

    def add(
        self,
        whose: Sequence[Whose],
        tokens: Tokens,
        extra: Sequence[int | None],
        now_ns: int,
    ) -> None:
        """Of some requests: shapes (requests, columns), (requests,). `extra`: see `Minute`; None:
        nothing was evicted."""
        minute = self._minute(now_ns)
        for worker_id, summed in _grouped([one.worker_id for one in whose], tokens):
            _add(self.totals, worker_id, summed)
            _add(minute.workers, worker_id, summed)
        for tenant, summed in _grouped([one.tenant for one in whose], tokens):
            _add(minute.tenants, self._tenants.name_of(tenant), summed)
        for session, summed in _grouped([one.session for one in whose], tokens):
            if session is not None:
                self._add_session(minute, session, summed)
        for blocks, row in zip(extra, tokens, strict=True):
            if blocks is not None and len(minute.extra) < MAX_EXTRA:
                minute.extra.append((blocks, int(row[_EVICTED])))

    def _add_session(self, minute: Minute, session: int, tokens: Tokens) -> None:
        """Those that missed most stay."""
        sessions = minute.sessions
        if session not in sessions and len(sessions) >= MAX_SESSIONS:
            least = min(sessions, key=lambda one: missed(sessions[one]))
            if missed(sessions[least]) >= missed(tokens):
                return
            del sessions[least]
        _add(sessions, session, tokens)

    def leave_out(self, prompt_tokens: int, why: str, now_ns: int) -> None:
        """Nobody can say why these were missed, if they were."""
        minute = self._minute(now_ns)
        for sums in (self.unattributed, minute.unattributed):
            sums[why] = sums.get(why, 0) + prompt_tokens

    def within(self, window_ns: int, now_ns: int) -> list[Minute]:
        """The minutes that reach into the window, oldest first."""
        first = (now_ns - window_ns) // MINUTE_NS
        return [one for one in self._minutes.values() if one.number >= first]

    def _minute(self, now_ns: int) -> Minute:
        number = now_ns // MINUTE_NS
        minute = self._minutes.get(number)
        if minute is None:
            minute = self._minutes[number] = Minute(number)
            while len(self._minutes) > self._most:
                self._minutes.popitem(last=False)
        return minute


def reachable(tokens: Tokens) -> int:
    """Prompt tokens that one cache without a limit would have served: all that anybody had stored,
    or was about to. What `infinite` is in replays (`replay.analysis.bounds`)."""
    return int(tokens[PROMPT] - tokens[[*_UNREACHABLE]].sum())


def missed(tokens: Tokens) -> int:
    """All that no cache served, preemptions too."""
    return int(tokens[:PROMPT].sum())


def new_tokens() -> Tokens:
    return np.zeros(N_COLUMNS, np.int64)


def _grouped(keys: Sequence[K], tokens: Tokens) -> Iterator[tuple[K, Tokens]]:
    """Rows of equal keys together."""
    rows = dict[K, list[int]]()
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return ((key, tokens[mine].sum(axis=0)) for key, mine in rows.items())


def _add(sums: dict[K, Tokens], key: K, tokens: Tokens) -> None:
    before = sums.get(key)
    if before is None:
        sums[key] = tokens.copy()
    else:
        before += tokens


_EVICTED: Final = CLASSES.index("evicted_everywhere")
_UNREACHABLE: Final = tuple(
    CLASSES.index(name) for name in ("never_seen", "partial_block", "last_token", "scope_mismatch")
)
