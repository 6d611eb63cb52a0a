"""A simulated worker's KV blocks: which slot holds which prefix, who uses it, what goes first.

The same rules as `worker.cache` with least-recently-used eviction, on numbers instead of tokens: a
node is one prefix of the trace. Helpers of `fleet_kernels`, compiled into its kernels.
"""

import numpy as np

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.layout import PACKED_REMOVE, PACKED_STORE
from radixroute.replay import fleet_layout as at
from radixroute.replay.fleet_layout import Cells

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_STORE, _REMOVE = np.uint64(PACKED_STORE), np.uint64(PACKED_REMOVE)
_SPREAD = np.uint64(40)


@helper
def key_of(node: int) -> np.uint64:
    """The block key of a prefix: SplitMix64 of its number, so no two are equal and none is 0."""
    z = np.uint64(node + 1) * _GAMMA
    z = (z ^ (z >> _SHIFT_1)) * _MIX_1
    z = (z ^ (z >> _SHIFT_2)) * _MIX_2
    return z ^ (z >> _SHIFT_3)


# -- nodes to slots


@helper
def _home(node: int, mask: int) -> int:
    return np.int64(key_of(node) >> _SPREAD) & mask  # type: ignore[return-value]


@helper
def find(buckets: Cells, slots: Cells, node: int) -> int:
    """The slot that holds `node`; -1: none."""
    mask = len(buckets) - 1
    place = _home(node, mask)
    while buckets[place] != 0:
        slot = buckets[place] - 1
        if slots[slot, at.NODE] == node:
            return np.int64(slot)  # type: ignore[return-value]
        place = (place + 1) & mask
    return np.int64(-1)  # type: ignore[return-value]


@helper
def _put(buckets: Cells, node: int, slot: int) -> None:
    mask = len(buckets) - 1
    place = _home(node, mask)
    while buckets[place] != 0:
        place = (place + 1) & mask
    buckets[place] = slot + 1


@helper
def _take_out(buckets: Cells, slots: Cells, node: int) -> None:
    """Removes a node that is there, and moves up what stood behind it."""
    mask = len(buckets) - 1
    place = _home(node, mask)
    while slots[buckets[place] - 1, at.NODE] != node:
        place = (place + 1) & mask
    hole = place
    while True:
        place = (place + 1) & mask
        if buckets[place] == 0:
            break
        home = _home(slots[buckets[place] - 1, at.NODE], mask)
        if (place - home) & mask >= (place - hole) & mask:
            buckets[hole] = buckets[place]
            hole = place
    buckets[hole] = 0


# -- lists of slots


@helper
def push_free(worker: Numbers, slots: Cells, slot: int) -> None:
    slots[slot, at.AFTER] = worker[at.FREE_HEAD]
    worker[at.FREE_HEAD] = slot
    worker[at.N_FREE] += 1


@helper
def _push_cold(worker: Numbers, slots: Cells, slot: int) -> None:
    """As the warmest of the cold."""
    tail = worker[at.COLD_TAIL]
    slots[slot, at.BEFORE] = tail
    slots[slot, at.AFTER] = -1
    if tail >= 0:
        slots[tail, at.AFTER] = slot
    else:
        worker[at.COLD_HEAD] = slot
    worker[at.COLD_TAIL] = slot
    worker[at.N_COLD] += 1


@helper
def _pull_cold(worker: Numbers, slots: Cells, slot: int) -> None:
    before, after = slots[slot, at.BEFORE], slots[slot, at.AFTER]
    if before >= 0:
        slots[before, at.AFTER] = after
    else:
        worker[at.COLD_HEAD] = after
    if after >= 0:
        slots[after, at.BEFORE] = before
    else:
        worker[at.COLD_TAIL] = before
    worker[at.N_COLD] -= 1


@helper
def use(worker: Numbers, slots: Cells, slot: int) -> None:
    if slots[slot, at.USERS] == 0:
        _pull_cold(worker, slots, slot)
    slots[slot, at.USERS] += 1


# -- what the router is told


@helper
def _word(words: Keys, cursors: Numbers, word: np.uint64) -> None:
    n = cursors[at.N_WORDS]
    words[n] = word
    cursors[at.N_WORDS] = n + 1


@helper
def _head(words: Keys, cursors: Numbers, kind: np.uint64, parent: np.uint64) -> int:
    """Begins an event without keys; where its count stands."""
    _word(words, cursors, kind)
    _word(words, cursors, parent)
    _word(words, cursors, np.uint64(0))
    return cursors[at.N_WORDS] - 1  # type: ignore[no-any-return]


# -- blocks


@helper
def _evict(worker: Numbers, slots: Cells, buckets: Cells, limits: Numbers) -> int:
    """The coldest block's slot, empty."""
    slot = worker[at.COLD_HEAD]
    _pull_cold(worker, slots, slot)
    node = slots[slot, at.NODE]
    if node < limits[at.N_UNIQUE_FROM]:
        _take_out(buckets, slots, node)
    worker[at.N_EVICTED] += 1
    return slot  # type: ignore[no-any-return]


@rare_helper
def allocate(
    count: int,
    worker: Numbers,
    slots: Cells,
    buckets: Cells,
    limits: Numbers,
    words: Keys,
    cursors: Numbers,
) -> int:
    """`count` empty slots, linked by AFTER; the first, -1 for none. Evicts what must go."""
    first, removed_at = -1, -1
    for _ in range(count):
        slot = worker[at.FREE_HEAD]
        if slot >= 0:
            worker[at.FREE_HEAD] = slots[slot, at.AFTER]
            worker[at.N_FREE] -= 1
        else:
            slot = worker[at.COLD_HEAD]
            gone = key_of(slots[slot, at.NODE])
            _evict(worker, slots, buckets, limits)
            if cursors[at.IS_TOLD]:
                if removed_at < 0:
                    removed_at = _head(words, cursors, _REMOVE, np.uint64(0))
                _word(words, cursors, gone)
                words[removed_at] += np.uint64(1)
        slots[slot, at.AFTER] = first
        first = slot
    return first


@rare_helper
def publish(
    request: Numbers,
    full: int,
    fresh: int,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    buckets: Cells,
    limits: Numbers,
    words: Keys,
    cursors: Numbers,
) -> int:
    """Makes the request's first `full` blocks cached ones; `fresh`: slots to fill. The rest."""
    stored_at = -1
    while request[at.N_CHAINED] < full:
        j = request[at.N_CHAINED]
        slot = request[at.PARTIAL]
        if slot >= 0:
            request[at.PARTIAL] = -1
        else:
            slot = fresh
            fresh = slots[slot, at.AFTER]
        is_prompt = j < request[at.N_NODES]
        if is_prompt:
            node = int(nodes[request[at.FIRST_NODE] + j])
            held = find(buckets, slots, node)
            if held >= 0:
                # Another's copy is there already: share it; ours is written until the pass ends.
                use(worker, slots, held)
                slots[slot, at.AFTER] = worker[at.TWIN_HEAD]
                worker[at.TWIN_HEAD] = slot
                request[at.LEAF] = held
                request[at.N_CHAINED] = j + 1
                stored_at = -1
                continue
            _put(buckets, node, slot)
        else:
            node = limits[at.N_UNIQUE_FROM] + cursors[at.N_UNIQUE]
            cursors[at.N_UNIQUE] += 1
        if cursors[at.IS_TOLD]:
            if stored_at < 0:
                leaf = request[at.LEAF]
                parent = np.uint64(0)
                if leaf >= 0:
                    parent = key_of(slots[leaf, at.NODE])
                stored_at = _head(words, cursors, _STORE, parent)
            _word(words, cursors, key_of(node))
            words[stored_at] += np.uint64(1)
        slots[slot, at.NODE] = node
        slots[slot, at.PARENT] = request[at.LEAF]
        slots[slot, at.USERS] = 1
        request[at.LEAF] = slot
        request[at.N_CHAINED] = j + 1
    return fresh


@rare_helper
def release(request: Numbers, worker: Numbers, slots: Cells) -> None:
    """Gives its blocks up, the end of the prompt first: it is evicted first."""
    if request[at.PARTIAL] >= 0:
        push_free(worker, slots, request[at.PARTIAL])
        request[at.PARTIAL] = -1
    slot = request[at.LEAF]
    while slot >= 0:
        slots[slot, at.USERS] -= 1
        if slots[slot, at.USERS] == 0:
            _push_cold(worker, slots, slot)
        slot = slots[slot, at.PARENT]
    request[at.LEAF] = -1
    request[at.N_CHAINED] = 0
