"""Kernels of the bounds: caches that know the future, and one that does not. For `bounds` only.

A *position* is a place in `nodes`: a later position is a later request, or deeper in the same one.
A heap of positions is a max-heap in the first `n` cells of an array. Compiled or loaded at import
(`radix.jit`).
"""

import numpy as np

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.replay.arrays import Cells

_ONE, _NO_BITS = np.uint64(1), np.uint64(0)
_WORD, _IN_WORD = 6, 63  # 64 workers a word
_BEYOND = 1 << 62  # any position


@helper
def _push(heap: Numbers, n: int, value: int) -> None:
    """Adds to a heap of `n`; whoever calls counts."""
    place = n
    while place > 0 and heap[(place - 1) >> 1] < value:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = value


@helper
def _pop(heap: Numbers, n: int) -> int:
    """Takes the greatest from a heap of `n`; whoever calls counts."""
    greatest, value = heap[0], heap[n - 1]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= n - 1:
            break
        if child + 1 < n - 1 and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value
    return greatest  # type: ignore[no-any-return]


@kernel("int64(int64[::1], int32[::1], int64[::1], int64)", makes_arrays=True)
def count_repeats(first: Numbers, nodes: Cells, reusable: Numbers, n_nodes: int) -> int:
    """Reusable blocks that an earlier request had."""
    is_seen = np.zeros(n_nodes, np.bool_)
    hits = 0
    for request in range(len(reusable)):
        for p in range(first[request], first[request] + reusable[request]):
            hits += is_seen[nodes[p]]
        for p in range(first[request], first[request + 1]):
            is_seen[nodes[p]] = True
    return hits


@kernel(
    "int64(int64[::1], int32[::1], int64[::1], int64, int64[::1], int64)",
    makes_arrays=True,
)
def count_pooled_belady(
    first: Numbers,
    nodes: Cells,
    reusable: Numbers,
    n_nodes: int,
    moments: Numbers,
    capacity: int,
) -> int:
    """The most hits of a cache of `capacity` blocks. Requests stand in the order they begin.

    `moments`, in order of time: 2 r where request r begins, 2 r + 1 where it ends. A block is free
    of charge while a request that has it runs; from then to its next use it takes one place.
    """
    following = np.full(len(nodes), -1, np.int64)  # next position of the same node
    is_reusable = np.zeros(len(nodes), np.bool_)
    last = np.full(n_nodes, -1, np.int64)  # latest position of each node
    for request in range(len(reusable)):
        for p in range(first[request], first[request + 1]):
            is_reusable[p] = p - first[request] < reusable[request]
            if last[nodes[p]] >= 0:
                following[last[nodes[p]]] = p
            last[nodes[p]] = p
    users = np.zeros(n_nodes, np.int32)  # requests that run on it
    is_kept = np.zeros(len(nodes), np.bool_)  # until this position, which is one to come
    heap = np.empty(len(nodes), np.int64)
    # Positions that were reached stay in the heap: they are below all to come, never on its top.
    n_heap, n_kept, hits = 0, 0, 0
    for moment in moments:
        request = moment >> 1
        if moment & 1 == 0:
            for p in range(first[request], first[request + 1]):
                hits += is_reusable[p] and (is_kept[p] or users[nodes[p]] > 0)
                n_kept -= is_kept[p]
                is_kept[p] = False
                users[nodes[p]] += 1
                last[nodes[p]] = p
            continue
        for p in range(first[request], first[request + 1]):
            users[nodes[p]] -= 1
            use = following[last[nodes[p]]]
            if users[nodes[p]] == 0 and use >= 0 and is_reusable[use]:
                _push(heap, n_heap, use)
                n_heap += 1
                is_kept[use] = True
                n_kept += 1
        while n_kept > capacity:
            is_kept[_pop(heap, n_heap)] = False
            n_heap -= 1
            n_kept -= 1
    return hits


@helper
def _unlink(before: Cells, after: Cells, cell: int) -> None:
    after[before[cell]] = after[cell]
    before[after[cell]] = before[cell]


@kernel(
    "int64(int64[::1], int32[::1], int64[::1], int64, int64[::1], int64, int64[::1])",
    makes_arrays=True,
)
def count_pooled_lru(
    first: Numbers,
    nodes: Cells,
    reusable: Numbers,
    n_nodes: int,
    outputs: Numbers,
    capacity: int,
    hits: Numbers,
) -> int:
    """Hits of one least-recently-used cache; the end of a request's chain is its coldest block.

    `outputs`: blocks that each request adds behind its prompt, which nobody else has.
    Fills `hits` of each request, shape (requests,); returns their sum.
    """
    # A ring through cell 0: behind it the coldest. Node n is cell n + 1; then come output blocks.
    n_cells = 1 + n_nodes
    for n_output in outputs:
        n_cells += n_output
    before, after = np.zeros(n_cells, np.int32), np.zeros(n_cells, np.int32)
    is_held = np.zeros(n_cells, np.bool_)
    output = n_nodes + 1
    n_held, n_hits = 0, 0
    for request in range(len(reusable)):
        begin, end = first[request], first[request + 1]
        p = begin
        while p < begin + reusable[request] and is_held[nodes[p] + 1]:
            p += 1
        hits[request] = p - begin
        n_hits += p - begin
        for i in range(outputs[request] + end - begin):
            behind = i - outputs[request]
            # int64 either way: numba unifies, mypy does not.
            cell: int = output + i if behind < 0 else np.int64(nodes[end - 1 - behind] + 1)  # type: ignore[assignment]
            if is_held[cell]:
                _unlink(before, after, cell)
                n_held -= 1
            elif n_held == capacity:
                coldest = after[0]
                _unlink(before, after, coldest)
                is_held[coldest] = False
                n_held -= 1
            warmest = before[0]
            after[warmest], before[cell], after[cell], before[0] = cell, warmest, 0, cell
            is_held[cell] = True
            n_held += 1
        output += outputs[request]
    return n_hits


# -- one clairvoyant cache for each worker


@helper
def _is_set(bits: Keys, worker: int) -> bool:
    return (bits[worker >> _WORD] >> np.uint64(worker & _IN_WORD)) & _ONE != _NO_BITS  # type: ignore[no-any-return]


@helper
def _flip(bits: Keys, worker: int) -> None:
    bits[worker >> _WORD] ^= _ONE << np.uint64(worker & _IN_WORD)


@rare_helper
def _keep(heaps: Numbers, n_heap: Numbers, worker: int, use: int, now: int) -> None:
    """Notes a use to come. Uses up to `now` are dropped when the heap is full."""
    heap, n = heaps[worker], n_heap[worker]
    if n == len(heap):
        n = 0
        for i in range(len(heap)):
            if heap[i] > now:
                _push(heap, n, heap[i])
                n += 1
    _push(heap, n, use)
    n_heap[worker] = n + 1


@rare_helper
def _overlaps(path: Cells, n_reusable: int, held: Keys, overlaps: Numbers, going: Keys) -> None:
    """Leading blocks of the path that each worker holds, into `overlaps`."""
    overlaps[:] = 0
    going[:] = ~_NO_BITS
    for j in range(n_reusable):
        is_any = False
        for word in range(len(going)):
            going[word] &= held[path[j], word]
            is_any |= going[word] != _NO_BITS
        if not is_any:
            break
        for worker in range(len(overlaps)):
            overlaps[worker] += _is_set(going, worker)


@helper
def _is_held(held: Keys, node: int) -> bool:
    """By any worker."""
    bits = _NO_BITS
    for word in range(held.shape[1]):
        bits |= held[node, word]
    return bool(bits != _NO_BITS)


@rare_helper
def _find_following(
    first: Numbers, nodes: Cells, reusable: Numbers, next_of: Numbers, following: Numbers
) -> None:
    """`next_of`: one cell for each node, all -1."""
    for request in range(len(reusable) - 1, -1, -1):
        for p in range(first[request], first[request + 1]):
            following[p] = next_of[nodes[p]]
            if p - first[request] < reusable[request]:
                next_of[nodes[p]] = p


@rare_helper
def _choose(fresh: int, capacity: int, overlaps: Numbers, n_kept: Numbers, heaps: Numbers) -> int:
    """The worker with the most blocks found plus `fresh` ones with room; ties as `bounds` says."""
    best, best_value, best_slack = -1, -1, -1
    for worker in range(len(overlaps)):
        n_free = capacity - n_kept[worker]
        value = overlaps[worker] + min(fresh, n_free)
        # A full worker's: the last of the uses to come. Any free place is more than that.
        slack = _BEYOND + n_free if n_free > 0 else heaps[worker, 0]
        if value > best_value or (value == best_value and slack > best_slack):
            best, best_value, best_slack = worker, value, slack
    return best


@kernel("int64(int64[::1], int32[::1], int64[::1], int64, int64, int64)", makes_arrays=True)
def count_per_worker(
    first: Numbers, nodes: Cells, reusable: Numbers, n_nodes: int, workers: int, capacity: int
) -> int:
    """Hits of `workers` caches that evict what is used last, each request where `bounds` says."""
    following = np.full(len(nodes), -1, np.int64)  # next reusable position of the same node
    _find_following(first, nodes, reusable, np.full(n_nodes, -1, np.int64), following)
    most_blocks = 0
    for request in range(len(reusable)):
        most_blocks = max(most_blocks, first[request + 1] - first[request])
    words = (workers + _IN_WORD) >> _WORD
    held = np.zeros((n_nodes, words), np.uint64)  # bit w: worker w keeps it until its next use
    # Each holds at most `capacity` uses to come when a request begins, so pruning makes room.
    heaps = np.empty((workers, 2 * capacity + most_blocks + 1), np.int64)
    n_heap, n_kept = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    overlaps, going = np.zeros(workers, np.int64), np.zeros(words, np.uint64)
    hits = 0
    for request in range(len(reusable)):
        begin, end = first[request], first[request + 1]
        _overlaps(nodes[begin:end], reusable[request], held, overlaps, going)
        fresh = 0
        for p in range(begin, end):
            fresh += following[p] >= 0 and not _is_held(held, nodes[p])
        best = _choose(fresh, capacity, overlaps, n_kept, heaps)
        hits += overlaps[best]
        for p in range(begin, end):
            bits, use = held[nodes[p]], following[p]
            for worker in range(workers):
                if _is_set(bits, worker):
                    if use < 0:
                        _flip(bits, worker)
                        n_kept[worker] -= 1
                    elif p - begin < reusable[request]:
                        _keep(heaps, n_heap, worker, use, p)
                elif worker == best and use >= 0:
                    _flip(bits, worker)
                    n_kept[worker] += 1
                    _keep(heaps, n_heap, worker, use, p)
        while n_kept[best] > capacity:
            gone = _pop(heaps[best], n_heap[best])
            n_heap[best] -= 1
            n_kept[best] -= 1
            _flip(held[nodes[gone]], best)
    return hits
