"""Selection: from the fleet as it stands to decisions. Books nothing.

Gathers members, loads, speeds, fills, index and expected blocks into a `View` and asks the policy:
for one request at a time, or, for a planned policy, for all that wait. Owns the turn counters of
the policies and the seeded generator behind ties; nothing else is changed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from radixroute.radix.ids import Keys, Runs
from radixroute.radix.index.contract import Overlaps
from radixroute.router.core.decision_log import Decision
from radixroute.router.core.requests import Request
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.active_blocks import ActiveBlocks
from radixroute.router.policy.candidates import Roster, Rosters
from radixroute.router.policy.expected import ExpectedBlocks
from radixroute.router.policy.learned import LearnedBlocks
from radixroute.router.policy.replicas import Replicas, longest_held, name_of
from radixroute.router.policy.score import NAMES, kernels, replica_balance
from radixroute.router.policy.table import Policy, policy_named, radix_reason
from radixroute.router.policy.view import Numbers, View
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.load import LoadBook
from radixroute.router.workers.members import Members
from radixroute.router.workers.recent_prefill import Fills
from radixroute.router.workers.speed import SpeedBook

# Below it the cap would take cached prefixes from workers that are hardly busy: a worker decodes
# eight requests about as fast as one.
MIN_CAP = 8
# Without a session's name prompts that begin alike are one. By the first block alone nearly all of
# the conversation trace was one (its system prompt): 8 workers reused 7 %, less than in turn, but
# 27 % by the first 576 to 2,048 tokens.
SESSION_TOKENS = 1024


class PrefixBeliefs(Protocol):
    """What the index offers to a decision: one call for all workers."""

    def overlaps(self, keys: Keys) -> Overlaps: ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """The state that a decision reads; each part is owned elsewhere."""

    members: Members
    loads: LoadBook
    speeds: SpeedBook
    fills: Fills
    expected: ExpectedBlocks
    active: ActiveBlocks
    learned: LearnedBlocks
    index: PrefixBeliefs
    replicas: Replicas


@dataclass(slots=True)
class Pace:
    """What is usual: by it a wait is long and a prompt is large. Milliseconds."""

    wait_ms: float = 100.0
    prefill_ms: float = 200.0

    def bound(self, waited_ms: float, prefill_ms: float) -> None:
        """One request more. The last hundred or so count."""
        self.wait_ms += (waited_ms - self.wait_ms) * 0.01
        self.prefill_ms += (prefill_ms - self.prefill_ms) * 0.01


class Selector:
    """Makes decisions for one router."""

    def __init__(self, fleet: Fleet, rng: random.Random, settings: RouterSettings) -> None:
        self._fleet = fleet
        self._rosters = Rosters(fleet.members)
        self._learned_rosters = Rosters(fleet.members, needs_events=False)
        self._rng = rng
        self._load_cap_factor = settings.load_cap_factor
        self._lead_ms = settings.dispatch_lead_ms
        self._turns: dict[str, int] = {}
        self._pace = Pace()
        self._wake_ns: int | None = None

    @property
    def wake_ns(self) -> int | None:
        """When a plan should be made again though nothing may have happened; None: never."""
        return self._wake_ns

    def select(
        self, request: Request, policy_name: str, block_size: int, now_ns: int
    ) -> Decision | None:
        """For one request, now. None: nobody can take it."""
        policy = policy_named(policy_name)
        beliefs, rosters = self._source(policy)
        overlaps = beliefs.overlaps(request.spec.keys)
        roster = rosters.current(overlaps.holders, request.excluded)
        if not roster.worker_ids:
            return None
        overlap, expected = self._believed(policy, request, roster, overlaps)
        scalars = self._scalars(request, block_size, now_ns)
        table, _ = self._table(roster, scalars)
        table.setflags(write=False)
        longest = longest_held(overlap - expected) if policy.may_replicate else 0
        prefix = name_of(request.spec.keys, longest)
        blocks: tuple[Numbers | None, Numbers | None] = (None, None)
        if policy.needs_blocks:
            blocks = self._fleet.active.counts(roster.worker_ids, request.spec.keys)
        view = View(
            prompt_tokens=request.prompt_tokens,
            worker_ids=roster.worker_ids,
            overlap_blocks=overlap,
            expected_blocks=expected,
            table=table,
            scalars=scalars,
            cap=load_cap(table[at.IN_FLIGHT], self._load_cap_factor),
            turn=self._turn(policy_name),
            draw=self._draw(request),
            replica_ms=self._fleet.replicas.credit_ms(prefix),
            session=self._session(request, block_size),
            active_blocks=blocks[0],
            new_blocks=blocks[1],
        )
        choice = policy.choose(view)
        if policy.may_replicate:
            self._settle_replica(request, prefix, *replica_balance(view, choice.chosen))
        return Decision(
            attempt=request.attempt + 1,
            policy=policy_name,
            view=view,
            chosen=choice.chosen,
            reason=choice.reason,
            excluded=roster.excluded,
        )

    def may_bind(self, threshold: float) -> bool:
        """Whether any worker has no more than this share of a step's tokens queued."""
        roster = self._rosters.current(self._rosters.last_holders, set())
        queued = self._fleet.loads.take(roster.slots)[1]
        limits = np.where(np.isinf(roster.max_batched_tokens), 8192.0, roster.max_batched_tokens)
        return bool((queued <= threshold * limits).any())

    def uncached_tokens(self, request: Request, block_size: int) -> int:
        """Prompt tokens to compute where most of it is cached."""
        overlaps = self._fleet.index.overlaps(request.spec.keys)
        best = int(np.maximum.reduce(overlaps.blocks, initial=0))
        return max(1, request.prompt_tokens - best * block_size)

    def plan(
        self, requests: Sequence[Request], policy_name: str, block_size: int, now_ns: int
    ) -> list[tuple[Request, Decision]]:
        """Those of the waiting requests whose best worker can start them now, in order.

        Requests that lost a session are not planned: `select` them.
        """
        self._wake_ns = None
        policy = policy_named(policy_name)
        beliefs, rosters = self._source(policy)
        first = beliefs.overlaps(requests[0].spec.keys)
        roster = rosters.current(first.holders, set())
        n_requests, n_workers = len(requests), len(roster.worker_ids)
        if not n_workers:
            return []
        scalars = self._scalars(requests[0], block_size, now_ns)
        table, n_free = self._table(roster, scalars)
        draws = np.array([self._draw(request) for request in requests], np.uint64)
        if not n_free:
            # Whatever they would rather have, they wait.
            self._wake_ns = self._next_wake(table, now_ns)
            return []
        rest = [beliefs.overlaps(request.spec.keys) for request in requests[1:]]
        believed = [
            self._believed(policy, request, roster, held)
            for request, held in zip(requests, [first, *rest], strict=True)
        ]
        before = table.copy()
        prompts = np.array([request.prompt_tokens for request in requests], np.float64)
        waited = np.array([(now_ns - request.spec.arrival_ns) / 1e6 for request in requests])
        held = np.array([overlap for overlap, _ in believed], np.int32)
        order, chosen = np.empty((2, n_requests), np.int64)
        longest = [
            longest_held(overlap if expected is roster.nothing else overlap - expected)
            for overlap, expected in believed
        ]
        prefixes = [
            name_of(request.spec.keys, n) for request, n in zip(requests, longest, strict=True)
        ]
        credits = np.array([self._fleet.replicas.credit_ms(prefix) for prefix in prefixes])
        caps, balances = np.empty(n_requests), np.empty((3, n_requests))
        backlogs, flights = np.empty((2, n_requests, n_workers))
        room = np.empty((3, max(n_requests, n_workers, len(NAMES))))
        asked = (prompts, waited, draws, held, np.array(longest, np.int64), credits)
        told = (order, chosen, caps, backlogs, flights, balances)
        kernels().plan(*asked, table, scalars, *told, room)
        bound = []
        for r in order.tolist():
            worker = int(chosen[r])
            lost_ms, spent_ms, ttft_ms = balances[:, r].tolist()
            self._settle_replica(requests[r], prefixes[r], lost_ms, spent_ms if worker >= 0 else 0)
            if worker < 0:
                continue
            then = before.copy()
            then[at.BACKLOG_MS], then[at.IN_FLIGHT] = backlogs[r], flights[r]
            then.setflags(write=False)
            view = View(
                prompt_tokens=requests[r].prompt_tokens,
                worker_ids=roster.worker_ids,
                overlap_blocks=believed[r][0],
                expected_blocks=believed[r][1],
                table=then,
                scalars=scalars,
                cap=float(caps[r]),
                turn=self._turn(policy_name),
                draw=int(draws[r]),
                replica_ms=float(credits[r]),
            )
            decision = Decision(
                attempt=requests[r].attempt + 1,
                policy=policy_name,
                view=view,
                chosen=worker,
                reason=radix_reason(view, worker),
                ttft_ms=ttft_ms,
                excluded=roster.excluded,
            )
            self._pace.bound(float(waited[r]), _prefill_ms(view, worker))
            bound.append((requests[r], decision))
        if len(bound) < n_requests:
            self._wake_ns = self._next_wake(before, now_ns)
        return bound

    def _settle_replica(
        self, request: Request, prefix: int | None, lost_ms: float, spent_ms: float
    ) -> None:
        """A request loses once, however often it is planned."""
        if not request.has_lost:
            request.has_lost = lost_ms > 0.0
            self._fleet.replicas.lost(prefix, lost_ms)
        self._fleet.replicas.spent(prefix, spent_ms)

    def _next_wake(self, table: Numbers, now_ns: int) -> int | None:
        """When the next busy worker will be nearly done with what it has."""
        if self._lead_ms <= 0.0:
            return None  # only what really ended counts
        ahead = table[at.BACKLOG_MS] - self._lead_ms
        ahead = ahead[ahead > 0.0]
        return now_ns + int(np.ceil(ahead.min() * 1e6)) if len(ahead) else None

    def _source(self, policy: Policy) -> tuple[PrefixBeliefs, Rosters]:
        """Who says what the workers hold, and which workers that counts for."""
        if policy.learns:
            return self._fleet.learned, self._learned_rosters
        return self._fleet.index, self._rosters

    def _believed(
        self, policy: Policy, request: Request, roster: Roster, overlaps: Overlaps
    ) -> tuple[Runs, Runs]:
        """Leading blocks each worker holds or will soon, and how many of them are only expected."""
        overlap = held = roster.held(overlaps)
        expected = None
        if not policy.learns:  # what was learned holds what is on its way already
            expected = self._fleet.expected.extra_blocks(request.spec.keys, held, roster.believed)
        if expected is None:
            expected = roster.nothing
        else:
            overlap = held + expected
            expected.setflags(write=False)
        overlap.setflags(write=False)
        return overlap, expected

    def _scalars(self, request: Request, block_size: int, now_ns: int) -> Numbers:
        scalars = np.empty(at.N_SCALARS)
        scalars[at.S_BLOCK] = block_size
        output = request.spec.sampling.max_tokens
        scalars[at.S_OUTPUT] = self._fleet.speeds.expected_output(output)
        scalars[at.S_MIN_CAP] = MIN_CAP
        scalars[at.S_CAP_FACTOR] = self._load_cap_factor
        scalars[at.S_NOW_NS] = now_ns
        scalars[at.S_LEAD_MS] = self._lead_ms
        scalars[at.S_MEAN_WAIT_MS] = self._pace.wait_ms
        scalars[at.S_MEAN_PREFILL_MS] = self._pace.prefill_ms
        return scalars

    def _table(self, roster: Roster, scalars: Numbers) -> tuple[Numbers, int]:
        """The workers' numbers as they stand, a fixed number of array operations; and how many of
        them could start a prompt now."""
        fleet, slots = self._fleet, roster.slots
        table = np.empty((at.N_ROWS, len(slots)))
        table[at.IN_FLIGHT : at.SINCE_NS + 1] = fleet.loads.take(slots)
        table[at.PREFILL_BASE_MS : at.LAST_STEP_NS + 1] = fleet.speeds.take(slots)
        table[at.FILL] = fleet.fills.take(slots)
        table[at.MAX_BATCHED] = roster.max_batched_tokens
        return table, kernels().prepare(table, scalars)

    def _session(self, request: Request, block_size: int) -> int:
        """Whose request it is: as its client says, else as its prompt begins, else its own."""
        spec = request.spec
        if spec.session is not None:
            return spec.session
        begins = spec.keys[: max(1, SESSION_TOKENS // block_size)]
        return int(begins[-1]) if len(begins) else self._draw(request)

    def _turn(self, policy_name: str) -> int:
        turn = self._turns.get(policy_name, 0)
        self._turns[policy_name] = turn + 1
        return turn

    def _draw(self, request: Request) -> int:
        """Drawn once for a request, so that planning it again changes nothing."""
        if request.draw is None:
            request.draw = self._rng.getrandbits(64)
        return request.draw


def load_cap(in_flight: Numbers, factor: float) -> float:
    """Requests in flight up to which cache credit may lift a worker."""
    total = float(np.add.reduce(in_flight))
    return float(max(MIN_CAP, np.ceil(factor * (total + 1.0) / len(in_flight))))


def _prefill_ms(view: View, worker: int) -> float:
    tokens = view.prompt_tokens - view.cached_tokens(int(view.overlap_blocks[worker]))
    table = view.table[:, worker]
    return float(table[at.PREFILL_BASE_MS] + tokens * table[at.MS_PER_PREFILL])
