"""Each decision credits workers with what the index has of them, and goes where it costs least.

What is cached counts whatever else a worker has to do; only who is not believed has no credit.
"""

from math import ceil, isclose
from typing import TYPE_CHECKING

from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.view import Numbers

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

_BY_INDEX = ("radix", "radix_at_once")
_TIE_MS = 1e-3


class Credits:
    def __init__(self, watchers: "Watchers") -> None:
        self._claim = watchers.claim
        self._world = watchers.world
        self._world.router.core.on_decision = self._decided

    def _decided(self, request_id: str, decision: Decision) -> None:
        if decision.policy not in _BY_INDEX:
            return
        view, router = decision.view, self._world.router
        keys = self._world.ledger.clients[request_id].spec.keys
        wanted = router.credited(view.worker_ids, keys)
        held = view.held_blocks.tolist()
        if held != wanted:  # a text for each decision would cost as much as all of this
            text = f"{view.worker_ids} have credit for {held} blocks, and hold {wanted}"
            self._claim("credit", False, f"{request_id}: {text}")
        scores = router.scores(decision)
        uncached = view.uncached_tokens.tolist()
        costs = scores.terms[scores.names.index("prefill")].tolist()
        for place, worker in enumerate(view.worker_ids):
            right = _prefill_ms(view.table, uncached[place], place)
            if not isclose(costs[place], right, rel_tol=1e-6):
                text = f"{worker} takes {costs[place]} ms to compute it, not {right}"
                self._claim("credit", False, f"{request_id}: {text}")
        totals = scores.totals.tolist()
        if totals[decision.chosen] > min(totals) + _TIE_MS:
            text = f"{request_id} goes to {decision.worker_id}: {totals} ms"
            self._claim("cheapest", False, text)


def _prefill_ms(table: Numbers, tokens: float, place: int) -> float:
    """What a worker is thought to take for so many prompt tokens."""
    steps = max(1, ceil(tokens / table.item(at.MAX_BATCHED, place)))
    base, each = table.item(at.PREFILL_BASE_MS, place), table.item(at.MS_PER_PREFILL, place)
    return float(steps * base + tokens * each)
