"""Kernel of the detectors: goes through a run in time and asks who held what prompts begin with.

Compiled or loaded at import (`radix.jit`). Of each block only the last two workers that used it are
kept, so this costs nothing for fleets of any size. A worker is thought to hold a block surely while
it has stored fewer blocks since than half of its cache has: least recently used ones go first.
"""

from typing import Final

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.radix.jit import helper, kernel
from radixroute.replay.arrays import Cells

# Columns of what is found of each request; blocks.
HOLDER: Final = 0  # the worker that surely held most of the prompt when it was decided; -1: nobody
HELD: Final = 1  # blocks it held
MOVED: Final = 2  # computed elsewhere though no prompt was pending at the holder
COPIED: Final = 3  # computed elsewhere, whatever the holder did
WASTED: Final = 4  # of those, never found there by anybody
N_FOUND: Final = 5

# Rows of what is kept of each block.
_LAST: Final = 0  # the worker that used it last; -1: nobody
_LAST_STORED: Final = 1  # blocks that worker had stored by then
_BEFORE: Final = 2  # another that used it before that
_BEFORE_STORED: Final = 3
_COPY: Final = 4  # the request that made the latest copy of it, until it is found there
N_KEPT: Final = 5


@helper
def _is_held(kept: Numbers, node: int, row: int, stored: Numbers, total: Numbers) -> bool:
    worker = kept[row, node]
    return worker >= 0 and 2 * (stored[worker] - kept[row + 1, node]) < total[worker]  # type: ignore[no-any-return]


@helper
def _use(kept: Numbers, node: int, worker: int, stored: int) -> None:
    if kept[_LAST, node] != worker:
        kept[_BEFORE, node] = kept[_LAST, node]
        kept[_BEFORE_STORED, node] = kept[_LAST_STORED, node]
        kept[_LAST, node] = worker
    kept[_LAST_STORED, node] = stored


@kernel(
    "void(int64[::1], int32[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1], int64[::1], int64[::1], int64[:, ::1], int64[:, ::1])",
    makes_arrays=True,
)
def follow(
    first: Numbers,
    nodes: Cells,
    reusable: Numbers,
    worker_of: Numbers,
    cached: Numbers,
    outputs: Numbers,
    decided_ns: Numbers,
    first_ns: Numbers,
    by_first: Numbers,
    total: Numbers,
    kept: Numbers,
    found: Numbers,
) -> None:
    """Fills `found`, shape (N_FOUND, requests). Requests are in order of decision.

    `first`, `nodes`: their prompts, as in `Prefixes`. `reusable`, `cached`, `outputs`: blocks.
    `by_first`: requests in order of their first token. `total`: blocks of each worker's cache.
    `kept`: scratch, shape (N_KEPT, nodes), -1 everywhere.
    """
    stored = np.zeros(len(total), np.int64)  # blocks, ever
    pending = np.zeros(len(total), np.int64)  # prompts
    done = 0
    for request in range(len(worker_of) + 1):
        is_over = request == len(worker_of)  # what came last is still found, or not
        while done < len(by_first) and (is_over or first_ns[by_first[done]] <= decided_ns[request]):
            other = by_first[done]
            worker, begin = worker_of[other], first[other]
            pending[worker] -= 1
            stored[worker] += first[other + 1] - begin - cached[other] + outputs[other]
            for p in range(begin, first[other + 1]):
                node = nodes[p]
                copy = kept[_COPY, node]
                if p - begin < cached[other] and copy >= 0 and worker_of[copy] == worker:
                    found[WASTED, copy] -= 1
                    kept[_COPY, node] = -1
                _use(kept, node, worker, stored[worker])
            done += 1
        if is_over:
            break
        worker, begin = worker_of[request], first[request]
        holder, n_held = -1, 0
        for p in range(begin + reusable[request] - 1, begin - 1, -1):
            node = nodes[p]
            if _is_held(kept, node, _LAST, stored, total):
                holder, n_held = kept[_LAST, node], p - begin + 1
            elif _is_held(kept, node, _BEFORE, stored, total):
                holder, n_held = kept[_BEFORE, node], p - begin + 1
            if holder >= 0:
                break
        found[HOLDER, request], found[HELD, request] = holder, n_held
        if holder >= 0 and holder != worker and n_held > cached[request]:
            again = n_held - cached[request]
            found[COPIED, request] = again
            found[WASTED, request] = again
            if pending[holder] == 0:
                found[MOVED, request] = again
            for p in range(begin + cached[request], begin + n_held):
                kept[_COPY, nodes[p]] = request
        pending[worker] += 1
