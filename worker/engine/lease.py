"""Block lease: the KV blocks of one sequence while it runs. Only `PrefixCache` changes it.

    blocks:  [ gone: left the window | shared with the tree ....... | own, not full yet ]
                              n_gone ^                     n_shared ^
    table:                           [ ................................................. ]

    `duplicates` are own blocks inside the shared part: another sequence's copy is in the tree, and
    this step still writes to ours. `settle` swaps them when the step is done.

While no block is gone the lease pins its path in the tree by `ref`. After that it pins nothing
between steps: the gone blocks stay cached as long as nobody needs their memory, and then leave the
tree with all below them, while the lease keeps its own references to the blocks of its table.
"""

from dataclasses import dataclass, field

import numpy as np

from radixroute.radix.ids import BlockKey
from radixroute.radix.keys.scope import RequestScope
from radixroute.radix.tree.radix_tree import NodeRef


@dataclass(slots=True, eq=False)
class BlockLease:
    """One sequence's blocks."""

    ref: NodeRef[bytes] | None  # None: blocks are gone, and no step is being made that adds some
    table: list[int]  # ids of the blocks that are not gone
    n_shared: int  # leading blocks, gone ones included, that are or were in the tree
    last_key: BlockKey | None  # of the last shared block
    scope: RequestScope
    seed: np.uint64  # of the keys of that scope
    n_gone: int = 0
    is_cut: bool = False  # its path left the tree: nothing of it is shared any more
    n_fresh: int = 0  # shared blocks that entered the tree in the step being made
    duplicates: list[tuple[int, int]] = field(default_factory=list)  # table index, block in tree

    @property
    def n_blocks(self) -> int:
        """Blocks of the sequence so far, gone ones included."""
        return self.n_gone + len(self.table)

    @property
    def shared(self) -> list[int]:
        """Ids of the shared blocks that are not gone."""
        return self.table[: max(0, self.n_shared - self.n_gone)]
