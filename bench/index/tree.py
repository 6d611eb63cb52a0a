"""The worker's `RadixTree` over the trace as symbols: match, insert and evict under pressure.

Under each eviction policy: `tree.` under LRU, `tree.lfu.` and so on under the others.
"""

import time
from collections.abc import Iterator
from statistics import median

from bench.index.trace import BLOCK_SIZE, load_trace
from bench.rows import Row, alone
from radixroute.radix.tree.eviction import EVICTION_POLICIES, LRU, eviction_named
from radixroute.radix.tree.radix_tree import RadixTree

CAPACITY = 4096  # symbols, as blocks of a pool


def rows(rounds: int) -> Iterator[Row]:
    """Blocks a second of each operation, and microseconds of all three a request."""
    requests = load_trace()
    for policy in EVICTION_POLICIES:
        yield from _rows(requests, policy, rounds)


def _rows(requests: list[tuple[int, ...]], policy: str, rounds: int) -> Iterator[Row]:
    name_of_all = "tree" if policy == LRU else f"tree.{policy}"
    rates: dict[str, list[float]] = {"match": [], "insert": [], "evict": []}
    means = []
    for _ in range(rounds):
        spent, blocks = _replay(requests, policy)
        for name, ns in spent.items():
            rates[name].append(blocks[name] / ns * 1e9)
        means.append(sum(spent.values()) / len(requests) / 1e3)
    for name, values in rates.items():
        yield alone(f"{name_of_all}.{name}", median(values), "blocks/s", 100_000)
    yield alone(f"{name_of_all}.request", median(means), "us", 150)


def _replay(requests: list[tuple[int, ...]], policy: str) -> tuple[dict[str, int], dict[str, int]]:
    tree: RadixTree[int] = RadixTree(eviction_named(policy, CAPACITY, BLOCK_SIZE))
    free = list(range(CAPACITY))
    spent = dict.fromkeys(("match", "insert", "evict"), 0)
    blocks = dict.fromkeys(spent, 0)
    clock = time.perf_counter_ns
    for number, ids in enumerate(requests):
        started = clock()
        match = tree.match(ids)
        ref = tree.lock(match)
        spent["match"] += clock() - started
        blocks["match"] += len(ids)
        new = ids[match.length :]
        if len(free) < len(new):
            started = clock()
            gone = tree.evict(len(new) - len(free))
            spent["evict"] += clock() - started
            blocks["evict"] += len(gone)
            free += gone
        mine = [free.pop() for _ in new]
        started = clock()
        extension = tree.extend(ref, new, mine)
        tree.touch(ref, number)
        tree.unlock(ref)
        spent["insert"] += clock() - started
        blocks["insert"] += len(new)
        free += mine[len(new) - len(extension.existing) :][: len(extension.existing)]
    return spent, blocks
