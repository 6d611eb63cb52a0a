"""Kernels that are called without a look at their arguments: whoever calls them has looked."""

import numpy as np
import pytest

from radixroute.radix.ids import Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex

HOLDER = Holder(WorkerId("a"))
VERBS = {
    "store": lambda index, keys: index.store(HOLDER, None, keys, Tier.DEVICE),
    "remove": lambda index, keys: index.remove(HOLDER, keys, Tier.DEVICE),
    "overlaps": lambda index, keys: index.overlaps(keys),
    "apply": lambda index, keys: index.apply(HOLDER, keys),
}
NO_KEYS = {
    "backwards": np.arange(1, 9, dtype=np.uint64)[::-1],
    "every second": np.arange(1, 9, dtype=np.uint64)[::2],
    "a matrix": np.ones((2, 2), np.uint64),
    "fractions": np.ones(4),
    "half as long": np.ones(4, np.uint32),
}


def new_index() -> PrefixIndex:
    index = PrefixIndex(MIN_BYTES)
    index.join(HOLDER)
    return index


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
@pytest.mark.parametrize("keys", NO_KEYS.values(), ids=list(NO_KEYS))
def test_arrays_that_no_kernel_takes_are_noticed(keys, verb):
    """Read as keys in a row they would be whatever lies behind the first of them."""
    index = new_index()
    with pytest.raises(TypeError):
        verb(index, keys)


def test_keys_that_nobody_may_write_are_taken():
    index, keys = new_index(), np.arange(1, 9, dtype=np.uint64)
    keys.flags.writeable = False
    index.store(HOLDER, None, keys, Tier.DEVICE)
    assert index.overlaps(keys).blocks_of(HOLDER) == 8
    assert index.remove(HOLDER, keys, Tier.DEVICE) == 0
