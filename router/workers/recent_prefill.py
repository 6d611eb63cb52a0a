"""Recent prefill: how much each worker was given to cache lately, beside what the others were.

Owns those sums. What is computed somewhere pushes older blocks out there: a worker that got more
than its share loses younger ones, so a new prompt costs more there. Sums fade as the whole fleet's
caches turn over once. No clock, no I/O; `RouterCore`'s parts call.
"""

from math import exp

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import Numbers, WorkerColumns

# Until a worker tells the size of its cache: less than any that serves long prompts.
UNKNOWN_TOKENS = 65536.0


class RecentPrefill:
    """Prompt tokens given to each worker, fading."""

    def __init__(self, columns: WorkerColumns) -> None:
        self._columns = columns
        self._table = columns.table(0.0)

    def give(
        self, worker_id: WorkerId, tokens: float, fleet_tokens: float, *, smallness: float = 1.0
    ) -> None:
        """So many uncached tokens go there; all caches together hold `fleet_tokens`. O(workers).

        `smallness`: the mean cache over that of this worker, whose blocks are pushed out so much
        sooner by as many tokens.
        """
        table = self._table.numbers
        table *= exp(-tokens / max(fleet_tokens, UNKNOWN_TOKENS))
        table[0, self._columns.of(worker_id)] += tokens * smallness

    def forget(self, worker_id: WorkerId) -> None:
        """Call it while the worker still has its column: its next life has an empty cache."""
        self._table.unset(self._columns.of(worker_id))

    def now(self) -> Numbers:
        """Of every column, shape (1, columns); to read at once: it changes, or is another one, any
        time."""
        return self._table.numbers
