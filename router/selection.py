"""Selection: from the fleet as it stands to one decision. Books nothing.

Gathers members, loads, speeds, index and expected blocks into a `View` and asks the policy. Owns
the turn counters of the policies and the seeded generator behind ties; nothing else is changed.
"""

import random
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

from radixroute.radix.contract import Overlaps
from radixroute.radix.ids import Keys
from radixroute.router.decision_log import Decision
from radixroute.router.expected import ExpectedBlocks
from radixroute.router.load_book import LoadBook
from radixroute.router.members import Members
from radixroute.router.policies import policy_named
from radixroute.router.requests import Request
from radixroute.router.roster import Roster, Rosters
from radixroute.router.speed import SpeedBook
from radixroute.router.view import Numbers, View

MIN_CAP = 2  # below it the cap would forbid two requests of one chat to meet


class PrefixBeliefs(Protocol):
    """What the index offers to a decision: one call for all workers."""

    def overlaps(self, keys: Keys) -> Overlaps: ...


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
        self._rosters = Rosters(fleet.members)
        self._rng = rng
        self._load_cap_factor = load_cap_factor
        self._turns: dict[str, int] = {}

    def select(self, request: Request, policy_name: str, block_size: int) -> Decision | None:
        """None: nobody can take it now."""
        overlaps = self._fleet.index.overlaps(request.spec.keys)
        roster = self._rosters.current(overlaps.holders, request.excluded)
        if not roster.worker_ids:
            return None
        policy = policy_named(policy_name)
        turn = self._turns.get(policy_name, 0)
        self._turns[policy_name] = turn + 1
        view = self._view(request, roster, overlaps, block_size=block_size, turn=turn)
        choice = policy(view)
        return Decision(
            attempt=request.attempt + 1,
            policy=policy_name,
            view=view,
            chosen=choice.chosen,
            reason=choice.reason,
            excluded=roster.excluded,
        )

    def _view(
        self, request: Request, roster: Roster, overlaps: Overlaps, *, block_size: int, turn: int
    ) -> View:
        """A fixed number of array operations, whatever the number of workers."""
        fleet, spec = self._fleet, request.spec
        overlap = held = roster.held(overlaps)
        expected = fleet.expected.extra_blocks(spec.keys, held, roster.believed)
        if expected is None:
            expected = roster.nothing
        else:
            overlap = held + expected
            expected.setflags(write=False)
        overlap.setflags(write=False)
        in_flight, queued_tokens, decoding = fleet.loads.take(roster.slots)
        ms_per_prefill_token, step_base_ms, ms_per_decode = fleet.speeds.take(roster.slots)
        (free_kv_blocks,) = fleet.members.take(roster.slots)
        return View(
            prompt_tokens=len(spec.prompt) + request.position,
            block_size=block_size,
            output_tokens=fleet.speeds.expected_output(spec.sampling.max_tokens),
            worker_ids=roster.worker_ids,
            overlap_blocks=overlap,
            expected_blocks=expected,
            in_flight=in_flight,
            queued_tokens=queued_tokens,
            decoding=decoding,
            ms_per_prefill_token=ms_per_prefill_token,
            step_base_ms=step_base_ms,
            ms_per_decode=ms_per_decode,
            free_kv_blocks=free_kv_blocks,
            max_batched_tokens=roster.max_batched_tokens,
            cap=load_cap(in_flight, self._load_cap_factor),
            turn=turn,
            draw=self._rng.getrandbits(64),
        )


def load_cap(in_flight: Numbers, factor: float) -> int:
    """Requests in flight up to which cache credit may lift a worker."""
    total = int(np.add.reduce(in_flight))
    return max(MIN_CAP, ceil(factor * (total + 1) / len(in_flight)))
