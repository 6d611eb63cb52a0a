"""Results of a replay: one row a request, in columns, and what the caches did meanwhile.

Frozen values, made by `simulate` (or from a live cluster), read by reports, bounds and miss
attribution. Times are nanoseconds from the start of the trace as replayed, after `speed`; -1:
never.
"""

from dataclasses import dataclass, field

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.radix.tree.eviction import LRU
from radixroute.replay.traces.trace import Trace

SIMULATED, LIVE = "simulated", "live"
PROBE_TOKENS = 2_000  # a prompt by whose time learned speeds are compared
# Idle time while requests waited at the router (`IdleBook`), and what each kind means.
IDLE_KINDS = {
    "planned": "each waiting request was weighed and would rather wait for another worker",
    "avoidable": "no plan weighed the worker for all that waited",
    "starting": "a request that had waited for the idle worker was on its way to it",
}


@dataclass(frozen=True, slots=True, eq=False)
class CacheEvents:
    """What the workers' caches did, in order of time; arrays of shape (changes,).

    A stored block is visible from `ns` on: the start of the step that computes it.
    """

    ns: Numbers
    worker: Numbers
    node: Numbers  # of `Prefixes`; numbers from `Prefixes.n_nodes` on are output blocks
    is_stored: np.ndarray[tuple[int], np.dtype[np.bool_]]  # else removed


@dataclass(frozen=True, slots=True, eq=False)
class CacheSums:
    """KV blocks of each worker, shape (workers,); None: not known."""

    total: Numbers
    held: Numbers | None = None  # at the end, those in use included
    evicted: Numbers | None = None  # ever


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSpeeds:
    """What the router thought of its workers' speeds while the run went on, about once a second."""

    ns: Numbers  # shape (looks,)
    # Of a prompt of `PROBE_TOKENS` uncached tokens; shape (looks, workers). NaN: not listed then.
    prefill_ms: np.ndarray[tuple[int, int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """One policy over one trace. Columns have shape (requests,), in trace order."""

    trace: Trace
    policy: str
    workers: int
    speed: float
    seed: int
    block_size: int  # tokens of an engine block
    arrival_ns: Numbers
    worker: Numbers  # of several attempts the first that was admitted, as in the next two
    decided_ns: Numbers  # when the router chose the worker
    admitted_ns: Numbers  # when the worker's scheduler took it: hits are pinned then
    first_ns: Numbers  # first token
    finish_ns: Numbers
    cached_tokens: Numbers  # of the prompt, found at admission
    predicted_tokens: Numbers  # that the router thought were cached, when it chose
    recomputed_tokens: Numbers  # computed again after preemptions
    wall_s: float
    events: CacheEvents | None = None  # kept only when asked for
    counters: dict[str, int] = field(default_factory=dict)
    source: str = SIMULATED
    # How long after its time each request was sent, ns; None: in virtual time nothing is late.
    lateness_ns: Numbers | None = None
    # Shape (workers, kinds of `IDLE_KINDS`): ns that each worker idled while requests waited.
    idle_ns: Numbers | None = None
    # Of a prompt of `PROBE_TOKENS` uncached tokens, as the router thought at the end, ms; shape
    # (workers,), NaN of those that are gone. None: not known.
    learned_ms: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
    caches: CacheSums | None = None
    eviction_policy: str = LRU  # of the workers
    learned: LearnedSpeeds | None = None  # kept only when asked for

    @property
    def reuse(self) -> float:
        """Cached prompt tokens / prompt tokens."""
        return float(self.cached_tokens.sum() / max(1, self.trace.prompt_tokens))

    @property
    def ttft_ms(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return (self.first_ns - self.arrival_ns) / 1e6

    @property
    def program_ms(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """From a program's first arrival to its last token, of each program that ended whole."""
        programs = self.trace.programs
        n_programs = int(programs.max(initial=-1)) + 1
        first = np.full(n_programs, np.iinfo(np.int64).max)
        last = np.full(n_programs, -1, np.int64)
        np.minimum.at(first, programs, self.arrival_ns)
        np.maximum.at(last, programs, self.finish_ns)
        ended = np.bincount(programs, self.finish_ns < 0, n_programs) == 0
        taken_ms: np.ndarray[tuple[int], np.dtype[np.float64]] = (last - first)[ended] / 1e6
        return taken_ms

    @property
    def mean_itl_ms(self) -> float:
        """Time between tokens, over all tokens but the first of each request."""
        n = self.trace.output_tokens - 1
        total = float((self.finish_ns - self.first_ns).sum()) / 1e6
        return total / max(1, int(n.sum()))
