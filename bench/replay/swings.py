"""Swings: whether work goes to and fro between workers. Pure: a run in, numbers out.

Routers that hear of each other four times a second may all send to the worker that seemed free, and
then all to another: too much waits on one worker while others have nothing, and who was given much
in one quarter of a second is given little in the next. Two numbers for that, each to be compared
with those of one router over the same requests:

    swing         prompts' worth of work that waits on the fullest worker beyond the mean one, in
                  the mean over the time in which any waits
    given again   correlation of a worker's share of what is given in one window with its share in
                  the next; to and fro makes it less than one router's
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from radixroute.replay.results import RunResult

WINDOW_NS: Final = 250_000_000


def swing(run: RunResult) -> float:
    """Prompts."""
    tokens, n = _uncached(run), _windows(run)
    change = np.zeros((n + 1, run.workers))
    np.add.at(change, (run.decided_ns // WINDOW_NS, run.worker), tokens)
    np.add.at(change, (run.first_ns // WINDOW_NS, run.worker), -tokens)
    waits = change.cumsum(0)
    waits = waits[waits.sum(1) > 0.5]
    beyond = (waits.max(1) - waits.mean(1)).mean() if len(waits) else 0.0
    return float(beyond / max(1.0, tokens.mean()))


def given_again(run: RunResult) -> float:
    """From -1 to 1; 0 where nothing is given in two windows in a row."""
    given = np.zeros((_windows(run), run.workers))
    np.add.at(given, (run.decided_ns // WINDOW_NS, run.worker), _uncached(run))
    total = given.sum(1, keepdims=True)
    share = np.divide(given, total, out=np.zeros_like(given), where=total > 0)
    beyond = np.where(total > 0, share - share.mean(0), 0.0)
    spread = float((beyond**2).sum())
    return float((beyond[1:] * beyond[:-1]).sum()) / spread if spread else 0.0


def _uncached(run: RunResult) -> NDArray[np.float64]:
    return (run.trace.input_tokens - run.cached_tokens).astype(np.float64)


def _windows(run: RunResult) -> int:
    return int(run.first_ns.max() // WINDOW_NS) + 1
