"""Shape of a simulated fleet: how many workers, how large, and how much its kernel writes at once.

Frozen values, checked where they are made. Knows no trace and no array.
"""

from dataclasses import dataclass

from radixroute.radix.tree.eviction import EVICTION_POLICIES, LRU
from radixroute.replay.errors import InvalidShape

# Of an engine, where a trace's own blocks can be cut: large enough to be few, small enough to lose
# little of what a prompt shares with another.
_USUAL_BLOCK, _LEAST_BLOCK = 64, 8
_SIZES = ("workers", "kv_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs")


@dataclass(frozen=True, slots=True)
class FleetShape:
    """The workers of a simulated fleet; all alike but for `slowness` and `first_kv_blocks`."""

    workers: int
    kv_blocks: int  # of each worker that `first_kv_blocks` does not name
    block_size: int = 16  # tokens
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    watermark_blocks: int = 0
    slowness: tuple[float, ...] = ()  # of the first workers; 2: half as fast
    eviction_policy: str = LRU  # of `radix.tree.eviction.EVICTION_POLICIES`
    first_kv_blocks: tuple[int, ...] = ()  # of the first workers

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise InvalidShape(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(self.slowness) > self.workers or any(s <= 0 for s in self.slowness):
            raise InvalidShape("slowness: one number above 0 for each worker at most")
        if len(self.first_kv_blocks) > self.workers or any(n < 1 for n in self.first_kv_blocks):
            raise InvalidShape("first_kv_blocks: one number above 0 for each worker at most")
        if self.eviction_policy not in EVICTION_POLICIES:
            raise InvalidShape(
                f"no eviction policy is called {self.eviction_policy!r}; use one of"
                f" {', '.join(EVICTION_POLICIES)}"
            )

    @property
    def caches(self) -> tuple[int, ...]:
        """KV blocks of each worker."""
        return (*self.first_kv_blocks, *[self.kv_blocks] * self.workers)[: self.workers]

    @property
    def slownesses(self) -> tuple[float, ...]:
        """Of each worker, at the start."""
        return (*self.slowness, *[1.0] * self.workers)[: self.workers]


@dataclass(frozen=True, slots=True)
class FleetBuffers:
    """How much the fleet's kernel writes before it must be read. Changes no result.

    Rows beyond the least that one moment of the whole fleet may need.
    """

    words: int = 1 << 20
    events: int = 1 << 15
    reports: int = 1 << 14
    items: int = 1 << 17


def engine_block_size(trace_block_size: int) -> int:
    """A block for engines that replay a trace: the trace's own, or the largest of 64 tokens or
    fewer that divides it. Tokens.
    """
    sizes = range(min(trace_block_size, _USUAL_BLOCK), _LEAST_BLOCK - 1, -1)
    return next((size for size in sizes if trace_block_size % size == 0), trace_block_size)


def blocks_for(kv_tokens: int, block_size: int) -> int:
    """Whole blocks that a memory of so many tokens holds. Raises `InvalidShape` for none."""
    if kv_tokens < block_size:
        raise InvalidShape(
            f"a worker's memory of {kv_tokens:,} tokens holds not one block of {block_size}"
        )
    return kv_tokens // block_size
