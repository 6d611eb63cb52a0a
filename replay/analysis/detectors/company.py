"""Company: answers slowed by others, and prompts that waited, while some worker had nothing. Pure.

Answers. A least-squares line through all requests, time between tokens over the mean number that
answered beside it (itself included), says what company costs here. Spread evenly over all workers,
a request would have had the mean company of the fleet at its time, one at least; what is more than
that, for as long as somebody idled, is the share of all time between tokens that is reported.

Prompts. Whoever waited from its arrival until an idle worker could have begun with it, and would
have had its first token sooner there though all of its prompt is computed, lost the difference.
"""

import numpy as np

from radixroute.replay.analysis.detectors.occupancy import Occupancy
from radixroute.replay.findings import Finding

# Below these nobody would do anything about it: shares of all time between tokens, and of all time
# to first tokens.
LEAST_SLOWED = 0.1
LEAST_WAITED = 0.05
# Differences below these are within how well a line says what a prompt takes.
_CLEAR_NS = 20e6
_CLEAR_SHARE = 0.2
_ENOUGH = 20  # answers that differ in company


def slowed_by_company(seen: Occupancy) -> Finding | None:
    share, extra = _slowed(seen)
    if share < LEAST_SLOWED:
        return None
    sentence = (
        f"answers took {share:.0%} longer between tokens than with requests spread evenly: while"
        f" some worker had nothing to do, others answered {extra:.1f} more at a time than they had"
        " to"
    )
    return Finding("slowed_by_company", sentence, share)


def _slowed(seen: Occupancy) -> tuple[float, float]:
    """The share of time between tokens, and the mean company that was too much."""
    gaps = seen.output_tokens - 1
    long = (gaps > 0) & (seen.finish_ns > seen.first_ns)
    if long.sum() < _ENOUGH or seen.n_workers < 2:
        return 0.0, 0.0
    start, end = seen.first_ns[long], seen.finish_ns[long]
    spent = (end - start).astype(np.float64)
    company = np.ones(len(spent))
    for worker in range(seen.n_workers):
        mine = seen.worker[long] == worker
        beside = seen.answering(worker, end[mine]) - seen.answering(worker, start[mine])
        company[mine] = beside / spent[mine]
    everybody = (seen.answering(None, end) - seen.answering(None, start)) / spent
    too_much = np.maximum(0.0, company - np.maximum(1.0, everybody / seen.n_workers))
    idle = seen.idle.within(start, end) / spent
    weight = gaps[long].astype(np.float64)
    mean = float(np.average(company, weights=weight))
    variance = float(np.average((company - mean) ** 2, weights=weight))
    if variance < 1e-6:
        return 0.0, 0.0
    itl = spent / weight
    each = float(np.average((company - mean) * itl, weights=weight)) / variance
    lost = max(0.0, each) * float((too_much * idle * weight).sum())
    extra = float(np.average(too_much, weights=np.maximum(idle * weight, 1e-12)))
    return lost / float(spent.sum()), extra


def waited_beside_idle(seen: Occupancy) -> Finding | None:
    share, n = _waited(seen)
    if share < LEAST_WAITED:
        return None
    sentence = (
        f"{n:,} of {len(seen):,} prompts waited while a worker that had nothing to do would have"
        f" given a first token sooner: {share:.0%} of all time to first tokens"
    )
    return Finding("waited_beside_idle", sentence, share)


def _waited(seen: Occupancy) -> tuple[float, int]:
    """The share of time to first tokens that was lost, and of how many requests."""
    if seen.line is None:
        return 0.0, 0
    moment = seen.idle.first_moment(seen.arrival_ns)
    waited = moment < seen.start_ns
    whole = seen.line.of(seen.input_tokens)
    lost = (seen.first_ns - np.minimum(moment, seen.first_ns)).astype(np.float64) - whole
    counts = waited & (lost > np.maximum(_CLEAR_NS, _CLEAR_SHARE * whole))
    all_ns = float((seen.first_ns - seen.arrival_ns).sum())
    return float(lost[counts].sum()) / max(all_ns, 1.0), int(counts.sum())
