"""Planes: what a cache keeps of one token in one layer, and the seam that all caches stand behind.

Ordinary attention keeps two planes, K and V, each of (kv_heads, head_dim) numbers a token. Latent
attention keeps one. A cache needs to know no more than that. Pure.
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class Plane(NamedTuple):
    """One token's share of one tensor of the cache."""

    heads: int
    width: int  # numbers a head


class Cache(Protocol):
    """One sequence's context in one layer."""

    @property
    def length(self) -> int:
        """Tokens that are kept."""
        ...

    def extend(self, *new: Tensor) -> tuple[Tensor, ...]:
        """Keep planes of new tokens, each (n, heads, width); give those of the whole context."""
        ...


def bytes_of(*planes: Tensor) -> int:
    return sum(plane.numel() * plane.element_size() for plane in planes)
