"""Kernels of miss attribution: through a run in time, asking at each decision who held what.

Compiled or loaded at import (`radix.jit`). `ids` are the nodes that could be known at a
decision, numbered anew; -1 stands for all others, which nobody can hold then.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.replay.analysis import misses_layout as at
from radixroute.replay.arrays import Cells

_ONE, _NO_BITS = np.uint64(1), np.uint64(0)
_WORD, _IN_WORD = 6, 63  # 64 workers a word


@helper
def _bit(worker: int) -> np.uint64:
    return _ONE << np.uint64(worker & _IN_WORD)


@rare_helper
def _look(
    ids: Cells,
    worker: int,
    held: Keys,
    coming: Keys,
    is_seen: NDArray[np.bool_],
    going: Keys,
    reach: Numbers,
) -> None:
    """How far each account reaches along the prompt; `going`: workers not yet fallen behind."""
    reach[:] = 0
    going[:] = ~_NO_BITS
    word_of, bit = worker >> _WORD, _bit(worker)
    for j in range(len(ids)):
        node = ids[j]
        if node < 0:
            break
        is_held, is_coming = False, False
        for word in range(going.shape[1]):
            going[0, word] &= held[node, word]
            going[1, word] &= held[node, word] | coming[node, word]
            is_held |= going[0, word] != _NO_BITS
            is_coming |= going[1, word] != _NO_BITS
        if is_held:
            reach[at.ANY_HELD] = j + 1
        if is_coming:
            reach[at.ANY_COMING] = j + 1
        if going[0, word_of] & bit != _NO_BITS:
            reach[at.CHOSEN_HELD] = j + 1
        if going[1, word_of] & bit != _NO_BITS:
            reach[at.CHOSEN_COMING] = j + 1
        if is_seen[node] and reach[at.SEEN] == j:
            reach[at.SEEN] = j + 1
        if not is_coming and reach[at.SEEN] <= j:
            break


@helper
def _why_not_there(block: int, belief: Numbers) -> int:
    """Why the router did not choose a worker that held it."""
    if block < belief[at.FORGOTTEN]:
        return at.INDEX_FORGOT
    return at.NOT_CHOSEN if block < belief[at.BEST] else at.STALE_INDEX


@helper
def _class_of(block: int, reach: Numbers, belief: Numbers) -> int:
    """Why this block, which was not found at admission, was not. The order is that of `misses`."""
    if block < reach[at.CHOSEN_HELD]:
        return at.EVICTED_BEFORE_ADMISSION
    if reach[at.CHOSEN_COMING] <= block < belief[at.PREDICTED]:
        return at.STALE_INDEX
    if block < reach[at.ANY_HELD]:
        return _why_not_there(block, belief)
    if block < reach[at.ANY_COMING]:
        return at.BEING_COMPUTED
    if block >= reach[at.SEEN]:
        return at.SCOPE_MISMATCH if block < belief[at.OTHER_SCOPE] else at.NEVER_SEEN
    return at.EVICTED_EVERYWHERE


@rare_helper
def _change(
    node: int, worker: int, is_stored: bool, held: Keys, is_seen: NDArray[np.bool_]
) -> None:
    """A cache changed."""
    word, bit = worker >> _WORD, _bit(worker)
    if node < 0:
        if not is_stored:
            for i in range(len(held)):
                held[i, word] &= ~bit
    elif is_stored:
        held[node, word] |= bit
        is_seen[node] = True
    else:
        held[node, word] &= ~bit


@rare_helper
def _expect(path: Cells, worker: int, change: int, n_coming: Cells, coming: Keys) -> None:
    """One request more (`change` 1) or less (-1) is about to compute this path there."""
    word, bit = worker >> _WORD, _bit(worker)
    for node in path:
        if node >= 0:
            n_coming[node, worker] += change
            coming[node, word] |= bit
            if n_coming[node, worker] == 0:
                coming[node, word] ^= bit


@kernel(
    "void(int64[::1], int32[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1], int64[::1], int64[::1], int32[::1], boolean[::1], uint64[:, ::1],"
    " uint64[:, ::1], int32[:, ::1], boolean[::1], int64[:, ::1])",
    makes_arrays=True,
)
def look(
    first: Numbers,
    ids: Cells,
    reusable: Numbers,
    workers_of: Numbers,
    decided: Numbers,
    decided_ns: Numbers,
    ended: Numbers,
    end_ns: Numbers,
    event_ns: Numbers,
    event_worker: Numbers,
    event_node: Cells,
    is_stored: NDArray[np.bool_],
    held: Keys,
    coming: Keys,
    n_coming: Cells,
    is_seen: NDArray[np.bool_],
    reached: Numbers,
) -> None:
    """What each request's blocks reach when it is decided on, into its row of `reached`.

    `decided`, `ended`: requests in the order in which they were sent and had computed their prompt;
    a request is in the second if it was in the first, now or before, with an end after it.
    `held`, `coming`, `n_coming`, `is_seen`: what is so before, and afterwards; rows are ids,
    columns words of workers' bits, or workers. What is given may be any part of a run, in order: a
    part ends when all its events and ends have come. An event without a node (-1) that is no store
    clears its worker.
    """
    words = held.shape[1]
    going, reach = np.zeros((2, words), np.uint64), np.zeros(at.REACH_LEN, np.int64)
    e, done = 0, 0
    for request in decided:
        now_ns = decided_ns[request]
        while e < len(event_ns) and event_ns[e] < now_ns:
            _change(event_node[e], event_worker[e], is_stored[e], held, is_seen)
            e += 1
        while done < len(ended) and end_ns[ended[done]] <= now_ns:
            other = ended[done]
            path = ids[first[other] : first[other + 1]]
            _expect(path, workers_of[other], -1, n_coming, coming)
            done += 1
        worker, begin = workers_of[request], first[request]
        path = ids[begin : begin + reusable[request]]
        _look(path, worker, held, coming, is_seen, going, reach)
        reached[request] = reach
        if end_ns[request] > now_ns:
            _expect(ids[begin : first[request + 1]], worker, 1, n_coming, coming)
    for later in range(e, len(event_ns)):
        _change(event_node[later], event_worker[later], is_stored[later], held, is_seen)
    for later in range(done, len(ended)):
        other = ended[later]
        path = ids[first[other] : first[other + 1]]
        _expect(path, workers_of[other], -1, n_coming, coming)


@kernel("void(int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64, int64[:, ::1])")
def classify(
    reusable: Numbers,
    cached: Numbers,
    reached: Numbers,
    beliefs: Numbers,
    block_size: int,
    missed: Numbers,
) -> None:
    """Adds each reusable token that was not cached to its class in `missed`.

    `reached`: of `look`, and `beliefs`, shape (requests, BELIEF_LEN): leading blocks. `cached` is
    -1 for those that were never admitted: they lose nothing.
    """
    for request in range(len(cached)):
        n_cached = cached[request]
        if n_cached >= 0:
            for j in range(n_cached // block_size, reusable[request]):
                why = _class_of(j, reached[request], beliefs[request])
                tokens = (j + 1) * block_size - max(n_cached, j * block_size)
                missed[request, why] += tokens
