"""Warm-up: compiles or loads every kernel of the room and proves that keys are hashed as written.

Whoever serves requests calls it at start-up, so that none of them waits for a compiler; so does
`radixroute warm`. The first time on a machine takes a minute, later ones under a second.
"""

from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex
from radixroute.radix.keys import block_keys as keys
from radixroute.radix.keys import marks


def warm() -> None:
    """Raises `BrokenKernel` when keys are not what they must be."""
    keys.warm()
    marks.warm()
    PrefixIndex(MIN_BYTES)
