"""Hit counters: what engines report about cached prompts, beside what the router predicted.

Owns the sums per worker. A request counts once, at its first report; what later attempts compute
again is kept apart, or a dying worker would improve the hit rate.
"""

from dataclasses import dataclass

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import PromptFacts


@dataclass(slots=True)
class WorkerHits:
    """One worker's sums; only `HitCounters` may change them. Tokens unless named otherwise."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    resumed_requests: int = 0
    recomputed_tokens: int = 0


class HitCounters:
    """Sums by worker. Workers that left keep theirs: the past does not change."""

    def __init__(self) -> None:
        self._by_worker: dict[WorkerId, WorkerHits] = {}

    def served(self, worker_id: WorkerId, report: PromptFacts, *, predicted_tokens: int) -> None:
        """The first report on a request."""
        hits = self._by_worker.setdefault(worker_id, WorkerHits())
        hits.requests += 1
        hits.prompt_tokens += report.prompt_tokens
        hits.cached_tokens += report.cached_tokens
        hits.predicted_tokens += predicted_tokens
        hits.recomputed_tokens += report.recomputed_tokens

    def resumed(self, worker_id: WorkerId, *, recomputed_tokens: int) -> None:
        """A later attempt at a request that was counted already."""
        hits = self._by_worker.setdefault(worker_id, WorkerHits())
        hits.resumed_requests += 1
        hits.recomputed_tokens += recomputed_tokens

    def of(self, worker_id: WorkerId) -> WorkerHits:
        return self._by_worker.get(worker_id, WorkerHits())

    def workers(self) -> list[WorkerId]:
        return sorted(self._by_worker)

    def check(self) -> None:
        for worker_id, hits in self._by_worker.items():
            if hits.cached_tokens > hits.prompt_tokens:
                raise BrokenInvariant(f"{worker_id}: more tokens cached than asked for")
