"""I reduce a set of resident (key, tier) pairs to 64 bits that do not depend on order.

The digest is the sum modulo 2**64 of `mix` over the pairs, so adding and removing one pair are one
addition and one subtraction. Used by the index and by the publisher's mirror; pure functions. It
finds losses and bugs, not forgery: a publisher is believed about its own cache.
"""

from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, Tier

DIGEST_MASK: Final = 2**64 - 1
# SplitMix64's finaliser (Steele, Lea, Flood 2014). Part of the wire contract: never change it.
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


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
