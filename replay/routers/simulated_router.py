"""A simulated router: the real `RouterCore` and index of one router, and its members.

Owns which workers its core lists and whose caches its index follows. What requests do is the
business of `simulate`, which performs the actions that come back.
"""

import random
from collections.abc import Iterable

import numpy as np

from radixroute.events.wire.records import LoadReport
from radixroute.radix.ids import Holder, Keys, Numbers, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import PROBE_TOKENS
from radixroute.replay.scenario import Scenario
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.actions import Action, Connect, Disconnect
from radixroute.router.messages.inputs import MemberSpec, WorkerFacts
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.idle import WorkerIdle

NO_LIMIT = 1 << 60
_FOREVER_S = 1e9


class SimulatedRouter:
    """One of the routers of a simulation."""

    def __init__(
        self, number: int, policy: str, scenario: Scenario, present: Iterable[int]
    ) -> None:
        """`present`: workers that are there at the start."""
        shape = scenario.shape
        self.number = number
        self.router_id = "replay" if number == 0 else f"replay-{number}"
        self._shape = shape
        self.index = PrefixIndex()
        settings = _settings(self.router_id, policy)
        # Of several routers each has draws of its own.
        rng = random.Random(scenario.seed + 1_000_003 * number)  # noqa: S311 - reproducible, not secret
        self.core = RouterCore(settings, self.index, rng)
        self._workers = [WorkerId(_name(w)) for w in range(shape.workers)]
        self._lives = [1] * shape.workers
        self._listed = sorted(present)
        self._followed_from_ns = np.zeros(shape.workers, np.int64)
        for worker in self._listed:
            self.index.join(Holder(self._workers[worker]))
        self.core.set_members([self._spec(worker) for worker in self._listed], 0)
        for worker in self._listed:
            self._joined(worker, 0)
        self._number()

    def worker_id(self, worker: int) -> WorkerId:
        return self._workers[worker]

    # -- what it hears

    def hear(self, rows: Numbers, words: Keys) -> None:
        """Cache changes, as `CacheWords` has them. Of workers that it follows, since it does."""
        if self._places is not None:
            followed = (self._places[rows[:, 1]] >= 0) & (
                rows[:, 0] >= self._followed_from_ns[rows[:, 1]]
            )
            rows = rows[followed]
            placed = rows.copy()
            placed[:, 1] = self._places[rows[:, 1]]
            self.index.apply_rows(placed, words)
        else:
            self.index.apply_rows(rows, words)
        core = self.core
        for ns, worker, start, end in rows.tolist():
            worker_id = self._workers[worker]
            if core.expects_blocks(worker_id):
                for keys in _stored(words[start:end]):
                    core.stored(worker_id, keys, ns)

    def stepped(self, starts: Numbers, among: Numbers | None = None) -> None:
        """When each worker's step of now began; `among`: it hears of these workers' alone."""
        workers, columns = self._listed_numbers, self._columns
        if among is not None:
            is_heard = np.isin(workers, among)
            workers, columns = workers[is_heard], columns[is_heard]
        self.core.stepped(columns, starts if len(workers) == len(starts) else starts[workers])

    def heartbeat(self, worker: int, load: LoadReport, now_ns: int) -> list[Action]:
        return self.core.heartbeat(self._workers[worker], load, now_ns)

    # -- the fleet

    def join(self, worker: int, now_ns: int) -> list[Action]:
        """It is listed and its session is open; its cache is empty."""
        if worker not in self._listed:
            self._listed = sorted([*self._listed, worker])
        self._lives[worker] += 1
        actions = self.core.set_members([self._spec(w) for w in self._listed], now_ns)
        self.index.join(Holder(self._workers[worker]))
        self._followed_from_ns[worker] = now_ns
        actions += self._joined(worker, now_ns)
        self._number()
        # The session that would be closed is that of the life before: it is closed already.
        return [one for one in actions if not isinstance(one, Connect | Disconnect)]

    def drain(self, worker: int, now_ns: int) -> list[Action]:
        """It is listed no more: it finishes what it has. `left` when that is done."""
        specs = [self._spec(other) for other in self._listed if other != worker]
        return self.core.set_members(specs, now_ns)

    def lose(self, worker: int, now_ns: int) -> list[Action]:
        """Its session broke. It stays listed: whoever brings workers up may start it again."""
        return self.core.lost(self._workers[worker], "its session broke", now_ns)

    def dropped(self, worker: int) -> None:
        """What its core said: nothing that this worker told of its cache is believed any more."""
        holder = Holder(self._workers[worker])
        if holder in self.index.holders:
            self.index.leave(holder)
        self._number()

    def left(self, worker: int) -> None:
        """What its core said: the worker is not listed and has nothing left to do."""
        self._listed = [other for other in self._listed if other != worker]
        self.dropped(worker)

    # -- for those who look

    def idle_of(self, worker: int) -> WorkerIdle:
        return self.core.idle_of(self._workers[worker])

    def prefill_ms(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """What it thinks that `PROBE_TOKENS` take on each worker, shape (workers,); NaN: it lists
        that one not."""
        found = np.full(self._shape.workers, np.nan)
        for worker in self._listed:
            speed = self.core.speed_of(self._workers[worker])
            found[worker] = speed.prefill_ms(PROBE_TOKENS)
        return found

    def _joined(self, worker: int, now_ns: int) -> list[Action]:
        facts = _facts(self._workers[worker], str(self._lives[worker]), self._shape, worker)
        actions = self.core.joined(facts, now_ns)
        self.core.cache_believed(facts.worker_id, is_fresh=True)
        return actions

    def _spec(self, worker: int) -> MemberSpec:
        name = self._workers[worker]
        return MemberSpec(name, f"{name}:1", self._lives[worker])

    def _number(self) -> None:
        """Where each worker's numbers and its place in the index are: somebody came or left."""
        self._listed_numbers = np.array(self._listed, np.int64)
        self._columns = self.core.columns_of([self._workers[w] for w in self._listed])
        place = {holder.worker: n for n, holder in enumerate(self.index.holders)}
        places = np.array([place.get(worker, -1) for worker in self._workers], np.int64)
        is_plain = np.array_equal(places, np.arange(self._shape.workers))
        is_from_start = not self._followed_from_ns.any()
        # None: each is where its number says, and all that is told counts.
        self._places: Numbers | None = None if is_plain and is_from_start else places


def _settings(router_id: str, policy: str) -> RouterSettings:
    return RouterSettings(
        router_id=router_id,
        policy=policy,
        # Whatever is asked is served: nothing is refused or expires.
        max_waiting=NO_LIMIT,
        max_waiting_tokens=NO_LIMIT,
        max_in_flight=NO_LIMIT,
        max_in_flight_bytes=NO_LIMIT,
        max_in_flight_tokens=NO_LIMIT,
        decision_log_len=16,
        request_log_bytes=1,  # nobody asks for it
        dispatch_lead_ms=0.0,
        expected_ttl_s=_FOREVER_S,
    )


def _facts(worker_id: WorkerId, epoch: str, shape: FleetShape, worker: int) -> WorkerFacts:
    return WorkerFacts(
        worker_id=worker_id,
        epoch=epoch,
        block_size=shape.block_size,
        eos_token_ids=frozenset(),
        kv_blocks_total=shape.caches[worker],
        max_batched_tokens=shape.max_num_batched_tokens,
        max_num_seqs=shape.max_num_seqs,
        max_waiting=NO_LIMIT,
    )


def _name(worker: int) -> str:
    return f"w{worker:04d}"


def _stored(words: Keys) -> Iterable[Keys]:
    """The runs of keys that packed words store."""
    from radixroute.radix.index.layout import PACKED_HEAD, PACKED_STORE

    start = 0
    while start < len(words):
        end = start + PACKED_HEAD + int(words[start + 2])
        if int(words[start]) & 0xFF == PACKED_STORE:
            yield words[start + PACKED_HEAD : end]
        start = end
