"""The infinite-cache ceiling: what one cache without a limit, seeing every request, would serve.

Owns that bound and the count of distinct blocks. Compares tokens, not hashes, so it is exact. Never
sees a worker or a clock: token ids come in the order they were sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.replay.errors import InvalidShape

_ROOT = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Token ids of one request: what was sent and what was generated."""

    prompt: Tokens
    output: Tokens


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Totals over a workload. `distinct_blocks` is the working set of full blocks."""

    prompt_tokens: int
    cached_tokens: int
    distinct_blocks: int

    @property
    def hit_rate(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class InfiniteCache:
    """A trie of full blocks that never evicts. A node is a number; the root is 0."""

    def __init__(self, block_size: int) -> None:
        if block_size < 1:
            raise InvalidShape(f"block_size must be at least 1, not {block_size}")
        self._block_size = block_size
        self._children: dict[tuple[int, bytes], int] = {}

    @property
    def n_blocks(self) -> int:
        return len(self._children)

    def cached_tokens(self, prompt: Tokens) -> int:
        """Leading tokens of `prompt` held as full blocks; its last token is always computed."""
        node = _ROOT
        blocks = 0
        for symbol in self._symbols(prompt[:-1]):
            if (node, symbol) not in self._children:
                break
            node = self._children[node, symbol]
            blocks += 1
        return blocks * self._block_size

    def store(self, tokens: Tokens) -> None:
        """Keep every full block of `tokens`."""
        node = _ROOT
        for symbol in self._symbols(tokens):
            node = self._children.setdefault((node, symbol), len(self._children) + 1)

    def _symbols(self, tokens: Tokens) -> Iterable[bytes]:
        plain = np.ascontiguousarray(tokens, dtype="<u4")
        for start in range(0, len(plain) - self._block_size + 1, self._block_size):
            yield plain[start : start + self._block_size].tobytes()


def ceiling(exchanges: Iterable[Exchange], block_size: int) -> Ceiling:
    """The ceiling of `exchanges`, in the order they were sent.

    Outputs enter the cache too: an engine holds their KV, and the next turn repeats them. The last
    generated token is never computed, so it is not held.
    """
    cache = InfiniteCache(block_size)
    prompt_tokens = cached = 0
    for exchange in exchanges:
        prompt_tokens += len(exchange.prompt)
        cached += cache.cached_tokens(exchange.prompt)
        cache.store(np.concatenate([exchange.prompt, exchange.output[:-1]]))
    return Ceiling(prompt_tokens, cached, cache.n_blocks)
