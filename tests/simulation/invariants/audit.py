"""Who tells the truth of its cache never loses credit; without credit nobody is believed.

A mangled batch that fooled a stream is as a lie: neither says who is to blame. Where a worker does
not say when it looked into its cache, and batches of its events can be late, one report may differ
without a fault: a batch was lost and found again later than reports wait for (docs/audit.md). That
takes no credit. What nobody here has read is not audited at all.
"""

from typing import TYPE_CHECKING

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.claims import Claim
from tests.simulation.deeds import BreakSession, CutEvents, Freeze, Weather

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


class Audits:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        # Whose events the plan holds up or loses.
        self._late = {
            deed.worker
            for deed in self._world.plan.deeds
            if isinstance(deed, (CutEvents, Weather, BreakSession, Freeze))
        }
        self._world.router.core.on_claim = self._claimed

    def after(self) -> None:
        if self._watchers.has_news:
            self._look()

    def end(self) -> None:
        self._look()

    def _claimed(self, claim: Claim) -> None:
        """Of a prompt that nobody here has read there is nothing to hold a report against."""
        is_known = claim.told <= len(claim.keys)
        text = f"{claim.worker_id} found {claim.told} blocks, and {len(claim.keys)} are known"
        self._watchers.claim("prompt", is_known, text)

    def _look(self) -> None:
        for seen in self._watchers.glance.workers:
            audit, name = seen.audit, seen.worker_id
            if self._is_honest(name):
                is_exact = self._world.workers[name].plan.says_position or name not in self._late
                right = audit.has_credit and not (is_exact and audit.differing)
                self._watchers.claim("false alarm", right, f"{name}: {audit}")
            believed = not seen.is_fresh or audit.has_credit
            self._watchers.claim("credit", believed, f"{name} is believed without credit")

    def _is_honest(self, name: WorkerId) -> bool:
        world = self._world
        return name not in world.edge.ever_mangled and not world.workers[name].liar.has_told_blocks
