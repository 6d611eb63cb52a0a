"""The seam of the router's prefix index: what every implementation takes, gives and promises.

Owns no state. `PrefixIndex` implements `Index` for production, `ReferenceIndex` for tests, and
one contract suite runs against both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier


@dataclass(frozen=True, slots=True)
class Run:
    """A chain of resident blocks in one tier; the same as a stored event."""

    parent: BlockKey | None  # None: `keys[0]` begins a prompt
    keys: Keys
    tier: Tier


class Overlaps:
    """For every joined holder, the longest leading run of blocks all of which it holds.

    `holders` are in the order they joined; `blocks`, shape (holders,), int32, read-only, is the
    length of each one's run, whatever the tiers.
    """

    # No dataclass: a frozen one takes longer to make than its numbers do to find.
    __slots__ = ("_row_by_holder", "_tiers", "blocks", "holders")

    def __init__(
        self,
        holders: tuple[Holder, ...],
        blocks: NDArray[np.int32],
        row_by_holder: Mapping[Holder, int],
        tiers: NDArray[np.int32] | None = None,
    ) -> None:
        self.holders = holders
        self.blocks = blocks
        self._row_by_holder = row_by_holder
        self._tiers = tiers  # None: all on device

    @property
    def tiers(self) -> NDArray[np.int32]:
        """Shape (holders, tiers): the blocks of each run by their fastest tier."""
        if self._tiers is not None:
            return self._tiers
        tiers = np.zeros((len(self.blocks), len(Tier)), np.int32)
        tiers[:, Tier.DEVICE] = self.blocks
        tiers.flags.writeable = False
        return tiers

    def blocks_of(self, holder: Holder) -> int:
        """0 for a holder that has not joined: no credit is the safe answer."""
        row = self._row_by_holder.get(holder)
        return 0 if row is None else int(self.blocks[row])

    def by_tier(self, holder: Holder) -> tuple[int, ...]:
        """Blocks of the run on device, host and disk, each counted in its fastest tier."""
        row = self._row_by_holder.get(holder)
        return (0,) * len(Tier) if row is None else tuple(self.tiers[row].tolist())

    @property
    def best(self) -> int:
        """Blocks of the longest run; 0 with no holders."""
        return int(self.blocks.max(initial=0))


class Index(Protocol):
    """Which holder has which blocks, as their events tell.

    Any order of events is legal: holes (a removed or never-seen parent under a held child),
    repeated stores, moves between tiers. Copies are counted for each (holder, tier, key): a block
    stored twice is gone after two removals. Parents that events name change no overlap, whatever
    they say: who holds which keys does. One thread, no locks, no I/O.
    Everything that names a holder, but `join`, raises `UnknownHolder` for one that has not joined.
    """

    @property
    def holders(self) -> tuple[Holder, ...]:
        """In the order they joined."""
        ...

    def join(self, holder: Holder) -> None:
        """Begin with an empty cache. Raises `HolderExists`."""
        ...

    def leave(self, holder: Holder) -> None:
        """Forget the holder and all it holds, at once."""
        ...

    def clear(self, holder: Holder) -> None:
        """Every block left every tier of this holder."""
        ...

    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None:
        """A chain of blocks entered a tier, one copy each; `keys[0]` follows `parent`."""
        ...

    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int:
        """One copy of each block left a tier; returns how many were not held there."""
        ...

    def overlaps(self, keys: Keys) -> Overlaps:
        """Exact, for every joined holder. Keys are those of a prompt, from its start."""
        ...

    def holds(self, holder: Holder, key: BlockKey) -> bool:
        """In any tier."""
        ...

    def n_blocks(self, holder: Holder) -> int:
        """Distinct (key, tier) pairs resident."""
        ...

    def account(self, holder: Holder) -> Account:
        """Sums over what was told since it joined or cleared, resident or not."""
        ...

    def dump(self, holder: Holder) -> list[Run]:
        """All it holds, copies included; no run comes before one that holds its parent."""
        ...

    def restore(self, holder: Holder, runs: Iterable[Run]) -> None:
        """Replace all it holds by a dump."""
        ...

    def check(self) -> None:
        """Raise `BrokenInvariant` unless everything agrees with everything. Slow."""
        ...
