"""Simulations: each shadow's fleet and router, fed with what the live router was asked.

Owns one `StreamedSimulation` a policy, with caches of its own, and the numbers that stand for
block keys in all of them. A shadow that fails ends alone, and says why. Reads the time that its
work takes, and nothing else; runs in a process of its own (`child`).
"""

import time
from dataclasses import dataclass, field

import numpy as np

from radixroute.insight.shadow.messages import (
    Batch,
    Begin,
    Result,
    Results,
    ShadowRow,
    ShadowState,
    ShadowTiming,
)
from radixroute.insight.shadow.node_numbers import NodeNumbers
from radixroute.replay.changes import FleetChange
from radixroute.replay.errors import ReplayError
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.scenario import Scenario
from radixroute.replay.stream import Arrival, StreamedSimulation

# A generation of block keys has room for so many times what all simulated caches hold.
_KEYS_A_BLOCK = 4
_LEAST_KEYS = 1 << 16
LEARNED = "learned"  # the name of a timing that a router learned


@dataclass
class _Shadow:
    """One policy."""

    stream: StreamedSimulation
    busy_ns: int = 0
    error: str = ""
    results: list[Result] = field(default_factory=list)


class Simulations:
    """All shadows of one router, from one `Begin` to the next."""

    def __init__(self, begin: Begin) -> None:
        """Raises `ReplayError` for a fleet that is none."""
        self._beginning = begin.beginning
        caches = tuple(worker.kv_blocks for worker in begin.workers)
        shape = FleetShape(
            workers=len(caches),
            kv_blocks=max(caches, default=0),
            block_size=begin.block_size,
            max_num_batched_tokens=max(w.max_batched_tokens for w in begin.workers),
            max_num_seqs=max(w.max_num_seqs for w in begin.workers),
            first_kv_blocks=caches,
        )
        scenario = Scenario(shape, seed=begin.seed)
        self._numbers = NodeNumbers(max(_LEAST_KEYS, _KEYS_A_BLOCK * sum(caches)))
        self._shadows = [_Shadow(StreamedSimulation(name, scenario)) for name in begin.policies]

    def take(self, batch: Batch) -> Results:
        """Goes on to what is known by now."""
        arrivals = [self._arrival(row) for row in batch.rows]
        changes = [FleetChange(one.at_ns / 1e9, one.worker, one.kind) for one in batch.changes]
        timings = [(one.worker, timing_of(one)) for one in batch.timings]
        for place, shadow in enumerate(self._shadows):
            if not shadow.error:
                self._go_on(place, shadow, arrivals, changes, timings, batch.until_ns)
        results = [result for shadow in self._shadows for result in shadow.results]
        for shadow in self._shadows:
            shadow.results.clear()
        states = [_state(place, shadow) for place, shadow in enumerate(self._shadows)]
        return Results(self._beginning, batch.until_ns, tuple(results), tuple(states))

    def _arrival(self, row: ShadowRow) -> Arrival:
        return Arrival(
            tag=row.tag,
            arrival_ns=row.arrival_ns,
            prompt_tokens=row.prompt_tokens,
            output_tokens=row.output_tokens,
            nodes=self._numbers.of(np.frombuffer(row.keys, "<u8").astype(np.uint64)),
            n_prompt_blocks=row.n_prompt_blocks,
            session=row.session,
            last_of=row.last_of,
            priority=row.priority,
        )

    def _go_on(
        self,
        place: int,
        shadow: _Shadow,
        arrivals: list[Arrival],
        changes: list[FleetChange],
        timings: list[tuple[int, Timing]],
        until_ns: int,
    ) -> None:
        began_ns = time.process_time_ns()
        stream = shadow.stream
        try:
            for worker, timing in timings:
                stream.set_timing(worker, timing)
            for change in changes:
                stream.change(change)
            stream.add(arrivals)
            stream.advance(until_ns)
        except ReplayError as error:
            shadow.error = str(error)
        shadow.results += [
            Result(place, one.tag, one.worker, one.first_ns - one.arrival_ns, one.cached_tokens)
            for one in stream.take_outcomes()
        ]
        shadow.busy_ns += time.process_time_ns() - began_ns


def timing_of(learned: ShadowTiming) -> Timing:
    """Two lines, of prompts and of decoding; a step of both pays what both begin with once."""
    every = min(learned.prefill_base, learned.step_base)
    return Timing(
        LEARNED,
        a0=learned.prefill_base - every,
        a1=learned.a_prefill_token,
        d0=learned.step_base - every,
        d_each=learned.a_decode,
        every=every,
    )


def _state(place: int, shadow: _Shadow) -> ShadowState:
    stream = shadow.stream
    return ShadowState(
        place,
        stream.now_ns,
        stream.n_open,
        stream.n_unfit,
        stream.n_failed,
        shadow.busy_ns,
        shadow.error,
    )
