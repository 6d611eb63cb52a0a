"""The counters add up, nothing is dropped without one, and what is shown is what is."""

from typing import TYPE_CHECKING

from radixroute.request.sampling import FinishReason
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Failure
from tests.simulation.glance import glance_of

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

_FAILURES = {
    Failure.NO_WORKERS: Count.NO_WORKERS,
    Failure.HOPELESS: Count.DEADLINES_HOPELESS,
    Failure.REFUSED: Count.WORKER_REFUSALS,
    Failure.NOT_RESUMABLE: Count.NOT_RESUMABLE,
    Failure.DEADLINE: Count.DEADLINES_PASSED,
    Failure.TOO_MANY_DEATHS: Count.DEATHS_EXHAUSTED,
    Failure.WORKER_ERROR: Count.WORKER_ERRORS,
}


_CONNECTED = ("live", "suspect", "draining")


class Counts:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        self._connected: set[str] = set()  # before the last input
        self._n_unheard = 0  # outputs in reports of workers without a session

    def after(self) -> None:
        edge = self._world.edge
        if edge.reported_by is not None and edge.reported_by not in self._connected:
            self._n_unheard += edge.n_reported
        if self._watchers.has_news:
            workers = self._watchers.glance.workers
            self._connected = {w.worker_id for w in workers if w.state in _CONNECTED}
        if self._watchers.has_news and self._watchers.is_slow_turn:
            self._look()

    def end(self) -> None:
        self._look()

    def _look(self) -> None:
        seen, tally = self._world.router.snapshot(), self._world.ledger.tally
        is_shown = glance_of(seen) == self._watchers.glance
        self._watchers.claim("shown", is_shown, "the snapshot of the router differs from it")
        counters = seen.counters
        pairs = {
            "finished": (
                counters[Count.REQUESTS_FINISHED], sum(tally[str(r)] for r in FinishReason)
            ),
            "failed": (counters[Count.REQUESTS_FAILED], sum(tally[str(f)] for f in Failure)),
            "aborted": (counters[Count.REQUESTS_ABORTED], tally["hung up"]),
            "submitted": (
                counters[Count.REQUESTS_FINISHED] + counters[Count.REQUESTS_FAILED]
                + counters[Count.REQUESTS_ABORTED] + counters[Count.LEASES_GRANTED]
                + seen.running,
                tally["submitted"],
            ),
            "deaths": (counters[Count.WORKERS_DIED], tally["dropped"]),
            "leases granted": (counters[Count.LEASES_GRANTED], tally["leases"]),
            "leases lapsed": (counters[Count.LEASES_LAPSED], tally["leases lapsed"]),
            "leases used": (counters[Count.LEASES_USED], tally["leases used"]),
            "full": (
                counters[Count.QUEUE_OVERFLOWED],
                tally[str(Failure.QUEUE_FULL)] + tally["refused at the door"],
            ),
            "sent back": (counters[Count.REQUESTS_SENT_BACK], tally["told FULL"]),
            "errors": (
                counters[Count.REQUESTS_RETRIED] + counters[Count.WORKER_ERRORS],
                tally["told ERROR"] - tally["cut off by an error"],
            ),
            "breakers": (counters[Count.BREAKERS_OPENED], tally["breakers"]),
            "outputs": (
                self._world.edge.n_deltas - self._n_unheard,
                tally["emitted"] - counters[Count.FINISHES_SYNTHESISED]
                + counters[Count.DELTAS_FENCED] + counters[Count.DELTAS_DUPLICATE]
                + counters[Count.DELTAS_MISPLACED]
                + sum(tally[f"told {how}"] for how in ("ABORT", "ERROR", "FULL", "INVALID")),
            ),
        }  # fmt: skip
        for failure, count in _FAILURES.items():
            pairs[str(failure)] = (counters[count], tally[str(failure)])
        for name, (counted, told) in pairs.items():
            text = f"{name}: {counted} counted, {told} happened"
            self._watchers.claim("counters", counted == told, text)
