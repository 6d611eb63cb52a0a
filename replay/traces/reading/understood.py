"""What was understood of a trace file, in words: what every replay begins with. Pure.

Whoever sees that 40 requests come within 0.02 s, or that nothing can be reused, sees that a file
was read otherwise than it was meant before a table of policies hides it.
"""

from typing import TYPE_CHECKING

from radixroute.replay.traces.reading.times import NAMES, duration, rate_text
from radixroute.replay.traces.trace import Trace

if TYPE_CHECKING:
    from radixroute.replay.traces.files import Reading


def understood(reading: "Reading", trace: Trace, block_size: int, reusable: float) -> list[str]:
    """Lines about `trace`, which is what is replayed of what was read.

    `block_size`: tokens of an engine block. `reusable`: prompt tokens that a cache without a limit
    would serve / prompt tokens.
    """
    first = f"{trace.name}: {_requests(reading, trace)}, {_pace(trace)}; {_form(reading)}"
    lines = [
        first,
        f"{trace.prompt_tokens:,} prompt tokens (mean {_mean(trace.prompt_tokens, trace)}),"
        f" {int(trace.output_tokens.sum()):,} output tokens"
        f" (mean {_mean(int(trace.output_tokens.sum()), trace)})",
        f"{_blocks(trace, block_size)}; {reusable:.1%} of the prompt tokens can be reused"
        + ("" if reusable else ": no two prompts share a block"),
    ]
    n_follow = int((trace.after >= 0).sum())
    if n_follow:
        lines.append(f"{n_follow:,} requests come after the answer to another")
    lines += [f"taken: {remark}" for remark in reading.remarks]
    return [*lines, *(f"repaired: {repair}" for repair in reading.repairs)]


def _requests(reading: "Reading", trace: Trace) -> str:
    n, n_read = len(trace), len(reading.trace)
    return f"{n:,} requests" if n == n_read else f"the first {n:,} of {n_read:,} requests"


def _pace(trace: Trace) -> str:
    n_timed = int((trace.after < 0).sum())
    span_ns = trace.duration_ns
    if not span_ns:
        return "all at one time" if n_timed == len(trace) else f"{n_timed:,} of them timed"
    counted = "" if n_timed == len(trace) else f"{n_timed:,} timed ones "
    return f"{counted}within {duration(span_ns)}, {rate_text((n_timed - 1) / span_ns * 1e9)}"


def _form(reading: "Reading") -> str:
    unit = "" if reading.unit is None else f", times in {NAMES[reading.unit]}"
    return f"format {reading.format}{unit}"


def _blocks(trace: Trace, block_size: int) -> str:
    if trace.block_size == block_size:
        return f"blocks of {block_size} tokens"
    return f"blocks of {trace.block_size} tokens, for the engine {block_size}"


def _mean(tokens: int, trace: Trace) -> str:
    return f"{tokens / len(trace):,.0f}"
