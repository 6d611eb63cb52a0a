"""A trace in the making: requests in any order in, columns in order of arrival out.

Owns what every request of a trace must satisfy, and the order of requests: by the earliest time at
which each may come (a follow-up: the last of those of whom it waits for, plus its delay), ties as
added. So `after` and `joins` always point back. Readers, generators and reshaping all end here.
"""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.trace import Trace

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
# Sixteen times the longest context on sale: a typing error must not allocate gigabytes.
MAX_TOKENS = 1 << 24
# Repairs that several readers make.
DEFAULTED = "rows do not say how long their outputs are: they got --default-output"
NAMELESS = "rows name a session without a name: they are of none"
_MAX_NS = 1 << 61  # 73 years; sums of two stay within int64


class TraceDraft:
    """Requests so far. Of those without block ids, no two share a prefix."""

    def __init__(self, block_size: int) -> None:
        if not 1 <= block_size <= MAX_TOKENS:
            raise BadTrace(f"a block of {block_size} tokens: give a size from 1 to {MAX_TOKENS}")
        self.block_size = block_size
        self.empty_outputs = 0  # made 1: an engine always gives a token
        # What readers tell of the file: what they mended, how often; how they took what its format
        # leaves open; what may be meant otherwise, with the option that decides it.
        self.repairs: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.doubts: list[str] = []
        self._arrival = array("q")
        self._input = array("q")
        self._output = array("q")
        self._after = array("q")
        self._joins = array("q")  # pairs: who waits, for whom beside `after`
        self._program = array("q")  # -1: not said
        self._n_blocks = array("q")
        self._blocks = array("Q")  # of the requests that have ids
        self._anonymous: list[int] = []  # requests without ids

    def __len__(self) -> int:
        return len(self._arrival)

    def add(
        self,
        arrival_ns: int,
        tokens: tuple[int, int],
        blocks: Sequence[int] | None,
        *,
        after: int | Sequence[int] | None = None,
        program: int | None = None,
    ) -> int:
        """A request's number here. `tokens`: of prompt and output. `after`: whom it waits for, one
        or several. `program`: its number; None: that of whom it waits for. Raises `BadTrace`.
        """
        n_input, n_output = tokens
        _check_tokens(n_input, n_output)
        if not 0 <= arrival_ns < _MAX_NS:
            raise BadTrace("a time must lie between 0 and 73 years")
        awaited = _awaited(after)
        if not all(0 <= one < len(self) for one in awaited):
            raise BadTrace("a follow-up must stand below the request it follows")
        n_blocks = -(-n_input // self.block_size)
        if blocks is None:
            self._anonymous.append(len(self))
        else:
            self._blocks.extend(self._checked(blocks, n_blocks))
        self.empty_outputs += not n_output
        self._arrival.append(arrival_ns)
        self._input.append(n_input)
        self._output.append(max(1, n_output))
        self._after.append(awaited[0] if awaited else -1)
        for other in awaited[1:]:
            self._joins.extend((len(self) - 1, other))
        self._program.append(-1 if program is None else program)
        self._n_blocks.append(n_blocks)
        return len(self) - 1

    @property
    def late(self) -> int:
        """Timed requests that come before one that stands above them. O(requests)."""
        arrival = np.array(self._arrival)[np.array(self._after) < 0]
        return int((arrival < np.maximum.accumulate(arrival)).sum()) if len(arrival) else 0

    @property
    def first_ns(self) -> int:
        """The first timed arrival as the file counts; 0 without one."""
        timed = np.array(self._arrival)[np.array(self._after) < 0]
        return int(timed.min()) if len(timed) else 0

    def trace(self, name: str, *, from_zero: bool = False) -> Trace:
        """All requests; `from_zero` moves the first timed arrival to 0."""
        if not len(self):
            raise BadTrace("there is no request in it")
        arrival, after = np.array(self._arrival), np.array(self._after)
        if from_zero:
            arrival[after < 0] -= arrival[after < 0].min()
        trace = Trace(
            name=name,
            block_size=self.block_size,
            arrival_ns=arrival,
            input_tokens=np.array(self._input),
            output_tokens=np.array(self._output),
            first_block=np.concatenate([[0], np.cumsum(np.array(self._n_blocks))]),
            blocks=self._block_ids(),
            after=after,
            joins=np.array(self._joins, np.int64).reshape(-1, 2),
            program=self._programs(),
        )
        return in_order(trace)

    def _programs(self) -> Numbers | None:
        """None: no request said its own. Who says none is of that of `after`, or is one alone."""
        programs = np.array(self._program)
        if (programs < 0).all():
            return None
        fresh = int(programs.max()) + 1
        for request in np.flatnonzero(programs < 0).tolist():
            after = self._after[request]
            programs[request] = fresh if after < 0 else programs[after]
            fresh += after < 0
        return programs

    def _checked(self, blocks: Sequence[int], n_blocks: int) -> "array[int]":
        if len(blocks) != n_blocks:
            raise BadTrace(
                f"{len(blocks)} block ids, but the prompt fills {n_blocks} blocks of"
                f" {self.block_size} tokens (the last may be shorter): mend it, or give another"
                " block size"
            )
        try:
            return array("Q", blocks)
        except OverflowError:
            raise BadTrace("a block id must lie between 0 and 2^64 - 1") from None

    def _block_ids(self) -> Numbers:
        """Known ids as they are; where some requests have none, all are numbered anew."""
        known = np.array(self._blocks, np.uint64)
        if not self._anonymous:
            return known.view(np.int64)
        is_fresh = np.zeros(len(self), np.bool_)
        is_fresh[self._anonymous] = True
        fresh = np.repeat(is_fresh, np.array(self._n_blocks))
        distinct, numbers = np.unique(known, return_inverse=True)
        blocks = np.empty(len(fresh), np.int64)
        blocks[~fresh] = numbers
        blocks[fresh] = np.arange(int(fresh.sum())) + len(distinct)
        return blocks


def nanoseconds(value: float | Decimal, unit_ns: int) -> int:
    """`value` units, to the nearest nanosecond. Raises `BadTrace` unless from 0 to 73 years."""
    is_finite = value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
    if not is_finite or value < 0:
        raise BadTrace("a time must be a number, and not negative")
    if value >= _MAX_NS // unit_ns:
        raise BadTrace("a time must lie within 73 years: is it of another unit (--time-unit)?")
    return round(value * unit_ns)


def earliest_ns(trace: Trace) -> Numbers:
    """When each request may come at the earliest, if engines took no time. O(requests)."""
    earliest, joined = trace.arrival_ns.copy(), trace.joined
    for request in np.flatnonzero(trace.after >= 0).tolist():
        last = earliest[trace.after[request]]
        for other in joined.get(request, ()):
            last = max(last, earliest[other])
        earliest[request] += last
    return earliest


def in_order(trace: Trace) -> Trace:
    """The same requests, in this module's order; `trace` itself when it has that already.

    Every `after` must point back, as it does in each trace made here.
    """
    order = np.argsort(earliest_ns(trace), kind="stable")
    if (order[1:] > order[:-1]).all():
        return trace
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    n_blocks = np.diff(trace.first_block)[order]
    first = np.concatenate([[0], np.cumsum(n_blocks)])
    # Where each block comes from: the old start of its request, plus its position there.
    source = np.repeat(trace.first_block[:-1][order] - first[:-1], n_blocks) + np.arange(first[-1])
    after = trace.after[order]
    after, joins = _lowest_first(np.where(after >= 0, place[after], -1), place[trace.joins])
    return replace(
        trace,
        arrival_ns=trace.arrival_ns[order],
        input_tokens=trace.input_tokens[order],
        output_tokens=trace.output_tokens[order],
        first_block=first,
        blocks=trace.blocks[source],
        after=after,
        joins=joins,
        program=None if trace.program is None else trace.program[order],
    )


def _lowest_first(after: Numbers, joins: NDArray[np.int64]) -> tuple[Numbers, NDArray[np.int64]]:
    """Of those that a request waits for the lowest in `after`, the others sorted. Changes both."""
    for row, (request, other) in enumerate(joins.tolist()):
        if other < after[request]:
            after[request], joins[row, 1] = other, after[request]
    return after, joins[np.lexsort(joins.T[::-1])]


def _awaited(after: int | Sequence[int] | None) -> list[int]:
    """Each once, the lowest first: it becomes `Trace.after`."""
    if after is None:
        return []
    return [after] if isinstance(after, int) else sorted(set(after))


def _check_tokens(n_input: int, n_output: int) -> None:
    if not 1 <= n_input <= MAX_TOKENS:
        none = ", and this one has none" if not n_input else ""
        raise BadTrace(f"a prompt must have from 1 to {MAX_TOKENS} tokens{none}")
    if not 0 <= n_output <= MAX_TOKENS:
        raise BadTrace(f"an output must have from 0 to {MAX_TOKENS} tokens")
