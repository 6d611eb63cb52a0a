"""Simulation of a trace on the fleet: the real `RouterCore` and index, in virtual time.

Owns which requests come when, of a trace, and what the run made of each. How time passes is the
business of `world`. The same inputs give the same result.
"""

import heapq
import time

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.cache_events import cache_events
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.results import CacheSums, LearnedSpeeds, RunResult
from radixroute.replay.routers.simulated_requests import SimulatedRequests
from radixroute.replay.scenario import Scenario
from radixroute.replay.traces.programs.follow_ups import FollowUps
from radixroute.replay.traces.session_ends import session_ends
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes
from radixroute.replay.world import SimulatedWorld


def simulate(
    trace: Trace, policy: str, scenario: Scenario, numbered: Prefixes | None = None
) -> RunResult:
    """One policy over one trace. Raises `InvalidShape` for requests no worker could hold.

    `numbered`: the trace's prefixes for this block size, if they are known already.
    """
    return Simulation(trace, policy, scenario, numbered).run()


class Simulation(SimulatedWorld):
    """One run."""

    def __init__(
        self, trace: Trace, policy: str, scenario: Scenario, numbered: Prefixes | None
    ) -> None:
        self._trace = trace
        self._prefixes = numbered or prefixes(trace, scenario.shape.block_size)
        told = session_ends(trace, scenario.session_ends, scenario.seed)
        fleet = SimulatedFleet(trace, self._prefixes, scenario.shape, scenario.timing, last_of=told)
        self._arrival_ns = (trace.arrival_ns / scenario.speed).astype(np.int64)
        requests = SimulatedRequests(
            trace, policy, self._prefixes, self._arrival_ns, scenario.routers
        )
        super().__init__(policy, scenario, fleet, requests)
        self._follow_ups = FollowUps(trace)
        self._n_left = len(trace)

    def run(self) -> RunResult:
        started = time.perf_counter()
        first = np.flatnonzero(self._trace.after < 0)
        self._arrivals += zip(self._arrival_ns[first].tolist(), first.tolist(), strict=True)
        heapq.heapify(self._arrivals)
        while self._n_left:
            self._pass()
        return self._result(time.perf_counter() - started)

    @property
    def _stops_at_ends(self) -> bool:
        return bool(self._follow_ups)

    def _ended(self, request: int, end_ns: int) -> None:
        """Who follows it comes now or after a while."""
        self._n_left -= 1
        heard_ns = end_ns + self._client_ns
        for follower, last_ns in self._follow_ups.ended(request, heard_ns):
            due_ns = last_ns + int(self._arrival_ns[follower])
            self._arrival_ns[follower] = due_ns
            heapq.heappush(self._arrivals, (due_ns, follower))

    def _result(self, wall_s: float) -> RunResult:
        rows = self._fleet.attempts.outcomes()
        events = None
        if self._scenario.keeps_events:
            events = cache_events(self._kept, self._prefixes, self._fleet.n_unique)
        counters = {
            "preemptions": int(self._fleet.workers[:, at.N_PREEMPTED].sum()),
            "evicted_blocks": int(self._fleet.workers[:, at.N_EVICTED].sum()),
        }
        if self._fleet.attempts.n_cut_off:
            counters["cut_off"] = self._fleet.attempts.n_cut_off
        return RunResult(
            trace=self._trace,
            policy=self._policy,
            workers=self._scenario.shape.workers,
            speed=self._scenario.speed,
            seed=self._scenario.seed,
            block_size=self._scenario.shape.block_size,
            arrival_ns=self._arrival_ns,
            worker=rows[:, at.WORKER].copy(),
            decided_ns=self._decided_ns,
            admitted_ns=rows[:, at.ADMITTED_NS].copy(),
            first_ns=self._heard_ns(rows[:, at.FIRST_NS]),
            finish_ns=self._heard_ns(rows[:, at.FINISH_NS]),
            cached_tokens=rows[:, at.CACHED].copy(),
            predicted_tokens=self._predicted,
            recomputed_tokens=rows[:, at.RECOMPUTED].copy(),
            wall_s=wall_s,
            events=events,
            eviction_policy=self._scenario.shape.eviction_policy,
            counters=counters,
            idle_ns=self._idle_ns(),
            learned_ms=self._routers[0].prefill_ms(),
            caches=self._caches(),
            learned=self._learned_speeds(),
        )

    def _heard_ns(self, told_ns: Numbers) -> Numbers:
        """When whoever asked has it. What never came is -1 still."""
        return np.where(told_ns < 0, told_ns, told_ns + self._client_ns)

    def _caches(self) -> CacheSums:
        workers, total = self._fleet.workers, np.array(self._scenario.shape.caches, np.int64)
        return CacheSums(total, total - workers[:, at.N_FREE], workers[:, at.N_EVICTED].copy())

    def _learned_speeds(self) -> LearnedSpeeds | None:
        if not self._scenario.keeps_speeds:
            return None
        ns = np.array([ns for ns, _ in self._learned], np.int64)
        return LearnedSpeeds(ns, np.array([ms for _, ms in self._learned]))
