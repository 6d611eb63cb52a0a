"""A trace: who asked when, how much, and which prompts begin alike. Columns; no text, no tokens.

Owns nothing that changes. A block id names a prefix: two prompts whose first k ids are equal share
their first k blocks. `Prefixes` numbers them for one engine block size.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape


def _no_joins() -> NDArray[np.int64]:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival. All arrays have shape (requests,) unless said otherwise."""

    name: str
    block_size: int  # tokens that one block id stands for; the last block may be shorter
    # From the start of the trace; of a follow-up: after the last of those before it ended.
    arrival_ns: Numbers
    input_tokens: Numbers
    output_tokens: Numbers  # at least 1
    first_block: Numbers  # shape (requests + 1,): where each request's ids begin in `blocks`
    blocks: Numbers  # block ids of all requests, one after the other
    # Request that must have ended before this one comes, the lowest if there are several; -1: none.
    after: Numbers
    # The others of those that wait for several, as (request, other), sorted; shape (joins, 2).
    joins: NDArray[np.int64] = field(default_factory=_no_joins)
    # Number of the program that each belongs to; None: those that wait for each other are one.
    program: Numbers | None = None

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
    def joined(self) -> dict[int, list[int]]:
        """By request: those that it waits for beside `after`. Only of requests that do."""
        found: dict[int, list[int]] = {}
        for request, other in self.joins.tolist():
            found.setdefault(request, []).append(other)
        return found

    @cached_property
    def programs(self) -> Numbers:
        """Each request's program, numbered from 0 in order of their first requests.

        A program: as the trace says, else requests that wait for each other, those that wait for
        the same one included. O(requests log requests).
        """
        named = _roots(self) if self.program is None else self.program
        _, first, place = np.unique(named, return_index=True, return_inverse=True)
        number = np.empty(len(first), np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        return number[place]

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
        # What most traces have not, only where it is there: their digests stay what they were.
        for name, further in (("joins", self.joins), ("program", self.program)):
            if further is not None and len(further):
                state.update(name.encode() + np.ascontiguousarray(further, np.int64).tobytes())
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
    """The first request of each one's program, shape (requests,); -1: it has no other."""
    programs = trace.programs
    _, first, sizes = np.unique(programs, return_index=True, return_counts=True)
    return np.where(sizes[programs] < 2, -1, first[programs])


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


def _roots(trace: Trace) -> Numbers:
    """A request of those that each waits for or that wait for it, the same for all of them."""
    root = np.where(trace.after >= 0, trace.after, np.arange(len(trace)))
    root = _followed(root)
    if not len(trace.joins):
        return root
    # Joins make one of several trees: the lower root of two becomes that of the other.
    for request, other in trace.joins.tolist():
        low, high = sorted((_root_of(root, request), _root_of(root, other)))
        root[high] = low
    return _followed(root)


def _root_of(root: Numbers, request: int) -> int:
    while root[request] != request:
        request = int(root[request])
    return request


def _followed(root: Numbers) -> Numbers:
    """Each one's root where each has somebody nearer to it."""
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further
