"""Plan: how many workers with how much KV memory, under which policy, meet goals on a trace.

Searches the simulator. For each policy and memory it looks for the least number of workers that
meets the goals, taking it that more workers never make them worse: from a guess in growing strides
to the first fleet that fails and the first that meets them, then by halves between the two. The
guess is what the next larger memory needed, or the work of the prompts. Pure but for the time runs
take.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from radixroute.radix.tree.eviction import LRU
from radixroute.replay.analysis.bounds import infinite
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape, blocks_for, engine_block_size
from radixroute.replay.fleet.timing import POLYNOMIAL, Timing
from radixroute.replay.report.figures import RunFigures, run_figures
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.reshape import scaled
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes
from radixroute.router.policy.registry import policy_named

TTFT_PLACES = ("mean", "p50", "p90", "p99")
ITL_PLACES = ("mean", "p99")
# KV tokens of the machine that a timing without its own was fitted to; see `_timing`.
_FITTED_KV_TOKENS = 1 << 20
_LEAST_KV_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True)
class Goals:
    """What a fleet must keep to, in milliseconds; None: no goal."""

    ttft_ms: float | None = None
    itl_ms: float | None = None
    ttft_at: str = "p90"  # of `TTFT_PLACES`
    itl_at: str = "mean"  # of `ITL_PLACES`

    def __post_init__(self) -> None:
        if self.ttft_ms is None and self.itl_ms is None:
            raise InvalidShape("a plan needs a goal: --ttft-ms, --itl-ms or both")
        for goal in (self.ttft_ms, self.itl_ms):
            if goal is not None and not goal > 0:
                raise InvalidShape(f"a goal is a number of milliseconds above 0, not {goal}")
        for place, places in ((self.ttft_at, TTFT_PLACES), (self.itl_at, ITL_PLACES)):
            if place not in places:
                raise InvalidShape(f"a goal cannot be of {place}: use one of {', '.join(places)}")

    def ttft_of(self, figures: RunFigures) -> float:
        return float(getattr(figures, f"ttft_{self.ttft_at}_ms"))

    def itl_of(self, figures: RunFigures) -> float:
        return float(getattr(figures, f"itl_{self.itl_at}_ms"))

    def are_met(self, figures: RunFigures) -> bool:
        # A trace of one-token outputs has no time between tokens: NaN meets every goal of it.
        return not (
            (self.ttft_ms is not None and not self.ttft_of(figures) <= self.ttft_ms)
            or (self.itl_ms is not None and self.itl_of(figures) > self.itl_ms)
        )


@dataclass(frozen=True, slots=True)
class Space:
    """Where to search."""

    policies: tuple[str, ...] = ("radix", "dynamo_agentic", "round_robin")
    kv_tokens: tuple[int, ...] = ()  # memories of a worker; none: some that suit the trace
    max_workers: int = 64
    block_size: int | None = None  # tokens; None: what suits the trace
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    timing: Timing = POLYNOMIAL
    speed: float = 1.0
    seed: int = 0
    eviction_policy: str = LRU
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        if not self.policies:
            raise InvalidShape("policies: name at least one")
        for name in self.policies:
            policy_named(name)
        if self.max_workers < 1:
            raise InvalidShape(f"max_workers must be at least 1, not {self.max_workers}")
        if not (np.isfinite(self.speed) and self.speed > 0):
            raise InvalidShape("a speed is a number above 0")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The smallest fleet of one policy and memory, or the largest looked at where none does."""

    policy: str
    kv_tokens: int  # of each worker
    workers: int
    figures: RunFigures
    meets: bool

    @property
    def total_kv_tokens(self) -> int:
        return self.workers * self.kv_tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """What the search found."""

    goals: Goals
    block_size: int  # tokens of an engine block
    fleets: tuple[Fleet, ...]  # by policy, then memory; one for each that could be searched
    too_small: tuple[int, ...]  # memories that do not hold the longest request
    decode_kv_tokens: int  # of the machine that decodes as the timing says
    runs: int  # simulated

    @property
    def frontier(self) -> tuple[Fleet, ...]:
        """Fleets that meet the goals and that none beats: no fewer workers and no less memory.

        By workers, then by memory; of equal ones that which answers first.
        """
        found: list[Fleet] = []
        for one in sorted((fleet for fleet in self.fleets if fleet.meets), key=self._order):
            if all(other.total_kv_tokens > one.total_kv_tokens for other in found):
                found.append(one)
        return tuple(found)

    def _order(self, fleet: Fleet) -> tuple[int, int, float]:
        return fleet.workers, fleet.total_kv_tokens, fleet.figures.ttft_mean_ms


def plan(trace: Trace, goals: Goals, space: Space, tell: Callable[[int, int, str], None]) -> Plan:
    """`tell`: searches done, searches in all, what is simulated now. Raises `InvalidShape`."""
    return _Search(trace, goals, space, tell).run()


def usual_memories(trace: Trace, numbered: Prefixes) -> tuple[int, ...]:
    """KV tokens of a worker worth looking at, in doublings: from what holds the longest request
    twice to what holds every prefix of the trace, or as much as one machine has.
    """
    longest = int((trace.input_tokens + trace.output_tokens).max())
    found = [max(_LEAST_KV_TOKENS, 1 << (2 * longest - 1).bit_length())]
    most = min(_FITTED_KV_TOKENS, numbered.n_nodes * numbered.block_size)
    while found[-1] < most:
        found.append(2 * found[-1])
    return tuple(found)


class _Search:
    """One search; remembers what it simulated."""

    def __init__(
        self, trace: Trace, goals: Goals, space: Space, tell: Callable[[int, int, str], None]
    ) -> None:
        self._trace, self._goals, self._space, self._tell = trace, goals, space, tell
        self._block = space.block_size or engine_block_size(trace.block_size)
        self._numbered = prefixes(trace, self._block)
        self._memories = sorted(set(space.kv_tokens or usual_memories(trace, self._numbered)))
        self._timing = _timing(space.timing, self._memories)
        self._known: dict[tuple[str, int, int], RunFigures] = {}
        self._n_done = 0

    def run(self) -> Plan:
        longest = int((self._trace.input_tokens + self._trace.output_tokens).max())
        fitting = [size for size in self._memories if size >= longest + self._block]
        if not fitting:
            raise InvalidShape(
                f"the longest request has {longest:,} tokens: no memory of {self._memories[-1]:,}"
                " tokens or fewer holds it"
            )
        fleets = [
            fleet for policy in self._space.policies for fleet in self._of_policy(policy, fitting)
        ]
        return Plan(
            goals=self._goals,
            block_size=self._block,
            fleets=tuple(fleets),
            too_small=tuple(size for size in self._memories if size not in fitting),
            decode_kv_tokens=self._timing.kv_tokens,
            runs=len(self._known),
        )

    def _of_policy(self, policy: str, memories: list[int]) -> list[Fleet]:
        """From the largest memory down: a smaller one needs as many workers, or more."""
        found: list[Fleet] = []
        guess = self._guess()
        for size in reversed(memories):
            fleet = self._least(policy, size, guess)
            found.append(fleet)
            guess = fleet.workers
            self._n_done += 1
        return found[::-1]

    def _guess(self) -> int:
        """Workers that would be busy with what no cache can save of the prompts."""
        trace = self._trace
        computed = 1.0 - infinite(trace, self._numbered).fraction
        lengths = np.maximum(1, trace.input_tokens * computed)
        work_ms = sum(self._timing.prefill_ms(n) for n in lengths.tolist())
        span_ms = scaled(trace, self._space.speed).duration_ns / 1e6
        busy = int(np.ceil(work_ms / span_ms)) if span_ms else 1
        return max(1, min(busy, self._space.max_workers))

    def _least(self, policy: str, size: int, guess: int) -> Fleet:
        """The least workers that meet the goals, looked for around `guess`."""
        fails, meets = 0, None  # the most known to fail, the least known to meet
        at, stride = guess, 1
        while meets is None or meets - fails > 1:
            if self._meets(policy, size, at):
                meets = at
            else:
                fails = at
            if meets is None:
                if fails == self._space.max_workers:
                    return self._fleet(policy, size, fails)
                at, stride = min(fails + stride, self._space.max_workers), 2 * stride
            elif fails == 0 and meets > 1:
                at, stride = max(1, meets - stride), 2 * stride
            else:
                at = (fails + meets) // 2
        return self._fleet(policy, size, meets)

    def _fleet(self, policy: str, size: int, workers: int) -> Fleet:
        figures = self._figures(policy, size, workers)
        return Fleet(policy, size, workers, figures, self._goals.are_met(figures))

    def _meets(self, policy: str, size: int, workers: int) -> bool:
        return self._goals.are_met(self._figures(policy, size, workers))

    def _figures(self, policy: str, size: int, workers: int) -> RunFigures:
        key = (policy, size, workers)
        if key not in self._known:
            n_searches = len(self._space.policies) * len(self._memories)
            self._tell(self._n_done, n_searches, f"{policy}, {workers} workers of {size:,} tokens")
            scenario = Scenario(
                self._shape(size, workers),
                self._timing,
                self._space.speed,
                self._space.seed,
                self._space.conditions,
            )
            self._known[key] = run_figures(simulate(self._trace, policy, scenario, self._numbered))
        return self._known[key]

    def _shape(self, size: int, workers: int) -> FleetShape:
        return FleetShape(
            workers=workers,
            kv_blocks=blocks_for(size, self._block),
            block_size=self._block,
            max_num_batched_tokens=self._space.max_num_batched_tokens,
            max_num_seqs=self._space.max_num_seqs,
            eviction_policy=self._space.eviction_policy,
        )


def _timing(timing: Timing, memories: list[int]) -> Timing:
    """The same machine for every memory.

    A timing without KV tokens of its own takes a step's context as a share of the worker's memory:
    a worker with less of it would decode more slowly for that alone. So the share is of the machine
    that it was fitted to. Where more context than that fits, a curve that bends down would say that
    steps get shorter by doing more: its chord goes on instead.
    """
    if timing.kv_tokens:
        return timing
    timing = replace(timing, kv_tokens=_FITTED_KV_TOKENS)
    if timing.d2 >= 0 or max(memories) <= _FITTED_KV_TOKENS:
        return timing
    return replace(timing, d2=0.0, d1=timing.d1 + timing.d2)
