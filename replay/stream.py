"""Streamed simulation: one policy over requests that become known while it goes on.

Owns the fleet's table while rows come and go: a row is a request's until its outcome was taken,
then another's, so memory is bounded by what is open. Fed in any pieces it decides as `simulate`
does on the whole trace. No clock: whoever feeds it says until when all is known.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, Numbers
from radixroute.replay.arrays import Cells
from radixroute.replay.changes import FleetChange
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.fleet.tables import UNSET
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.routers.simulated_requests import RequestsOfRun
from radixroute.replay.scenario import Scenario
from radixroute.replay.traces.trace import Prefixes, Trace
from radixroute.replay.world import SimulatedWorld
from radixroute.request.sampling import SamplingParams
from radixroute.router.messages.actions import Failure
from radixroute.router.messages.inputs import DEFAULT_PRIORITY, RequestSpec

LEAST_ROWS: Final = 64
_LEAST_NODES: Final = 4096
_NEVER: Final = 1 << 62
MAX_NODES: Final = 1 << 31  # their numbers are 32 bits


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One request, once it is known whole. Times are nanoseconds since the simulation's start."""

    tag: int  # its outcome's; no two have the same
    arrival_ns: int
    prompt_tokens: int
    output_tokens: int  # at least 1
    # Numbers of its full blocks' prefixes: all of the prompt's, then those of the output that may
    # be asked for again. Equal prefixes have equal numbers.
    nodes: Cells
    n_prompt_blocks: int  # of these
    session: int | None = None
    last_of: int = 0  # how many its session had, if it is the last of it
    priority: int = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times as of `Arrival`."""

    tag: int
    worker: int
    arrival_ns: int
    decided_ns: int
    first_ns: int  # when its client has it, as `finish_ns`
    finish_ns: int
    prompt_tokens: int
    cached_tokens: int  # of the prompt, found at admission
    predicted_tokens: int


class StreamedSimulation(SimulatedWorld):
    """One policy's run. `add`, then `advance` to what is known, then `take_outcomes`."""

    def __init__(self, policy: str, scenario: Scenario) -> None:
        """Several routers have nothing to tell them apart by here: raises `InvalidShape`."""
        if scenario.routers.n != 1:
            raise InvalidShape("a streamed simulation has one router")
        block_size = scenario.shape.block_size
        fleet = SimulatedFleet(_NOBODY, _no_prefixes(block_size), scenario.shape, scenario.timing)
        self._of_rows = _Rows(policy)
        super().__init__(policy, scenario, fleet, self._of_rows)
        self._block_size = block_size
        self._free: list[int] = []
        self._nodes = np.zeros(0, np.int32)
        self._n_nodes = 0  # of `_nodes` that are used
        self._outcomes: list[Outcome] = []
        self._over: list[int] = []  # rows of those
        self._outputs = 0  # numbers of output blocks that nobody asks for again, from the top
        self.n_open = 0  # requests without an outcome
        self.n_unfit = 0  # that no worker could hold
        self.n_failed = 0  # that their router gave up

    @property
    def now_ns(self) -> int:
        return self._fleet.now_ns

    def add(self, arrivals: Sequence[Arrival]) -> None:
        """None comes before `now_ns`. Those that no worker could hold are counted and left out."""
        for one in arrivals:
            if one.arrival_ns < self.now_ns:
                raise InvalidShape("a request comes in the past of its simulation")
            if self._n_blocks(one) > min(self._scenario.shape.caches):
                self.n_unfit += 1
                continue
            row = self._new_row(one)
            heapq.heappush(self._arrivals, (one.arrival_ns, row))
            self.n_open += 1

    def change(self, change: FleetChange) -> None:
        """Something becomes of a worker at that time, which has not come yet."""
        self._changes.append(change)

    def set_timing(self, worker: int, timing: Timing) -> None:
        """From now on."""
        self._fleet.set_timing(worker, timing)

    def advance(self, until_ns: int) -> None:
        """All that comes before `until_ns` is known; time goes on as far.

        Nothing is decided at that time because it was asked for then: it may be any.
        """
        fleet, last_ns = self._fleet, until_ns - 1
        while True:
            next_ns, stop = self._next_ns(), self._stop()
            now_ns = fleet.advance(min(next_ns, last_ns), stop=stop)
            is_told = stop == at.REPORT and fleet.has_told_of(now_ns)
            if now_ns == last_ns < next_ns and not is_told:
                self._report(fleet.take_reports())  # who has ended has an outcome
                return
            self._happen(now_ns)

    def take_outcomes(self) -> list[Outcome]:
        """Of requests that have ended since the last call, in order of their ends."""
        taken, self._outcomes = self._outcomes, []
        for row in self._over:
            self._forget(row)
        self._over.clear()
        return taken

    # -- rows

    def _ended(self, request: int, end_ns: int) -> None:
        row = self._fleet.attempts.outcome(request)
        arrival = self._of_rows.arrivals[request]
        self._outcomes.append(
            Outcome(
                tag=arrival.tag,
                worker=int(row[at.WORKER]),
                arrival_ns=arrival.arrival_ns,
                decided_ns=int(self._decided_ns[request]),
                first_ns=int(row[at.FIRST_NS]) + self._client_ns,
                finish_ns=end_ns + self._client_ns,
                prompt_tokens=arrival.prompt_tokens,
                cached_tokens=int(row[at.CACHED]),
                predicted_tokens=int(self._predicted[request]),
            )
        )
        self._over.append(request)
        self.n_open -= 1

    def _failed(self, request: int, failure: Failure, now_ns: int) -> None:
        """Nobody could take it for too long, or workers died with it: it has no outcome."""
        self._over.append(request)
        self.n_failed += 1
        self.n_open -= 1

    def _n_blocks(self, one: Arrival) -> int:
        return -(-(one.prompt_tokens + one.output_tokens - 1) // self._block_size)

    def _new_row(self, one: Arrival) -> int:
        if not self._free:
            self._add_rows()
        row = self._free.pop()
        table = self._fleet.requests[row]
        table[:] = 0
        table[[*UNSET]] = -1
        table[at.PROMPT], table[at.OUTPUT] = one.prompt_tokens, one.output_tokens
        table[at.FIRST_NODE], table[at.N_NODES] = self._place(one.nodes), len(one.nodes)
        table[at.LAST_OF] = one.last_of
        full = (one.prompt_tokens + one.output_tokens - 1) // self._block_size
        self._outputs += max(0, full - len(one.nodes))
        table[at.FIRST_OUTPUT] = MAX_NODES - 1 - self._outputs
        highest = int(one.nodes.max(initial=0))
        if highest >= table[at.FIRST_OUTPUT]:
            raise InvalidShape("two billion blocks were seen: begin a simulation anew")
        self._decided_ns[row], self._predicted[row] = -1, 0
        self._of_rows.arrivals[row] = one
        return row

    def _add_rows(self) -> None:
        """Twice as many."""
        before = self._fleet.requests
        n = max(LEAST_ROWS, 2 * len(before))
        table = np.zeros((n, at.REQUEST_LEN), np.int64)
        table[: len(before)] = before
        self._fleet.exchange(table, self._nodes)
        more = n - len(before)
        self._decided_ns = np.concatenate([self._decided_ns, np.full(more, -1, np.int64)])
        self._predicted = np.concatenate([self._predicted, np.zeros(more, np.int64)])
        self._of_rows.router_of += [0] * more
        self._free += range(n - 1, len(before) - 1, -1)

    def _place(self, nodes: Cells) -> int:
        """Where they stand from now on."""
        if self._n_nodes + len(nodes) > len(self._nodes):
            self._pack(len(nodes))
        first, self._n_nodes = self._n_nodes, self._n_nodes + len(nodes)
        self._nodes[first : self._n_nodes] = nodes
        return first

    def _pack(self, wanted: int) -> None:
        """Room for so many: those of requests that are over go, and there is twice what is left."""
        rows = self._fleet.requests
        held = sorted(self._of_rows.arrivals)
        n = int(rows[held, at.N_NODES].sum()) + wanted
        nodes, self._n_nodes = np.zeros(max(_LEAST_NODES, 2 * n), np.int32), 0
        for row in held:
            first, length = rows[row, [at.FIRST_NODE, at.N_NODES]].tolist()
            end = self._n_nodes + length
            nodes[self._n_nodes : end] = self._nodes[first : first + length]
            rows[row, at.FIRST_NODE], self._n_nodes = self._n_nodes, end
        self._nodes = nodes
        self._fleet.exchange(rows, nodes)

    def _forget(self, row: int) -> None:
        del self._of_rows.arrivals[row]
        self._of_rows.forget(row)
        self._fleet.attempts.forget(row)
        self._free.append(row)


class _Rows(RequestsOfRun):
    """What arrived, by row."""

    def __init__(self, policy: str) -> None:
        from radixroute.replay.fleet.kernels import keys_of  # here: numba takes 0.5 s to import

        super().__init__()
        self.router_of = []
        self.arrivals: dict[int, Arrival] = {}
        self._policy = policy
        self._keys_of = keys_of
        self._prompt = np.zeros(0, np.uint32)  # only a prompt's length counts

    def id_of(self, request: int) -> str:
        """Policies remember ids of requests that are over: a row's next one has another."""
        return f"{self.arrivals[request].tag}.{request}"

    def number_of(self, request_id: str) -> int:
        return int(request_id.rpartition(".")[2])

    def spec(self, request: int) -> RequestSpec:
        one = self.arrivals[request]
        if len(self._prompt) < one.prompt_tokens:
            self._prompt = np.zeros(2 * one.prompt_tokens, np.uint32)
        return RequestSpec(
            request_id=self.id_of(request),
            prompt=self._prompt[: one.prompt_tokens],
            keys=self._keys(one),
            sampling=SamplingParams(max_tokens=one.output_tokens),
            policy=self._policy,
            arrival_ns=one.arrival_ns,
            deadline_ns=_NEVER,
            session=one.session,
            priority=one.priority,
        )

    def _keys(self, one: Arrival) -> Keys:
        nodes = np.ascontiguousarray(one.nodes[: one.n_prompt_blocks])
        keys = np.empty(len(nodes), np.uint64)
        self._keys_of(nodes, keys)
        return keys


def _no_prefixes(block_size: int) -> Prefixes:
    return Prefixes(block_size, np.zeros(1, np.int64), np.zeros(0, np.int32), 0)


def _none() -> Numbers:
    return np.zeros(0, np.int64)


_NOBODY: Final = Trace(
    "stream", 1, _none(), _none(), _none(), np.zeros(1, np.int64), _none(), _none()
)
