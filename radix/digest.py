"""I reduce the copies of blocks in a cache to 64 bits that do not depend on order.

The digest is the sum modulo 2**64 of `mix` over all copies stored, less that over all removed: one
addition for each event, and nothing to look up. So it needs no memory of what is resident, an
index that forgets keeps it, and a stream's loss, doubling or invention of any event shows. Used by
the index on both ends of a stream; pure functions. It finds losses and bugs, not forgery: a
publisher is believed about its own cache.
"""

from typing import Final, NamedTuple

import numpy as np

from radixroute.radix.ids import Keys, Tier

DIGEST_MASK: Final = 2**64 - 1
# SplitMix64's finaliser (Steele, Lea, Flood 2014). Part of the wire contract: never change it.
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


class Account(NamedTuple):
    """What somebody was told about one cache, to be compared with what was said."""

    n_copies: int  # stored less removed; negative after removals of nothing
    digest: int  # of these copies


def mix(key: int, tier: Tier) -> int:
    """What one resident pair adds to the digest."""
    z = (key + _GAMMA * (tier + 1)) & DIGEST_MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & DIGEST_MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & DIGEST_MASK
    return z ^ (z >> 31)


def mix_many(keys: Keys, tier: Tier) -> int:
    """What these pairs add to the digest together; each key counts as often as it occurs."""
    z = keys + np.uint64((_GAMMA * (tier + 1)) & DIGEST_MASK)  # arrays wrap around silently
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    z ^= z >> np.uint64(31)
    return int(z.sum(dtype=np.uint64))
