"""Diff of two runs over one trace, request by request: who was placed elsewhere, at what cost.

Pure: rows of `requests.jsonl` in, values and text out. Everything is the second run less the first:
more milliseconds are worse, more cached tokens are better. Workers are compared by number, so a
policy that only names them in another order counts as different.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from radixroute.replay.errors import InvalidShape, UnreadableRows


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One line of `requests.jsonl`, as far as runs are compared by it. None: never."""

    index: int
    worker: int | None
    ttft_ms: float | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A request that the two runs placed on different workers."""

    a: RequestRow
    b: RequestRow

    @property
    def ttft_ms(self) -> float | None:
        """None unless both runs answered."""
        if self.a.ttft_ms is None or self.b.ttft_ms is None:
            return None
        return self.b.ttft_ms - self.a.ttft_ms

    @property
    def cached_tokens(self) -> int:
        return self.b.cached_tokens - self.a.cached_tokens


@dataclass(frozen=True, slots=True)
class Total:
    """Over some of the requests. Times only of those that both runs answered."""

    requests: int
    answered: int
    ttft_ms: float
    cached_tokens: int

    @property
    def mean_ttft_ms(self) -> float:
        return self.ttft_ms / self.answered if self.answered else 0.0


@dataclass(frozen=True, slots=True)
class Diff:
    """`moved` + `stayed` is all requests; those that stayed may wait for others that moved."""

    moved: Total
    stayed: Total
    # Of the moved ones: largest change of TTFT first, or of cached tokens where it is the same.
    top: tuple[Moved, ...]
    answered_only_by_a: int
    answered_only_by_b: int


def read_rows(lines: Iterable[str]) -> list[RequestRow]:
    """O(lines). Raises `UnreadableRows` with the number of the first line that is no request."""
    return [_row(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def diff(a: Sequence[RequestRow], b: Sequence[RequestRow], top: int = 10) -> Diff:
    """Raises `InvalidShape` where the rows are not of the same trace."""
    pairs = list(_pairs(a, b))
    moved = [pair for pair in pairs if pair.a.worker != pair.b.worker]
    stayed = [pair for pair in pairs if pair.a.worker == pair.b.worker]
    ranked = sorted(moved, key=lambda m: (-abs(m.ttft_ms or 0.0), -abs(m.cached_tokens), m.a.index))
    return Diff(
        _total(moved),
        _total(stayed),
        tuple(ranked[: max(0, top)]),
        sum(p.a.ttft_ms is not None and p.b.ttft_ms is None for p in pairs),
        sum(p.a.ttft_ms is None and p.b.ttft_ms is not None for p in pairs),
    )


def diff_text(found: Diff) -> str:
    """For a terminal; numbers only, so nothing in it needs to be escaped."""
    n = found.moved.requests + found.stayed.requests
    if not n:
        return "No requests.\n"
    lines = [
        f"{found.moved.requests:,} of {n:,} requests went to another worker"
        f" ({100 * found.moved.requests / n:.1f} %). Second run less first:",
        _total_line("moved", found.moved),
        _total_line("stayed", found.stayed),
    ]
    for run, count in (("first", found.answered_only_by_a), ("second", found.answered_only_by_b)):
        if count:
            lines.append(f"  {count:,} answered only by the {run} run; they count in no time")
    if found.top:
        lines += [
            "",
            f"{'request':>9} {'worker':>11} {'TTFT, ms':>24} {'change':>11}"
            f" {'cached tokens':>19} {'change':>9}",
        ]
    for one in found.top:
        workers = f"{_name(one.a.worker)} > {_name(one.b.worker)}"
        times = f"{_time(one.a.ttft_ms)} > {_time(one.b.ttft_ms)}"
        cached = f"{one.a.cached_tokens:,} > {one.b.cached_tokens:,}"
        change = "-" if one.ttft_ms is None else f"{one.ttft_ms:+,.1f}"
        lines.append(
            f"{one.a.index:>9} {workers:>11} {times:>24} {change:>11}"
            f" {cached:>19} {one.cached_tokens:>+9,}"
        )
    return "\n".join(lines) + "\n"


def _pairs(a: Sequence[RequestRow], b: Sequence[RequestRow]) -> Iterator[Moved]:
    for one, other in zip_longest(a, b):
        if one is None or other is None:
            raise InvalidShape(
                f"one run has {len(a)} requests, the other {len(b)}: compare runs of one trace"
            )
        if (one.index, one.input_tokens, one.output_tokens) != (
            other.index,
            other.input_tokens,
            other.output_tokens,
        ):
            raise InvalidShape(
                f"request {one.index} has {one.input_tokens} prompt and {one.output_tokens} output"
                f" tokens in one run; the other has request {other.index} with"
                f" {other.input_tokens} and {other.output_tokens}: compare runs of one trace"
            )
        yield Moved(one, other)


def _total(pairs: Sequence[Moved]) -> Total:
    times = [pair.ttft_ms for pair in pairs if pair.ttft_ms is not None]
    # fsum: the order of the requests must not show in the last digits.
    return Total(len(pairs), len(times), math.fsum(times), sum(p.cached_tokens for p in pairs))


def _total_line(name: str, total: Total) -> str:
    return (
        f"  {name:<7}{total.requests:>8,} requests: mean TTFT {total.mean_ttft_ms:+,.1f} ms,"
        f" summed {total.ttft_ms:+,.0f} ms; cached tokens {total.cached_tokens:+,}"
    )


def _name(worker: int | None) -> str:
    return "-" if worker is None else str(worker)


def _time(ms: float | None) -> str:
    return "never" if ms is None else f"{ms:,.1f}"


def _row(number: int, line: str) -> RequestRow:
    try:
        record = json.loads(line)
        return RequestRow(
            index=_whole(record["index"]),
            worker=None if record["worker"] is None else _whole(record["worker"]),
            ttft_ms=None if record["ttft_ms"] is None else _finite(record["ttft_ms"]),
            input_tokens=_whole(record["input_tokens"]),
            output_tokens=_whole(record["output_tokens"]),
            cached_tokens=_whole(record["cached_tokens"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UnreadableRows(
            f"line {number} is not a request of a replay ({type(error).__name__}):"
            " name a requests.jsonl that a replay wrote"
        ) from None


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return float(value)
