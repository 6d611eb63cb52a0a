"""Digest: the copies of blocks in a cache as 64 bits that do not depend on order.

The digest is the sum modulo 2**64 of `mix` over all copies stored, less that over all removed: one
addition for each event, and nothing to look up. So it needs no memory of what is resident, an
index that forgets keeps it, and a stream's loss, doubling or invention of any event shows. Used by
the index on both ends of a stream; pure functions. It finds losses and bugs, not forgery: a
publisher is believed about its own cache.
"""

from typing import Final, NamedTuple

import numpy as np

from radixroute.radix.ids import Keys, Tier
from radixroute.radix.mixing import GAMMA, MASK, finalise, finalise_int

DIGEST_MASK: Final = MASK


class Account(NamedTuple):
    """What somebody was told about one cache, to be compared with what was said."""

    n_copies: int  # stored less removed; negative after removals of nothing
    digest: int  # of these copies


def mix(key: int, tier: Tier) -> int:
    """What one resident pair adds to the digest. Part of the wire contract."""
    return finalise_int(key + GAMMA * (tier + 1))


def mix_many(keys: Keys, tier: Tier) -> int:
    """What these pairs add to the digest together; each key counts as often as it occurs."""
    z = keys + np.uint64((GAMMA * (tier + 1)) & MASK)  # arrays wrap around silently
    return int(finalise(z).sum(dtype=np.uint64))
