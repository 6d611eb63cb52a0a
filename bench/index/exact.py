"""The same streams through three indexes, each lookup compared with brute force.

One tier and one copy of each block, which is all the peer's `RadixTree` knows; chains are stored
after what a worker holds, or, in some streams, after a block it has lost: holes, which are legal on
the wire. `over` credits blocks a worker does not hold, `under` misses some that it does. The peer's
concurrent index hears of them over ZeroMQ; it is asked between events, when it has applied all.
"""

import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.index.concurrent import ConcurrentPeer
from radixroute.radix.digest import mix
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from tests.tools.fuzz_index import Forest

WORKERS = 8
NODES = 2000
EVENTS = 3000
LOOKUPS_AN_EVENT = 4
SETTLE_EACH = 25  # events between two times the concurrent index is asked
LOOKUPS_WHEN_SETTLED = 25


@dataclass
class Score:
    """Overlaps of single workers compared with the truth."""

    compared: int = 0
    over: int = 0
    under: int = 0
    refused: int = 0  # events that raised; the concurrent index tells nobody

    def add(self, found: int, right: int) -> None:
        self.compared += 1
        self.over += found > right
        self.under += found < right


def compare(seeds: range) -> dict[str, dict[str, Any]]:
    """Totals over the seeds, for streams without holes and with them."""
    totals = {}
    for name, disorder in (("without_holes", 0.0), ("with_holes", 0.2)):
        sides = {"ours": Counter[str](), "peer": Counter[str](), "concurrent": Counter[str]()}
        for seed in seeds:
            for total, score in zip(sides.values(), _Run(seed, disorder).play(), strict=True):
                total.update(asdict(score))
        totals[name] = {side: dict(total) for side, total in sides.items()}
    return totals


class _Run:
    """One stream, told to all three."""

    def __init__(self, seed: int, disorder: float) -> None:
        from dynamo.llm import RadixTree  # type: ignore[import-not-found]

        self.rng = random.Random(f"exact/{seed}")
        self.asks = random.Random(f"asks/{seed}")
        self.disorder = disorder
        self.forest = Forest(self.rng, NODES)
        self.paths = [path.tolist() for path in self.forest.paths]
        self.index, self.tree = PrefixIndex(1 << 26), RadixTree()
        self.heard = ConcurrentPeer(WORKERS)
        self.holders = [Holder(WorkerId(str(number))) for number in range(WORKERS)]
        for holder in self.holders:
            self.index.join(holder)
        self.held: list[set[int]] = [set() for _ in range(WORKERS)]
        self.ours, self.peer, self.concurrent = Score(), Score(), Score()
        self.n_events = 0

    def play(self) -> tuple[Score, Score, Score]:
        for number in range(EVENTS):
            worker = self.rng.randrange(WORKERS)
            if self.rng.random() < 0.6:
                self._store(worker)
            else:
                self._remove(worker)
            for _ in range(LOOKUPS_AN_EVENT):
                self._look_up()
            if number % SETTLE_EACH == 0:
                self.heard.settle()
                for _ in range(LOOKUPS_WHEN_SETTLED):
                    self._ask_concurrent()
        self.heard.stop()
        return self.ours, self.peer, self.concurrent

    def _store(self, worker: int) -> None:
        number, held = self.rng.randrange(NODES), self.held[worker]
        path = self.paths[number]
        start = next((i for i, key in enumerate(path) if key not in held), len(path))
        if start == len(path):
            return
        if self.rng.random() < self.disorder:
            start = self.rng.randrange(start, len(path))
        end = start
        while end < len(path) and end - start < 32 and path[end] not in held:
            end += 1
        if end == start:
            return
        parent = path[start - 1] if start else None
        keys = self.forest.paths[number][start:end]
        held.update(path[start:end])
        key = None if parent is None else BlockKey(parent)
        self.index.store(self.holders[worker], key, keys, Tier.DEVICE)
        blocks = [{"block_hash": one, "tokens_hash": _local(one)} for one in path[start:end]]
        self.heard.store(worker, parent, path[start:end])
        self._tell(worker, {"stored": {"parent_hash": parent, "blocks": blocks}})

    def _remove(self, worker: int) -> None:
        held = self.held[worker]
        node = self.rng.randrange(NODES)
        if self.rng.random() < self.disorder:
            gone = [key for key in self.paths[node] if key in held][: self.rng.randrange(1, 9)]
        else:
            gone = self._tail(node, held)
        if not gone:
            return
        held.difference_update(gone)
        self.index.remove(self.holders[worker], np.array(gone, np.uint64), Tier.DEVICE)
        self.heard.remove(worker, gone)
        self._tell(worker, {"removed": {"block_hashes": gone}})

    def _tail(self, node: int, held: set[int]) -> list[int]:
        """The end of a path, as far as nothing held hangs below it."""
        gone: list[int] = []
        while node >= 0 and len(gone) < 16:
            below = (self.paths[child][-1] for child in self.forest.children[node])
            if any(key in held and key not in gone for key in below):
                break
            if self.paths[node][-1] in held:
                gone.append(self.paths[node][-1])
            node = self.forest.parents[node]
        return gone

    def _tell(self, worker: int, data: dict[str, object]) -> None:
        self.n_events += 1
        event = json.dumps({"event_id": self.n_events, "data": data}).encode()
        try:
            self.tree.apply_event(worker, event)
        except Exception:  # noqa: BLE001 - whatever it raises, the event was legal
            self.peer.refused += 1

    def _look_up(self) -> None:
        number = self.rng.randrange(NODES)
        path = self.paths[number]
        found = self.index.overlaps(self.forest.paths[number]).blocks.tolist()
        scores = self.tree.find_matches([_local(key) for key in path]).scores
        by_worker = {worker: n for (worker, _), n in scores.items()}
        for worker, held in enumerate(self.held):
            right = next((i for i, key in enumerate(path) if key not in held), len(path))
            self.ours.add(found[worker], right)
            self.peer.add(by_worker.get(worker, 0), right)

    def _ask_concurrent(self) -> None:
        # Of its own chance: the streams stay those they are without it.
        path = self.paths[self.asks.randrange(NODES)]
        for found, held in zip(self.heard.overlaps(path), self.held, strict=True):
            right = next((i for i, key in enumerate(path) if key not in held), len(path))
            self.concurrent.add(found, right)


def _local(key: int) -> int:
    """What a block's own tokens hash to: one value a node is enough here."""
    return mix(key, Tier.DISK)
