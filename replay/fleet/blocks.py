"""KV blocks of a simulated worker: which slot holds which prefix, and what the router hears of it.

The same rules as `worker.engine.cache`, on numbers instead of tokens: a node is one prefix of the
trace, a slot a place in the pool that holds one block. What may be evicted is the business of
`runs`. Helpers of `kernels`, compiled into them.
"""

import numpy as np

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.index.layout import PACKED_REMOVE, PACKED_STORE
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.mixing_kernels import GAMMA_WORD, finalise_word
from radixroute.replay.arrays import Cells
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.runs import cut, evict, grow, pin, run_at, unpin

_STORE, _REMOVE = np.uint64(PACKED_STORE), np.uint64(PACKED_REMOVE)
_SPREAD = np.uint64(40)
_LOW = 0xFFFFFFFF


@helper
def key_of(node: int) -> np.uint64:
    """The block key of a prefix: SplitMix64 of its number, so no two are equal and none is 0."""
    return finalise_word(np.uint64(node + 1) * GAMMA_WORD)


# -- nodes to slots: an entry is node << 32 | slot + 1


@helper
def _home(node: int, mask: int) -> int:
    """Nodes are numbered along prompts: eight neighbours share a line of memory."""
    group = np.int64((np.uint64(node >> 3) * GAMMA_WORD) >> _SPREAD)
    return (group << 3 | (node & 7)) & mask  # type: ignore[return-value]


@helper
def find(buckets: Numbers, node: int) -> int:
    """The slot that holds `node`; -1: none."""
    mask = len(buckets) - 1
    place = _home(node, mask)
    while buckets[place] != 0:
        if buckets[place] >> 32 == node:
            return (buckets[place] & _LOW) - 1  # type: ignore[no-any-return]
        place = (place + 1) & mask
    return np.int64(-1)  # type: ignore[return-value]


@helper
def _put(buckets: Numbers, node: int, slot: int) -> None:
    mask = len(buckets) - 1
    place = _home(node, mask)
    while buckets[place] != 0:
        place = (place + 1) & mask
    buckets[place] = np.int64(node) << 32 | (slot + 1)


@helper
def _take_out(buckets: Numbers, node: int) -> None:
    """Removes a node that is there, and moves up what stood behind it."""
    mask = len(buckets) - 1
    place = _home(node, mask)
    while buckets[place] >> 32 != node:
        place = (place + 1) & mask
    hole = place
    while True:
        place = (place + 1) & mask
        if buckets[place] == 0:
            break
        home = _home(buckets[place] >> 32, mask)
        if (place - home) & mask >= (place - hole) & mask:
            buckets[hole] = buckets[place]
            hole = place
    buckets[hole] = 0


# -- free slots


@helper
def push_free(worker: Numbers, slots: Cells, slot: int) -> None:
    slots[slot, at.AFTER] = worker[at.FREE_HEAD]
    worker[at.FREE_HEAD] = slot
    worker[at.N_FREE] += 1


@helper
def free_duplicates(worker: Numbers, slots: Cells) -> None:
    """The step is over: nobody writes to second copies any more."""
    slot = worker[at.DUPLICATE_HEAD]
    while slot >= 0:
        after = slots[slot, at.AFTER]
        push_free(worker, slots, slot)
        slot = after
    worker[at.DUPLICATE_HEAD] = -1


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
def node_at(request: Numbers, nodes: Cells, j: int) -> int:
    """The node of its full block `j`: of its prompt, then those of the output, its own alone."""
    if j < request[at.N_NODES]:
        return np.int64(nodes[request[at.FIRST_NODE] + j])  # type: ignore[return-value]
    return request[at.FIRST_OUTPUT] + j - request[at.N_NODES]  # type: ignore[no-any-return]


@rare_helper
def allocate(
    count: int,
    worker: Numbers,
    slots: Cells,
    runs: Numbers,
    buckets: Numbers,
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
            slot = evict(worker, slots, runs)
            gone = slots[slot, at.NODE]
            _take_out(buckets, gone)
            if cursors[at.KEEPS_EVENTS]:
                if removed_at < 0:
                    removed_at = _head(words, cursors, _REMOVE, np.uint64(0))
                _word(words, cursors, key_of(gone))
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
    runs: Numbers,
    buckets: Numbers,
    words: Keys,
    cursors: Numbers,
) -> int:
    """Makes the request's first `full` blocks cached ones; `fresh`: slots to fill. The rest."""
    above, leaf, j = run_at(slots, request[at.LEAF]), request[at.LEAF], request[at.N_CHAINED]
    own = request[at.PARTIAL]
    if own >= 0 and j < full:
        slots[own, at.AFTER] = fresh
        fresh, request[at.PARTIAL] = own, -1
    while j < full:
        held = find(buckets, node_at(request, nodes, j))
        if held < 0:
            break
        # Another's copy is there already: share it; ours is written until the step ends.
        own, fresh = fresh, slots[fresh, at.AFTER]
        slots[own, at.AFTER] = worker[at.DUPLICATE_HEAD]
        worker[at.DUPLICATE_HEAD] = own
        leaf = held
        j += 1
    if j > request[at.N_CHAINED]:
        run = cut(worker, slots, runs, leaf, j)
        pin(worker, runs, run, above)
        above = run
    if j < full:
        run = grow(worker, runs, above, full)
        count_at = -1
        if cursors[at.KEEPS_EVENTS]:
            parent = key_of(slots[leaf, at.NODE]) if leaf >= 0 else np.uint64(0)
            count_at = _head(words, cursors, _STORE, parent)
            words[count_at] = np.uint64(full - j)
        for k in range(j, full):
            slot, fresh = fresh, slots[fresh, at.AFTER]
            node = node_at(request, nodes, k)
            _put(buckets, node, slot)
            if count_at >= 0:
                _word(words, cursors, key_of(node))
            slots[slot, at.NODE] = node
            slots[slot, at.PARENT] = leaf
            slots[slot, at.RUN] = run
            leaf = slot
        runs[run, at.TAIL] = leaf
        worker[at.N_STORED] += full - j
    request[at.LEAF] = leaf
    request[at.N_CHAINED] = full
    return fresh


@rare_helper
def release(
    request: Numbers, worker: Numbers, slots: Cells, runs: Numbers, now_ns: int, session_uses: int
) -> None:
    """Gives its blocks up; full ones stay cached, as used until now. `session_uses`: of `unpin`."""
    if request[at.PARTIAL] >= 0:
        push_free(worker, slots, request[at.PARTIAL])
        request[at.PARTIAL] = -1
    unpin(worker, runs, run_at(slots, request[at.LEAF]), now_ns, session_uses)
    request[at.LEAF] = -1
    request[at.N_CHAINED] = 0
