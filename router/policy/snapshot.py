"""Snapshot: the fleet at one moment, as policies see it. Reads only; changes nothing.

Made for one question and thrown away: it reads the parts that own the numbers, so it is true until
the next verb of one of them. The bits behind ties are drawn when a request is first weighed and
stay with it, so that asking again changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from radixroute.radix.ids import Keys, Runs
from radixroute.radix.index.contract import Overlaps
from radixroute.request.sampling import SamplingParams
from radixroute.router.messages.inputs import RequestSpec
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.candidates import CandidateList, Candidates, Tried
from radixroute.router.policy.expected import ExpectedBlocks
from radixroute.router.policy.forecast import kernels
from radixroute.router.policy.view import Numbers, View
from radixroute.router.workers.load import LoadBook
from radixroute.router.workers.recent_prefill import RecentPrefill
from radixroute.router.workers.speed import SpeedBook


class Ask(Protocol):
    """A request as a policy sees it: what the core has of it. Read only."""

    @property
    def request_id(self) -> str: ...
    @property
    def spec(self) -> RequestSpec: ...
    @property
    def attempt(self) -> int:
        """Times it was dispatched."""

    @property
    def prompt_tokens(self) -> int:
        """Prompt and what was emitted."""

    @property
    def excluded(self) -> Tried:
        """(worker, epoch) whose session broke under it."""

    @property
    def begun_with(self) -> SamplingParams | None:
        """What another made its output so far by; None: there is none."""

    draw: int | None  # random bits for ties, once drawn; only the core sets it


Draw = Callable[[Ask], int]


class PrefixBeliefs(Protocol):
    """Who says what workers hold: one call for all of them."""

    def overlaps(self, keys: Keys) -> Overlaps: ...


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What workers are believed to hold, and which of them may take a request."""

    source: PrefixBeliefs
    candidates: CandidateList
    expected: ExpectedBlocks | None  # blocks on their way; None: the source has them already

    def believed(self, keys: Keys, candidates: Candidates, overlaps: Overlaps) -> tuple[Runs, Runs]:
        """Leading blocks each worker holds or will soon, and how many of them are only expected."""
        overlap = held = candidates.held(overlaps)
        expected = None
        if self.expected is not None:
            expected = self.expected.extra_blocks(keys, held, candidates.believed)
        if expected is None:
            expected = candidates.nothing
        else:
            overlap = held + expected
            expected.setflags(write=False)
        overlap.setflags(write=False)
        return overlap, expected


@dataclass(frozen=True, slots=True)
class FleetNumbers:
    """The parts of the router that own what workers do; each is changed elsewhere."""

    loads: LoadBook
    speeds: SpeedBook
    recent_prefill: RecentPrefill


class Snapshot(NamedTuple):
    """Read what you need; each call takes copies."""

    beliefs: Beliefs  # by cache events
    numbers: FleetNumbers
    draw: Draw  # 64 random bits of a request
    now_ns: int
    block_size: int  # tokens
    lead_ms: float  # a worker is free for the next prompt so long before it is done

    def view(self, ask: Ask, beliefs: Beliefs | None = None) -> View | None:
        """For one request; None: nobody can take it. A fixed number of array operations.

        Of workers with room only: no policy gives a worker more than it can seat.
        """
        beliefs = beliefs or self.beliefs
        keys = ask.spec.keys
        overlaps = beliefs.source.overlaps(keys)
        candidates = beliefs.candidates.current(
            overlaps.holders, ask.excluded, ask.spec.need, ask.begun_with
        )
        if not candidates.worker_ids:
            return None
        overlap, expected = beliefs.believed(keys, candidates, overlaps)
        table, _ = self.table(candidates)
        table.setflags(write=False)
        view = View(
            ask.prompt_tokens,
            self.block_size,
            candidates.worker_ids,
            overlap,
            expected,
            table,
            self.draw(ask),
            candidates.excluded,
        )
        has_room = table[at.IN_FLIGHT] < table[at.ROOM]
        return view if has_room.all() else view.among(has_room, "it has no room for more requests")

    def table(self, candidates: Candidates) -> tuple[Numbers, int]:
        """The workers' numbers as they stand, the caller's to change; and how many of them could
        start a prompt now."""
        numbers, columns = self.numbers, candidates.columns
        table = np.empty((at.N_ROWS, len(columns)))
        n_free: int = _prepare()(
            table,
            columns,
            numbers.loads.now(),
            numbers.speeds.now(),
            numbers.recent_prefill.now(),
            candidates.limits,
            self.now_ns,
            self.lead_ms,
        )
        return table, n_free

    def has_room(self, need: str) -> bool:
        """Whether any worker that serves it takes one more request, if only into its own queue."""
        candidates = self.beliefs.candidates.serving(need)
        in_flight = self.numbers.loads.take(candidates.columns)[at.IN_FLIGHT]
        return bool((in_flight < candidates.room).any())

    def queued_tokens(self, candidates: Candidates) -> Numbers:
        """Uncached prompt tokens given to each and without a first token."""
        queued: Numbers = self.numbers.loads.take(candidates.columns)[at.QUEUED]
        return queued

    def expected_output(self, ask: Ask) -> float:
        """Tokens that it will likely be answered with."""
        return self.numbers.speeds.expected_output(ask.spec.sampling.max_tokens)


@cache
def _prepare() -> Any:
    """Its arguments are always of the types it was compiled for."""
    from radixroute.radix.jit import entry_point  # here: numba takes 0.5 s to import

    return entry_point(kernels().prepare)
