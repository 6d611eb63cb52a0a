"""Lodestar (Lim et al., arXiv 2606.00946): a predictor of the time to first token, learned online
from the ones observed; the worker with the lowest prediction gets the request.

    cost = weights . features of the request on the worker, times how slow that worker was of late
    features: uncached, queued and prompt tokens, requests without and with a first token, products

One set of weights for all workers, fitted to what was seen lately, anew each REFIT first tokens;
until the first fit the lowest (uncached + queued tokens) * (requests in flight + 1) goes.

The paper's predictor is a network of three layers, trained anew each 1,000 samples on the last
5,000 and on 5,000 that differ most; it finds least squares of plain features worse. Here: least
squares of features and their products, over fading sums of as many samples, which is the same on
every machine and costs a decision no more than a formula. No weight is below 0: where nothing was
seen yet, more load is never thought to be sooner (with weights of either sign long queues were, and
grew; the paper falls back to a formula there). The kind of GPU, a feature there, is not told here:
each worker has the ratio of what its first tokens took to what was predicted of them. Left out:
the choice between two hashed workers while memory is nearly full.
"""

from operator import mul
from typing import NamedTuple, TypeAlias

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.forecast import cheapest
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import Dispatched, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Numbers, Scores, View
from radixroute.router.workers.load import BookingId

MEMORY = 5000.0  # samples: the paper's
FIRST_FIT = 100  # samples; the paper waits for 5,000, more than most traces here have
REFIT = 50  # samples between fits; a fit takes half a millisecond
SWEEPS = 60  # over all weights in a fit, which begins with the weights of the last one
# A worker's ratio: of its last samples, leaning on 1 like so many usual ones.
PACE_MEMORY = 50.0
PACE_LEAN = 4.0
_TOKENS = 1e-3  # features are of thousands of tokens: sums of their squares stay comparable

N_FEATURES = 10
Features: TypeAlias = tuple[float, ...]


class Fitted(NamedTuple):
    """What a decision goes by."""

    weights: Numbers  # shape (N_FEATURES, 1), milliseconds
    paces: Numbers  # of each worker, shape (workers,): times slower than predicted


class Sample(NamedTuple):
    """A prompt whose first token has not come yet."""

    worker_id: WorkerId
    features: Features
    sent_ns: int


class Pace:
    """How slow one worker was of late, in fading sums."""

    __slots__ = ("predicted_ms", "took_ms")

    def __init__(self) -> None:
        self.took_ms = self.predicted_ms = 0.0

    def observe(self, took_ms: float, predicted_ms: float) -> None:
        keep = 1.0 - 1.0 / PACE_MEMORY
        self.took_ms = self.took_ms * keep + took_ms
        self.predicted_ms = self.predicted_ms * keep + predicted_ms

    def ratio(self, usual_ms: float) -> float:
        lean = PACE_LEAN * usual_ms
        return (self.took_ms + lean) / (self.predicted_ms + lean) if lean > 0.0 else 1.0


class Predictor:
    """Least squares over what first tokens took, and the pace of each worker."""

    def __init__(self) -> None:
        self.weights: Numbers | None = None  # shape (N_FEATURES, 1)
        self._squares = np.zeros((N_FEATURES, N_FEATURES))  # fading sums
        self._times = np.zeros(N_FEATURES)
        self._n = 0
        self._usual_ms = 0.0
        self._paces: dict[WorkerId, Pace] = {}

    def fitted(self, worker_ids: tuple[WorkerId, ...]) -> Fitted | None:
        """None: too little was seen. O(workers)."""
        if self.weights is None:
            return None
        return Fitted(self.weights, np.array([self.pace(worker_id) for worker_id in worker_ids]))

    def pace(self, worker_id: WorkerId) -> float:
        known = self._paces.get(worker_id)
        return 1.0 if known is None else known.ratio(self._usual_ms)

    def observe(self, sample: Sample, took_ms: float) -> None:
        """The first token came. O(1)."""
        row = np.array(sample.features)
        pace = self.pace(sample.worker_id)
        if self.weights is not None:
            predicted_ms = float(np.add.reduce(row * self.weights[:, 0]))
            if predicted_ms > 0.0:
                paces = self._paces.setdefault(sample.worker_id, Pace())
                paces.observe(took_ms, predicted_ms)
        keep = 1.0 - 1.0 / MEMORY
        self._squares = self._squares * keep + row[:, None] * row
        # As a worker at the usual pace would have taken: what one is slower is no other's.
        self._times = self._times * keep + row * (took_ms / pace)
        self._usual_ms += (took_ms - self._usual_ms) / min(MEMORY, self._n + 1.0)
        self._n += 1
        if self._n >= FIRST_FIT and self._n % REFIT == 0:
            before = [0.0] * N_FEATURES if self.weights is None else self.weights[:, 0].tolist()
            found = solved(self._squares.tolist(), self._times.tolist(), before)
            weights = np.array(found)[:, None]
            weights.setflags(write=False)
            self.weights = weights

    def forget(self, worker_id: WorkerId) -> None:
        self._paces.pop(worker_id, None)

    def check(self) -> None:
        if not (np.isfinite(self._squares).all() and np.isfinite(self._times).all()):
            raise BrokenInvariant("lodestar: a sum of samples is not a number")


class Lodestar(AtOnce):
    """Asks the predictor, and tells it what first tokens took."""

    def __init__(self, parts: PolicyParts) -> None:
        super().__init__(
            parts, pick, own=self._fitted, on_dispatch=self._sent, on_settle=self._settled
        )
        self.predictor = Predictor()
        self._waiting: dict[BookingId, Sample] = {}

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        sample = self._waiting.pop(booking, None)
        if sample is not None:
            self.predictor.observe(sample, (now_ns - sample.sent_ns) / 1e6)

    def forget(self, worker_id: WorkerId) -> None:
        self.predictor.forget(worker_id)

    def check(self) -> None:
        self.predictor.check()

    def _fitted(self, ask: Ask, snapshot: Snapshot, view: View) -> Fitted | None:
        return self.predictor.fitted(view.worker_ids)

    def _sent(self, dispatched: Dispatched) -> None:
        decision = dispatched.decision
        row = tuple(features(decision.view)[:, decision.chosen].tolist())
        self._waiting[dispatched.booking] = Sample(decision.worker_id, row, dispatched.now_ns)

    def _settled(self, booking: BookingId) -> None:
        self._waiting.pop(booking, None)


def pick(view: View) -> Choice:
    """A fixed number of array operations."""
    fitted: Fitted | None = view.own
    if fitted is None:
        work = (view.uncached_tokens + view.queued_tokens) * (view.in_flight + 1.0)
        scores = Scores(("work",), ("tokens * requests",), work[None, :])
        reason = "Too few first tokens were seen to predict: here is the least work."
        return Choice(cheapest(scores.totals, view.draw), reason, scores)
    predicted = np.add.reduce(features(view) * fitted.weights)
    slower = predicted * (fitted.paces - 1.0)
    scores = Scores(("predicted", "own_pace"), ("ms", "ms"), np.stack((predicted, slower)))
    return Choice(cheapest(scores.totals, view.draw), "", scores)


def features(view: View) -> Numbers:
    """Of the request on each worker, shape (N_FEATURES, workers)."""
    decoding = view.table[at.DECODING]
    uncached, queued = view.uncached_tokens * _TOKENS, view.queued_tokens * _TOKENS
    rows = np.empty((N_FEATURES, len(decoding)))
    rows[0] = 1.0
    rows[1] = uncached
    rows[2] = queued
    rows[3] = uncached * uncached
    rows[4] = queued * queued
    rows[5] = view.in_flight - decoding  # without a first token
    rows[6] = decoding
    rows[7] = uncached * decoding
    rows[8] = queued * decoding
    rows[9] = uncached * (view.prompt_tokens * _TOKENS)
    return rows


def solved(
    squares: list[list[float]], times: list[float], weights: list[float], sweeps: int = SWEEPS
) -> list[float]:
    """Least squares of sums with no weight below 0, by coordinate descent from `weights`. Plain
    arithmetic in one order: libraries have others on other processors, and a replay must be the
    same on all of them."""
    found = list(weights)
    for _ in range(sweeps):
        for i, row in enumerate(squares):
            if row[i] > 0.0:
                others = sum(map(mul, row, found)) - row[i] * found[i]
                found[i] = max(0.0, (times[i] - others) / row[i])
    return found


POLICIES: dict[str, PolicyFactory] = {"lodestar": Lodestar}
