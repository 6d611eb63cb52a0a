"""Capacity: how fast a trace may come until its work fills a fleet. Pure.

Owns the work of a trace: how long workers of one timing compute if all of them shared one cache as
large as all together (`bounds.pooled_lru`), which no fleet does: a load of 0.9 is a share of what
nobody can serve whole. In seconds of one worker,

    prefill   each prompt's uncached tokens in steps of their own
    decode    steps in which as many decode at once as there are output tokens for each step of
              prefill, and no more than seats and half of the KV memory hold

    capacity  = workers x span / (prefill + decode)      speed at which the work takes as long as
                                                         the trace lasts

The span is that of arrivals that wait for no other; delays of follow-ups lengthen the last session
alone. Where those are most of a trace, a load is what it would be if it went on for ever.
"""

from dataclasses import dataclass, replace

import numpy as np

from radixroute.replay.analysis.bounds import pooled_lru_tokens
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace

# Of a worker's KV memory, what runs may fill; the rest is the cache that the pool stands for. A
# judgement: with all of it a fleet at its capacity would have nothing cached.
RUNNING_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """What a trace asks of a fleet."""

    workers: int
    span_s: float  # at speed 1
    prefill_s: float  # of one worker, as is `decode_s`
    decode_s: float
    reuse: float  # of the pooled cache

    @property
    def capacity(self) -> float:
        """The speed of arrivals at which the work fills all workers."""
        return self.workers * self.span_s / (self.prefill_s + self.decode_s)

    def speed(self, load: float) -> float:
        """Of arrivals that make `load` of the capacity, 1: all of it."""
        return load * self.capacity


def work_of(trace: Trace, numbered: Prefixes, shape: FleetShape, timing: Timing) -> Work:
    """O(blocks). Raises `InvalidShape` for a trace whose arrivals all come at once."""
    span_s = trace.duration_ns / 1e9
    if span_s <= 0.0:
        raise InvalidShape(
            "all requests come at one time, so no speed makes a load: spread the trace"
        )
    cached = pooled_lru_tokens(trace, numbered, shape.workers * shape.kv_blocks)
    computed, chunk = trace.input_tokens - cached, shape.max_num_batched_tokens
    whole, rest = np.divmod(computed, chunk)
    prefill_ms = float(whole.sum()) * timing.prefill_ms(chunk)
    prefill_ms += sum(map(timing.prefill_ms, rest.tolist()))
    # What chunks read of those before them, and of the cache.
    prefill_ms += timing.a_pair * float((computed * cached + (computed - rest) * rest).sum())
    prefill_ms += timing.a_pair * chunk**2 * float((whole * (whole - 1) / 2).sum())
    steps = int(whole.sum()) + int((rest > 0).sum())
    return Work(
        workers=shape.workers,
        span_s=span_s,
        prefill_s=prefill_ms / 1e3,
        decode_s=_decode_ms(trace, steps, shape, timing) / 1e3,
        reuse=float(cached.sum()) / max(1, trace.prompt_tokens),
    )


def _decode_ms(trace: Trace, prefill_steps: int, shape: FleetShape, timing: Timing) -> float:
    tokens = trace.output_tokens - 1  # the first comes with the prompt
    n = int(tokens.sum())
    if not n:
        return 0.0
    context = float((tokens * (trace.input_tokens + trace.output_tokens / 2)).sum()) / n
    kv_tokens = timing.kv_tokens or shape.kv_blocks * shape.block_size
    seats = min(float(shape.max_num_seqs), RUNNING_SHARE * kv_tokens / context)
    together = max(1.0, min(n / prefill_steps, seats))
    step_ms = replace(timing, kv_tokens=kv_tokens).decode_ms(together, together * context)
    return n / together * step_ms
