"""A trace: who asked when, how much, and which prompts begin alike. Columns; no text, no tokens.

Owns nothing that changes. A block id names a prefix: two prompts whose first k ids are equal share
their first k blocks. `Prefixes` numbers them for one engine block size.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival. All arrays have shape (requests,) unless said otherwise."""

    name: str
    block_size: int  # tokens that one block id stands for; the last block may be shorter
    arrival_ns: Numbers  # from the start of the trace; of a follow-up: after the one before ended
    input_tokens: Numbers
    output_tokens: Numbers  # at least 1
    first_block: Numbers  # shape (requests + 1,): where each request's ids begin in `blocks`
    blocks: Numbers  # block ids of all requests, one after the other
    after: Numbers  # request that must have ended before this one comes; -1: none

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def prompt_tokens(self) -> int:
        return int(self.input_tokens.sum())

    @property
    def duration_ns(self) -> int:
        """From the first to the last timed arrival."""
        timed = self.arrival_ns[self.after < 0]
        return int(timed.max() - timed.min()) if len(timed) else 0

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over everything but the name."""
        state = hashlib.blake2b(str(self.block_size).encode(), digest_size=8)
        for column in (
            self.arrival_ns,
            self.input_tokens,
            self.output_tokens,
            self.first_block,
            self.blocks,
            self.after,
        ):
            state.update(np.ascontiguousarray(column, np.int64).tobytes())
        return state.hexdigest()


@dataclass(frozen=True, eq=False)
class Prefixes:
    """A trace's prompts as numbers of prefixes, one for each full engine block."""

    block_size: int  # tokens of an engine block
    first: Numbers  # shape (requests + 1,): where each request's nodes begin
    nodes: NDArray[np.int32]
    n_nodes: int

    def of(self, request: int) -> NDArray[np.int32]:
        return self.nodes[self.first[request] : self.first[request + 1]]


def sessions(trace: Trace) -> Numbers:
    """The first request of each one's session, shape (requests,); -1: of none.

    A session: requests that wait for each other, those that wait for the same one included.
    """
    root = np.where(trace.after >= 0, trace.after, np.arange(len(trace)))
    while True:
        further = root[root]
        if np.array_equal(further, root):
            break
        root = further
    is_alone = np.bincount(root, minlength=len(trace))[root] < 2
    return np.where(is_alone, -1, root)


def prefixes(trace: Trace, block_size: int) -> Prefixes:
    """O(blocks). Raises `InvalidShape` unless `block_size` divides that of the trace."""
    if block_size < 1 or trace.block_size % block_size:
        raise InvalidShape(
            f"the trace has blocks of {trace.block_size} tokens; the engine's block size must"
            f" divide that, and {block_size} does not"
        )
    from radixroute.replay.traces.kernels import number_prefixes, spread

    ratio = trace.block_size // block_size
    numbers = np.empty(len(trace.blocks), np.int64)
    n_prefixes = number_prefixes(trace.first_block, trace.blocks, numbers)
    if n_prefixes * ratio >= np.iinfo(np.int32).max:
        raise InvalidShape("the trace has more than two billion distinct blocks; cut it")
    first = np.zeros(len(trace) + 1, np.int64)
    np.cumsum(trace.input_tokens // block_size, out=first[1:])
    nodes = np.empty(int(first[-1]), np.int32)
    spread(trace.first_block, numbers, first, ratio, nodes)
    return Prefixes(block_size, first, nodes, n_prefixes * ratio)
