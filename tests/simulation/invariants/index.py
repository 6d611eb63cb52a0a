"""The index is what the events said: followed event by event, and each so often in full.

The truth comes from the workers' own records of what each batch said, not from the streams.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radixroute.events.errors import LocalEventError
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Epoch, Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Holder, WorkerId
from tests.simulation.invariants.known import Broken

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

# Inputs from event streams between two comparisons of everything, and two own checks of the index.
_BRUTE_EACH = 24
_CHECK_EACH = 240
# Looked at in full after each event: what they break may be mended by the next.
_LIES_ON_BLOCKS = ("claims", "false_roots", "one_root", "phantoms")
_CREDITED = ("live", "gap")
# Copies of a block: so many are held until its holder clears, however many go.
_MOST_COPIES = 1023


@dataclass
class Model:
    """What one worker's index should hold after some batch."""

    epoch: Epoch = field(default_factory=lambda: Epoch(b""))
    seq: int = -1
    copies: Counter[int] = field(default_factory=Counter)
    is_sure: bool = False

    def follow(self, epoch: Epoch, seq: int, told: Sequence[Sequence[Event]]) -> set[int]:
        """The keys that were touched on the way."""
        if epoch != self.epoch or seq < self.seq:
            self.epoch, self.seq = epoch, -1
            self.copies.clear()
        touched: set[int] = set()
        for events in told[self.seq + 1 : seq + 1]:
            for event in events:
                self._apply(event, touched)
        self.seq = seq
        return touched

    def leading(self, keys: Sequence[int]) -> int:
        """First blocks of a prompt that are held."""
        for n, key in enumerate(keys):
            if key not in self.copies:
                return n
        return len(keys)

    def _apply(self, event, touched: set[int]) -> None:
        copies = self.copies
        match event:
            case BlocksStored():
                keys = event.keys.tolist()
                touched.update(keys)
                for key in keys:
                    copies[key] = min(copies[key] + 1, _MOST_COPIES)
            case BlocksRemoved():
                keys = event.keys.tolist()
                touched.update(keys)
                for key in keys:
                    if copies[key] <= 1:
                        del copies[key]
                    elif copies[key] < _MOST_COPIES:
                        copies[key] -= 1
            case CacheCleared():
                touched.update(copies)
                copies.clear()


class IndexTruth:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._claim = watchers.claim
        self._world = watchers.world
        self._rng = random.Random(watchers.world.plan.seed)
        self._n_looked = 0
        self._prompts = [(keys, keys.tolist()) for keys in watchers.world.known_keys]
        self.models = {name: Model() for name in watchers.world.workers}

    def after(self) -> None:
        worker = self._world.edge.heard
        if worker is not None:
            self.look(worker)
            self._n_looked += 1
            is_lying = self._world.workers[worker].liar.kind in _LIES_ON_BLOCKS
            if is_lying or self._n_looked % _BRUTE_EACH == 0:
                self._look_hard()
            if self._n_looked % _CHECK_EACH == 0:
                self._check()

    def end(self) -> None:
        for worker in self._world.workers:
            self.look(worker)
        self._look_hard()
        self._check()

    def is_right(self, worker: str) -> bool:
        """Whether a live stream's index is exactly what its worker has."""
        world = self._world
        life, status = world.workers[worker].life, world.edge.events.status(WorkerId(worker))
        return (
            life is not None
            and status is not None
            and status.state == "live"
            and status.applied_seq == len(life.told)
            and worker not in world.edge.mangled
        )

    def look(self, worker: str) -> None:
        """O(what changed)."""
        world, model = self._world, self.models[worker]
        status = world.edge.events.status(WorkerId(worker))
        is_credited = status is not None and status.state in _CREDITED
        self._look_at_belief(worker, is_credited)
        model.is_sure = False
        if status is None or not is_credited:
            return
        epoch = world.edge.epochs[worker]
        told = world.told[epoch]
        seq = status.applied_seq - 1
        self._claim("seq", seq < len(told), f"{worker}: batch {seq} was never sent")
        touched = model.follow(epoch, seq, told)
        wrong = self._wrong(worker, model, touched, status.indexed_blocks)
        if worker in world.edge.mangled:
            # A copy less is as wrong as a block less: it shows when the other one goes.
            if wrong is None and status.state == "live" and self._copies(worker) == model.copies:
                world.edge.mangled.discard(worker)
            return
        self._claim("index", wrong is None, f"{worker} after batch {seq}: {wrong}")
        model.is_sure = wrong is None

    def _is_current(self, worker: str) -> bool:
        """Whether its index stands where its model does."""
        model, world = self.models[worker], self._world
        status = world.edge.events.status(WorkerId(worker))
        return (
            model.is_sure
            and status is not None
            and world.edge.epochs[worker] == model.epoch
            and status.applied_seq == model.seq + 1
            and status.state in _CREDITED
        )

    def _wrong(self, worker: str, model: Model, keys: set[int], n_blocks: int) -> str | None:
        if n_blocks != len(model.copies):
            return f"{n_blocks} blocks, not {len(model.copies)}"
        index, holder = self._world.router.index, Holder(WorkerId(worker))
        for key in keys:
            if index.holds(holder, BlockKey(key)) != (key in model.copies):
                return "a block is held by one only: by its worker, or in the index"
        return None

    def _copies(self, worker: str) -> Counter[int]:
        """All that the index says of it."""
        copies = Counter[int]()
        for run in self._world.router.index.dump(Holder(WorkerId(worker))):
            copies.update(run.keys.tolist())
        return copies

    def _look_at_belief(self, worker: str, is_credited: bool) -> None:
        """Its cache counts as long as its stream is up to date, and its session open."""
        if not self._watchers.has_news:
            return
        for seen in self._watchers.glance.workers:
            if seen.worker_id == worker and seen.is_fresh:
                self._claim("belief", is_credited, f"{worker} is believed, its stream is not")

    def _look_hard(self) -> None:
        """Every block, and some prompts against brute force."""
        world = self._world
        sure = {name: model for name, model in self.models.items() if self._is_current(name)}
        for worker, model in sure.items():
            is_same = self._copies(worker) == model.copies
            self._claim("index", is_same, f"{worker} as a whole: other blocks, or copies of them")
        prompts = self._prompts
        has_lied = any(worker.liar.has_told_roots for worker in world.workers.values())
        n_prompts = len(prompts) if has_lied else min(4, len(prompts))
        for keys, listed in self._rng.sample(prompts, n_prompts):
            overlaps = world.router.index.overlaps(keys)
            for worker, model in sure.items():
                found = overlaps.blocks_of(Holder(WorkerId(worker)))
                wanted = model.leading(listed)
                self._claim("overlaps", found == wanted, f"{worker}: overlap {found}, not {wanted}")

    def _check(self) -> None:
        """The index's own."""
        try:
            self._world.router.index.check()
        except (BrokenInvariant, LocalEventError) as error:
            raise Broken("own check", str(error)) from error
