"""Long-run fuzzer of the prefix index against brute force; `make fuzz-index`.

A seeded stream of everything the wire allows: chains stored with and without their parents, second
copies, moves between tiers, removals in any order, clears, workers that leave and rejoin, sweeps in
between, and (`budget`) an arena too small for all of it. After each event prompts are looked up and
every worker's overlap is compared with the longest run found by walking the prompt. A lookup is one
prompt, all workers compared.
"""

import argparse
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from radixroute.radix.digest import mix
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex

WORKERS = 12
LOOKUPS_AN_EVENT = 40
CHECK_EACH = 20_000  # events between two checks of every invariant
TIERS = (Tier.DEVICE, Tier.DEVICE, Tier.DEVICE, Tier.HOST, Tier.DISK)


@dataclass
class Tally:
    """What one run saw."""

    events: int = 0
    lookups: int = 0
    with_holes: int = 0
    wrong: int = 0
    over: int = 0  # of these, too long
    under: int = 0  # too short, explained by what the budget made the index forget
    forgotten: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


class Forest:
    """Prompts that share prefixes: node -> parent; a node's key names its place."""

    def __init__(self, rng: random.Random, nodes: int) -> None:
        self.parents: list[int] = []
        self.children: list[list[int]] = [[] for _ in range(nodes)]
        self.paths: list[Keys] = []
        for node in range(nodes):
            parent = -1 if rng.random() < 0.01 else self._grown(rng, node)
            self.parents.append(parent)
            if parent >= 0:
                self.children[parent].append(node)
            above = self.paths[parent] if parent >= 0 else np.empty(0, np.uint64)
            self.paths.append(np.append(above, np.uint64(mix(node, Tier.DEVICE) | 1)))

    def _grown(self, rng: random.Random, node: int) -> int:
        """Mostly long chains, some branches."""
        return node - 1 if rng.random() < 0.8 else rng.randrange(-1, node)


class Truth:
    """Copies of each (worker, tier, key), and who holds a key: what brute force walks."""

    def __init__(self) -> None:
        self.copies: Counter[tuple[int, int, int]] = Counter()
        self.mask_by_key: dict[int, int] = {}
        self.parent_by_key: dict[int, int] = {}

    def store(self, worker: int, tier: int, parent: int, keys: list[int]) -> None:
        for key in keys:
            self.copies[worker, tier, key] += 1
            self.mask_by_key[key] = self.mask_by_key.get(key, 0) | 1 << worker
            self.parent_by_key[key] = parent
            parent = key

    def remove(self, worker: int, tier: int, keys: list[int]) -> int:
        unknown = 0
        for key in keys:
            n = self.copies[worker, tier, key]
            if n == 0:
                unknown += 1
                continue
            self.copies[worker, tier, key] = n - 1
            if n == 1 and not any(self.copies[worker, other, key] for other in range(3)):
                self.mask_by_key[key] &= ~(1 << worker)
        return unknown

    def clear(self, worker: int) -> None:
        self.copies = Counter({key: n for key, n in self.copies.items() if n and key[0] != worker})
        for key in self.mask_by_key:
            self.mask_by_key[key] &= ~(1 << worker)

    def held(self, worker: int) -> list[int]:
        return [key for key, mask in self.mask_by_key.items() if mask >> worker & 1]

    def runs(self, keys: list[int]) -> list[int]:
        """Longest leading run of each worker."""
        runs = [0] * WORKERS
        alive = (1 << WORKERS) - 1
        for i, key in enumerate(keys):
            still = alive & self.mask_by_key.get(key, 0)
            lost = alive ^ still
            while lost:
                bit = lost & -lost
                runs[bit.bit_length() - 1] = i
                lost ^= bit
            alive = still
            if not alive:
                return runs
        while alive:
            bit = alive & -alive
            runs[bit.bit_length() - 1] = len(keys)
            alive ^= bit
        return runs


class Fuzzer:
    """One seed's run."""

    def __init__(self, seed: int, *, nodes: int, max_bytes: int | None, disorder: float) -> None:
        self.disorder = disorder  # share of the stores and removals that leave holes
        self.rng = random.Random(f"fuzz-index/{seed}")
        self.forest = Forest(self.rng, nodes)
        self.prompts = [path.tolist() for path in self.forest.paths]
        self.is_bound = max_bytes is not None
        self.index = PrefixIndex(max_bytes) if max_bytes else PrefixIndex(1 << 28)
        self.truth = Truth()
        self.holders = [Holder(WorkerId(f"w{number}")) for number in range(WORKERS)]
        for holder in self.holders:
            self.index.join(holder)
        self.tally = Tally()

    def run(self, lookups: int) -> Tally:
        while self.tally.lookups < lookups:
            self._event()
            self.tally.events += 1
            has_holes = any(self.index.n_holes(holder) for holder in self.holders)
            for _ in range(LOOKUPS_AN_EVENT):
                self._lookup()
            self.tally.with_holes += LOOKUPS_AN_EVENT * has_holes
            if self.tally.events % CHECK_EACH == 0:
                self.index.check()
        self.index.check()
        self.tally.forgotten = self.index.n_forgotten
        return self.tally

    def _event(self) -> None:
        rng, worker = self.rng, self.rng.randrange(WORKERS)
        choice = rng.random()
        if choice < 0.55:
            self._store(worker)
        elif choice < 0.97:
            self._remove(worker)
        elif choice < 0.98:
            self.index.sweep(rng.randrange(1, 2000))
            self.tally.kinds["sweep"] += 1
        elif choice < 0.9815:
            self.index.clear(self.holders[worker])
            self.truth.clear(worker)
            self.tally.kinds["clear"] += 1
        elif choice < 0.983:
            self.index.leave(self.holders[worker])
            self.truth.clear(worker)
            self.index.join(self.holders[worker])
            self.holders.append(self.holders.pop(worker))  # it joins last
            self._renumber(worker)
            self.tally.kinds["rejoin"] += 1

    def _renumber(self, gone: int) -> None:
        """The truth's workers follow the order in which they joined."""
        low = (1 << gone) - 1
        for key, mask in self.truth.mask_by_key.items():
            self.truth.mask_by_key[key] = (mask & low) | (mask >> 1 & ~low)
        self.truth.copies = Counter(
            {
                (worker - (worker > gone), tier, key): n
                for (worker, tier, key), n in self.truth.copies.items()
                if n
            }
        )

    def _store(self, worker: int) -> None:
        rng = self.rng
        path = self.forest.paths[rng.randrange(len(self.prompts))]
        start = self._first_absent(worker, path) if rng.random() < 0.5 else 0
        if rng.random() < self.disorder:
            start = rng.randrange(len(path))
        keys, tier = path[start : start + rng.randrange(1, 65)], rng.choice(TIERS)
        parent = int(path[start - 1]) if start else None
        key = None if parent is None else BlockKey(parent)
        self.index.store(self.holders[worker], key, keys, tier)
        self.truth.store(worker, tier, parent or 0, keys.tolist())
        self.tally.kinds["store below a gap" if start else "store"] += 1

    def _remove(self, worker: int) -> None:
        rng = self.rng
        node = rng.randrange(len(self.prompts))
        path = self.forest.paths[node]
        start = rng.randrange(len(path))
        if rng.random() >= self.disorder:
            keys = self._tail(worker, node)
        elif rng.random() < 0.1:
            keys = path[-1:].repeat(2)
        else:
            keys = path[start : start + rng.randrange(1, 33)][:: rng.choice((1, -1))]
        keys = np.ascontiguousarray(keys)
        tier = rng.choice(TIERS)
        unknown = self.index.remove(self.holders[worker], keys, tier)
        expected = self.truth.remove(worker, tier, keys.tolist())
        self.tally.wrong += not self.is_bound and unknown != expected
        self.tally.kinds["remove"] += 1

    def _first_absent(self, worker: int, path: Keys) -> int:
        held = [self.truth.mask_by_key.get(key, 0) >> worker & 1 for key in path.tolist()]
        return held.index(0) if 0 in held else 0

    def _tail(self, worker: int, node: int) -> Keys:
        """Blocks nothing held hangs below, last first: as engines evict."""
        keys: list[int] = []
        while node >= 0 and len(keys) < 48:
            below = (self.prompts[child][-1] for child in self.forest.children[node])
            mask_by_key = self.truth.mask_by_key
            if any(mask_by_key.get(key, 0) >> worker & 1 for key in below if key not in keys):
                break
            keys.append(self.prompts[node][-1])
            node = self.forest.parents[node]
        return np.array(keys, np.uint64)

    def _lookup(self) -> None:
        number = self.rng.randrange(len(self.prompts))
        found = self.index.overlaps(self.forest.paths[number]).blocks.tolist()
        expected = self.truth.runs(self.prompts[number])
        self.tally.lookups += 1
        if found == expected:
            return
        for worker, (got, right) in enumerate(zip(found, expected, strict=True)):
            is_explained = got < right and self.index.forgotten_by(self.holders[worker]) > 0
            self.tally.under += is_explained
            self.tally.over += got > right
            self.tally.wrong += got != right and not is_explained


def fuzz(seed: int, lookups: int) -> Tally:
    """One run; raises if an invariant breaks. Seeds differ in disorder, size and budget."""
    disorder = (0.0, 0.002, 0.02, 0.3, 0.1)[seed % 5]
    max_bytes = MIN_BYTES + (seed % 7 << 15) if seed % 4 == 3 else None
    nodes = 20_000 if max_bytes else (3000, 20_000)[seed // 2 % 2]
    return Fuzzer(seed, nodes=nodes, max_bytes=max_bytes, disorder=disorder).run(lookups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lookups", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    total, started, seed = Tally(), time.monotonic(), args.seed
    while total.lookups < args.lookups:
        tally = fuzz(seed, 500_000)
        for name in ("events", "lookups", "with_holes", "wrong", "over", "under", "forgotten"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        total.kinds += tally.kinds
        print(
            f"[{time.monotonic() - started:5.0f} s] seed {seed}: {total.lookups:,} lookups,"
            f" {total.with_holes / total.lookups:.0%} with holes, {total.wrong} wrong",
            flush=True,
        )
        seed += 1
    print(total)
    if total.wrong or total.with_holes < 0.3 * total.lookups:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
