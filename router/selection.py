"""Selection: from the fleet as it stands to one decision. Books nothing.

Gathers members, loads, speeds, index and expected blocks into a `View` and asks the policy. Owns
the turn counters of the policies and the seeded generator behind ties; nothing else is changed.
"""

import random
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from radixroute.radix.ids import Holder, Keys, WorkerId
from radixroute.router.candidates import Candidate, View
from radixroute.router.decision_log import Decision, Excluded
from radixroute.router.expected import ExpectedBlocks
from radixroute.router.load_book import LoadBook
from radixroute.router.members import Member, Members, MemberState
from radixroute.router.policies import policy_named
from radixroute.router.requests import Request
from radixroute.router.speed import SpeedBook

MIN_CAP = 2  # below it the cap would forbid two requests of one chat to meet


class OverlapResult(Protocol):
    """Leading blocks of one request, by holder."""

    def blocks_of(self, holder: Holder) -> int: ...


class PrefixBeliefs(Protocol):
    """What the index offers to a decision: one call for all workers."""

    def overlaps(self, keys: Keys) -> OverlapResult: ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """The state that a decision reads; each part is owned elsewhere."""

    members: Members
    loads: LoadBook
    speeds: SpeedBook
    expected: ExpectedBlocks
    index: PrefixBeliefs


class Selector:
    """Makes decisions for one router."""

    def __init__(self, fleet: Fleet, rng: random.Random, load_cap_factor: float) -> None:
        self._fleet = fleet
        self._rng = rng
        self._load_cap_factor = load_cap_factor
        self._turns: dict[str, int] = {}

    def select(self, request: Request, policy_name: str, block_size: int) -> Decision | None:
        """None: nobody can take it now."""
        eligible, excluded = self._sort_out(request)
        if not eligible:
            return None
        policy = policy_named(policy_name)
        turn = self._turns.get(policy_name, 0)
        self._turns[policy_name] = turn + 1
        view = self._view(request, eligible, block_size, turn)
        return Decision(request.attempt + 1, view, policy(view), tuple(excluded))

    def _sort_out(self, request: Request) -> tuple[list[Member], list[Excluded]]:
        live: list[Member] = []
        excluded: list[Excluded] = []
        for member in self._fleet.members:
            if member.state is MemberState.LIVE:
                live.append(member)
            else:
                excluded.append(Excluded(member.spec.worker_id, f"it is {member.state.value}"))
        untried = [m for m in live if (m.spec.worker_id, m.epoch) not in request.excluded]
        if untried and len(untried) < len(live):
            tried = [m.spec.worker_id for m in live if m not in untried]
            excluded += [Excluded(w, "this request lost its session there") for w in tried]
        # Only sessions that were opened again are left: better one of them than no answer.
        return untried or live, excluded

    def _view(self, request: Request, eligible: list[Member], block_size: int, turn: int) -> View:
        overlaps = self._fleet.index.overlaps(request.spec.keys)
        candidates = tuple(self._candidate(m, overlaps, request.key_list) for m in eligible)
        return View(
            prompt_tokens=len(request.spec.prompt) + request.position,
            block_size=block_size,
            output_tokens=self._fleet.speeds.expected_output(request.spec.sampling.max_tokens),
            candidates=candidates,
            cap=load_cap(candidates, self._load_cap_factor),
            turn=turn,
            draw=self._rng.getrandbits(64),
        )

    def _candidate(
        self, member: Member, overlaps: OverlapResult, key_list: tuple[int, ...]
    ) -> Candidate:
        fleet, worker_id = self._fleet, member.spec.worker_id
        held = expected = 0
        if member.is_fresh:
            held = max(overlaps.blocks_of(holder) for holder in holders(member))
            expected = fleet.expected.extra_blocks(worker_id, key_list, held)
        return Candidate(
            worker_id=worker_id,
            overlap_blocks=held + expected,
            expected_blocks=expected,
            load=fleet.loads.load(worker_id),
            speed=fleet.speeds.speed(worker_id),
            kv_blocks_total=member.kv_blocks_total,
            kv_blocks_used=member.kv_blocks_used,
            max_batched_tokens=member.max_batched_tokens,
        )


def holders(member: Member) -> list[Holder]:
    """Its event streams."""
    return [Holder(WorkerId(member.spec.worker_id), rank) for rank in range(member.ranks)]


def load_cap(candidates: tuple[Candidate, ...], factor: float) -> int:
    """Requests in flight up to which cache credit may lift a worker."""
    in_flight = sum(candidate.load.in_flight for candidate in candidates)
    return max(MIN_CAP, ceil(factor * (in_flight + 1) / len(candidates)))
