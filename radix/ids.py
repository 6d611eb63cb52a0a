"""The ids that cross rooms, each its own type: mixing them up is the field's classic bug."""

from enum import IntEnum
from typing import NamedTuple, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Our chained 64-bit key of a block: it names the whole prefix up to and including that block.
BlockKey = NewType("BlockKey", int)
WorkerId = NewType("WorkerId", str)

# Keys of consecutive blocks, shape (blocks,), dtype uint64.
Keys: TypeAlias = NDArray[np.uint64]
# The arrays of a prefix index (`layout`): its arena, the directory of its table, its lanes, and
# small numbers.
Cells: TypeAlias = NDArray[np.uint64]
Directory: TypeAlias = NDArray[np.int64]
Lanes: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.int64]


class Arrays(NamedTuple):
    """The four arrays of one prefix index."""

    cells: Cells
    directory: Directory
    lanes: Lanes
    head: Numbers


# One mark for each of some blocks.
Flags: TypeAlias = NDArray[np.uint8]
# Blocks of a prompt, one number a holder.
Runs: TypeAlias = NDArray[np.int32]
# Token ids, shape (tokens,), dtype uint32.
Tokens: TypeAlias = NDArray[np.uint32]


class Tier(IntEnum):
    """Where a block's KV lives, fastest first."""

    DEVICE = 0
    HOST = 1
    DISK = 2


class Holder(NamedTuple):
    """One event stream's worth of cache: a rank of a worker."""

    worker: WorkerId
    rank: int = 0
