"""Traces made of traces: faster, spread over time, fewer, with shorter prompts and outputs.

Pure; the given trace never changes.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.draft import in_order
from radixroute.replay.traces.trace import Trace


def scaled(trace: Trace, speed: float) -> Trace:
    """All times, follow-ups' delays too, divided by `speed`: 2 offers twice the load."""
    if not (math.isfinite(speed) and speed > 0):
        raise InvalidShape(f"speed must be a number above 0, not {speed}")
    arrival = np.rint(trace.arrival_ns / speed)
    if arrival.max(initial=0) >= 1 << 61:
        raise InvalidShape(f"at speed {speed} the trace would last for centuries")
    return in_order(replace(trace, arrival_ns=arrival.astype(np.int64)))


def spread(trace: Trace, seed: int, bucket_ns: int | None = None) -> Trace:
    """Arrivals that share a timestamp, drawn uniformly from what that timestamp stands for.

    That is `bucket_ns` from it on, or without one the time up to the next distinct timestamp (for
    the last: as long as the gap before it). An arrival alone on its timestamp stays; so do delays
    of follow-ups. For traces whose clock was coarse, as Mooncake's of 3 s.
    """
    timed = np.flatnonzero(trace.after < 0)
    stamps, group, sizes = np.unique(
        trace.arrival_ns[timed], return_inverse=True, return_counts=True
    )
    widths = _widths(stamps, bucket_ns)
    shared = np.flatnonzero(sizes[group] > 1)
    arrival = trace.arrival_ns.copy()
    # The draws go to requests in the trace's order, so that one seed gives one trace.
    draws = np.random.Generator(np.random.PCG64(seed)).random(len(shared))
    arrival[timed[shared]] += (draws * widths[group[shared]]).astype(np.int64)
    return in_order(replace(trace, arrival_ns=arrival))


def cut(trace: Trace, n: int) -> Trace:
    """The first `n` requests; all of them when there are fewer."""
    if n < 1:
        raise InvalidShape(f"a trace is cut to 1 request or more, not {n}")
    if n >= len(trace):
        return trace
    return replace(
        trace,
        arrival_ns=trace.arrival_ns[:n],
        input_tokens=trace.input_tokens[:n],
        output_tokens=trace.output_tokens[:n],
        first_block=trace.first_block[: n + 1],
        blocks=trace.blocks[: trace.first_block[n]],
        after=trace.after[:n],
        joins=trace.joins[trace.joins[:, 0] < n],
        program=None if trace.program is None else trace.program[:n],
    )


def resized(trace: Trace, factor: float, block_size: int) -> Trace:
    """All lengths times `factor`, near enough that a block of it is whole engine blocks.

    A block of the trace becomes the nearest number of blocks of `block_size` tokens, one at least;
    that ratio holds for outputs and for partial blocks. So prompts share what they shared.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise InvalidShape(f"lengths are scaled by a number above 0, not {factor}")
    block = max(1, round(trace.block_size * factor / block_size)) * block_size
    ratio = block / trace.block_size
    whole, rest = np.divmod(trace.input_tokens, trace.block_size)
    partial = np.where(rest > 0, np.clip(np.rint(rest * ratio), 1, block), 0).astype(np.int64)
    outputs = np.maximum(1, np.rint(trace.output_tokens * ratio)).astype(np.int64)
    return replace(
        trace, block_size=block, input_tokens=whole * block + partial, output_tokens=outputs
    )


def capped(trace: Trace, max_output: int) -> Trace:
    """No output longer than `max_output` tokens."""
    if max_output < 1:
        raise InvalidShape(f"an output has 1 token or more, so it cannot end at {max_output}")
    return replace(trace, output_tokens=np.minimum(trace.output_tokens, max_output))


def kept(trace: Trace, keep: NDArray[np.bool_]) -> Trace:
    """Without the others, and without what follows one of them. `keep`: shape (requests,)."""
    keep = keep.copy()
    for request in np.flatnonzero(trace.after >= 0).tolist():  # in order: all point back
        others = trace.joined.get(request, [])
        keep[request] &= keep[[int(trace.after[request]), *others]].all()
    if not keep.any():
        raise InvalidShape("no request of the trace is left")
    number = np.cumsum(keep) - 1
    after, joins = trace.after[keep], trace.joins[keep[trace.joins[:, 0]]]
    n_blocks = np.diff(trace.first_block)
    return replace(
        trace,
        arrival_ns=trace.arrival_ns[keep],
        input_tokens=trace.input_tokens[keep],
        output_tokens=trace.output_tokens[keep],
        first_block=np.concatenate([[0], np.cumsum(n_blocks[keep])]),
        blocks=trace.blocks[np.repeat(keep, n_blocks)],
        after=np.where(after >= 0, number[after], -1),
        joins=number[joins],
        program=None if trace.program is None else trace.program[keep],
    )


def _widths(stamps: Numbers, bucket_ns: int | None) -> Numbers:
    """How long each timestamp lasts, in ns."""
    if bucket_ns is not None:
        if bucket_ns < 1:
            raise InvalidShape(f"a bucket lasts 1 ns or more, not {bucket_ns}")
        return np.full(len(stamps), bucket_ns, np.int64)
    if len(stamps) < 2:
        raise InvalidShape("all requests come at one time: say how long that lasts (bucket_ns)")
    gaps = np.diff(stamps)
    return np.concatenate([gaps, gaps[-1:]])
