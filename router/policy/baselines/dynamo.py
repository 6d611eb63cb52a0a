"""NVIDIA Dynamo's KV router (`lib/kv-router`, `scheduling/selector/default.rs`, late 2026).

    cost = scale * max(0, (active prefill tokens + prompt tokens) / B - credit * overlap blocks)
           + distinct prompt blocks in use there with this prompt's + weight * active requests

in blocks of B tokens; the lowest goes, ties at random. Defaults: scale 1, credit 1, weight 0; the
preset "agentic" has 4, 2 and 64. `dynamo_wspt` has knobs that were tuned on a public trace and
Dynamo's queue in front: shortest first, while every worker has more than a hundredth of a step
queued.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.router.policy.formula.active_blocks import ActiveBlocks
from radixroute.router.policy.formula.at_once import AtOnce, lowest
from radixroute.router.policy.formula.shortest_first import ShortestFirst
from radixroute.router.policy.policy import Dispatched, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Numbers, Scores, View


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Distinct prompt blocks, shape (workers,)."""

    active: Numbers  # in use there
    new: Numbers  # that this prompt would add


@dataclass(frozen=True, slots=True)
class Cost:
    """The formula with its knobs."""

    credit: float
    prefill_scale: float
    request_weight: float

    def scores(self, view: View) -> Scores:
        size = view.block_size
        overlap = self.credit * view.overlap_blocks
        prefill = (view.queued_tokens + view.prompt_tokens) / size - overlap
        rows = (
            self.prefill_scale * np.maximum(prefill, 0.0),
            view.own.active + view.own.new,
            self.request_weight * view.in_flight,
        )
        return Scores(("prefill", "decode_blocks", "requests"), ("blocks",) * 3, np.stack(rows))


def dynamo(cost: Cost) -> PolicyFactory:
    def made(parts: PolicyParts) -> AtOnce:
        active = ActiveBlocks()

        def blocks(ask: Ask, snapshot: Snapshot, view: View) -> Blocks:
            return Blocks(*active.counts(view.worker_ids, ask.spec.keys))

        def book(dispatched: Dispatched) -> None:
            worker_id = dispatched.decision.worker_id
            active.add(dispatched.booking, worker_id, dispatched.spec.keys)

        pick = lowest(cost.scores)
        return AtOnce(parts, pick, own=blocks, on_dispatch=book, on_settle=active.end)

    return made


_tuned = dynamo(Cost(credit=1.5, prefill_scale=1000.0, request_weight=64.0))

POLICIES: dict[str, PolicyFactory] = {
    "dynamo": dynamo(Cost(credit=1.0, prefill_scale=1.0, request_weight=0.0)),
    "dynamo_agentic": dynamo(Cost(credit=2.0, prefill_scale=4.0, request_weight=64.0)),
    "dynamo_wspt": lambda parts: ShortestFirst(_tuned(parts), threshold=0.01),
}
