"""Figures of one run: the numbers that sum it up, and curves over its time, short enough to draw.

Pure. A request that was never answered counts in `reuse` and `unanswered` and in no time: whoever
prints a mean says how many it leaves out.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.arrays import Floats
from radixroute.replay.results import IDLE_KINDS, SIMULATED, RunResult

# Shares of requests at which a distribution is drawn: even, and denser where the slowest are.
_QUANTILES: Floats = np.union1d(np.arange(101) / 100, 0.95 + np.arange(26) / 500)


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Times in milliseconds; NaN where nothing was measured."""

    policy: str
    workers: int
    speed: float
    seed: int
    requests: int
    unanswered: int
    reuse: float
    of_reachable: float | None  # reuse over that of the bound
    ttft_mean_ms: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    itl_mean_ms: float  # over all tokens but the first of each request
    itl_p99_ms: float  # of the requests' means
    load_max_over_mean: float  # prompt tokens of the worker that got most, over the mean
    source: str = SIMULATED
    # From a program's first arrival to its last token; NaN too where no request has company.
    program_mean_ms: float = np.nan
    program_p50_ms: float = np.nan
    program_p99_ms: float = np.nan

    @property
    def name(self) -> str:
        """The policy; of a run on a real cluster it says so."""
        return self.policy if self.source == SIMULATED else f"{self.policy} ({self.source})"

    @property
    def setting(self) -> tuple[int, float, int]:
        """Runs that may be compared have the same."""
        return self.workers, self.speed, self.seed


def run_figures(result: RunResult, reachable: float | None = None) -> RunFigures:
    """`reachable`: the reuse that a bound allows."""
    ttft = answered_ttft_ms(result)
    itl = request_itl_ns(result)
    timed = ~np.isnan(itl)
    gaps = result.trace.output_tokens[timed] - 1
    p50, p90, p99 = np.percentile(ttft, (50, 90, 99)) if len(ttft) else (np.nan,) * 3
    programs = program_ms(result)
    program_p50, program_p99 = np.percentile(programs, (50, 99)) if len(programs) else (np.nan,) * 2
    return RunFigures(
        policy=result.policy,
        workers=result.workers,
        speed=result.speed,
        seed=result.seed,
        requests=len(result.trace),
        unanswered=len(result.trace) - len(ttft),
        reuse=result.reuse,
        of_reachable=result.reuse / reachable if reachable else None,
        ttft_mean_ms=float(ttft.mean()) if len(ttft) else np.nan,
        ttft_p50_ms=float(p50),
        ttft_p90_ms=float(p90),
        ttft_p99_ms=float(p99),
        itl_mean_ms=float((itl[timed] * gaps).sum() / gaps.sum() / 1e6) if timed.any() else np.nan,
        itl_p99_ms=float(np.percentile(itl[timed], 99)) / 1e6 if timed.any() else np.nan,
        load_max_over_mean=_load_max_over_mean(result),
        source=result.source,
        program_mean_ms=float(programs.mean()) if len(programs) else np.nan,
        program_p50_ms=float(program_p50),
        program_p99_ms=float(program_p99),
    )


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after their time requests were sent, in milliseconds."""

    mean_ms: float
    p99_ms: float
    max_ms: float


def lateness(result: RunResult) -> Lateness | None:
    """None: in virtual time nothing is late."""
    if result.lateness_ns is None or not len(result.lateness_ns):
        return None
    late = result.lateness_ns / 1e6
    return Lateness(float(late.mean()), float(np.percentile(late, 99)), float(late.max()))


def idle_ms(result: RunResult) -> dict[str, list[float]] | None:
    """By kind of `IDLE_KINDS`, one number a worker. None: not known."""
    if result.idle_ns is None:
        return None
    by_kind = (result.idle_ns / 1e6).T.tolist()
    return dict(zip(IDLE_KINDS, by_kind, strict=True))


def program_ms(result: RunResult) -> Floats:
    """Of the programs that ended; none where every request is one alone."""
    trace = result.trace
    if int(trace.programs.max(initial=-1)) + 1 == len(trace):
        return np.empty(0)
    return result.program_ms


def answered_ttft_ms(result: RunResult) -> Floats:
    """Of the requests that got a first token, in trace order."""
    answered = result.first_ns >= 0
    return (result.first_ns - result.arrival_ns)[answered] / 1e6


def request_itl_ns(result: RunResult) -> Floats:
    """Mean time between tokens of each request; NaN for those of one token and unfinished ones."""
    gaps = result.trace.output_tokens - 1
    found = np.full(len(gaps), np.nan)
    timed = (gaps > 0) & (result.first_ns >= 0) & (result.finish_ns >= 0)
    found[timed] = (result.finish_ns - result.first_ns)[timed] / gaps[timed]
    return found


@dataclass(frozen=True, slots=True)
class TtftParts:
    """What the time to first token went into, for answered requests in trace order; shape (n,), ms.

    Their sum is the TTFT. `queue_ms`: at the worker, until its scheduler took the request; zero
    where that moment is not known (live runs), which then is in `compute_ms`.
    """

    router_ms: Floats  # until the router chose a worker
    queue_ms: Floats
    compute_ms: Floats  # steps from admission to first token, with all else that they computed
    has_queue: bool  # False: admissions are not known

    def means(self) -> tuple[float, float, float]:
        """At the router, at the worker, computing. Zeros where nothing was answered."""
        columns = (self.router_ms, self.queue_ms, self.compute_ms)
        router, queue, compute = (float(one.mean()) if len(one) else 0.0 for one in columns)
        return router, queue, compute


def ttft_parts(result: RunResult) -> TtftParts:
    answered = result.first_ns >= 0
    arrival, first = result.arrival_ns[answered], result.first_ns[answered]
    decided, admitted = result.decided_ns[answered], result.admitted_ns[answered]
    # A moment that nobody noted ends no part: it is taken to be the one before.
    decided = np.clip(np.where(decided >= 0, decided, arrival), arrival, first)
    has_queue = bool((admitted >= 0).any())
    admitted = np.clip(np.where(admitted >= 0, admitted, decided), decided, first)
    return TtftParts(
        (decided - arrival) / 1e6, (admitted - decided) / 1e6, (first - admitted) / 1e6, has_queue
    )


def work_by_worker(result: RunResult) -> Floats:
    """Prompt tokens that each worker had to compute, over the mean of all; shape (workers,)."""
    placed = result.worker >= 0
    computed = (result.trace.input_tokens - result.cached_tokens)[placed]
    found = np.bincount(result.worker[placed], computed, minlength=result.workers)
    return np.asarray(found / max(1e-9, found.mean()), np.float64)


def ttft_distribution(result: RunResult) -> tuple[Floats, Floats]:
    """(ms, share of answered requests that were not slower), both rising."""
    ttft = answered_ttft_ms(result)
    if not len(ttft):
        return ttft, ttft
    return np.asarray(np.quantile(ttft, _QUANTILES), np.float64), _QUANTILES


def share_over_time(result: RunResult, tokens: Numbers, buckets: int) -> tuple[Floats, Floats]:
    """(seconds, share of the prompt tokens that arrived then); times without arrivals left out.

    `tokens`: of each request, served from cache by a run or a bound.
    """
    came = result.arrival_ns >= 0
    if not came.any():
        return np.empty(0), np.empty(0)
    arrival = result.arrival_ns[came]
    width = (int(arrival.max()) + 1) / buckets
    bucket = np.minimum((arrival / width).astype(np.int64), buckets - 1)
    prompt = np.bincount(bucket, result.trace.input_tokens[came], buckets)
    served = np.bincount(bucket, tokens[came], buckets)
    filled = np.flatnonzero(prompt)
    seconds = (filled + 0.5) * width / 1e9
    return np.asarray(seconds, np.float64), np.asarray(served[filled] / prompt[filled], np.float64)


def in_flight_over_time(result: RunResult, buckets: int) -> tuple[Floats, Floats]:
    """(seconds, mean requests in flight of shape (workers, buckets)), from decision to end.

    A request that never ended is in flight for ever.
    """
    end = max(1, int(max(result.finish_ns.max(initial=0), result.decided_ns.max(initial=0))))
    edges = np.linspace(0, end, buckets + 1)
    found = np.zeros((result.workers, buckets))
    placed = (result.decided_ns >= 0) & (result.worker >= 0)
    ended = np.where(result.finish_ns >= 0, result.finish_ns, end)
    for worker in range(result.workers):
        mine = placed & (result.worker == worker)
        spent = _time_since(result.decided_ns[mine], edges) - _time_since(ended[mine], edges)
        found[worker] = np.diff(spent) / (end / buckets)
    return (edges[:-1] + edges[1:]) / 2e9, np.maximum(found, 0.0)


def _time_since(moments: Numbers, at: Floats) -> Floats:
    """At each of `at`: the time since each of the moments before it, summed."""
    moments = np.sort(moments)
    before = np.searchsorted(moments, at)
    sums = np.concatenate([[0], np.cumsum(moments)])
    return np.asarray(before * at - sums[before], np.float64)


def _load_max_over_mean(result: RunResult) -> float:
    placed = result.worker >= 0
    tokens = np.bincount(
        result.worker[placed], result.trace.input_tokens[placed], minlength=result.workers
    )
    return float(tokens.max() / tokens.mean()) if tokens.any() else float("nan")
