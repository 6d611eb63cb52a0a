"""Ledger: what the router should have, told from what went in and came out of it.

Owns the simulation's own account of requests, attempts and leases; shares no code with the router.
Only `Edge` and `World` write it; invariants compare.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field

from radixroute.request.sampling import FinishReason
from radixroute.router.core.leases import Lease
from radixroute.router.messages.actions import Abort, Action, Dispatch, Drop, Emit, Fail, Failure
from radixroute.router.messages.inputs import RequestSpec
from tests.simulation.prompts import Answer

End = FinishReason | Failure | str


@dataclass(slots=True, eq=False)
class Client:
    """One request as its client sees it."""

    spec: RequestSpec
    answer: Answer
    number: int  # in order of arrival
    got: list[int] = field(default_factory=list)
    text_len: int = 0
    end: End | None = None
    attempt: int = 0
    worker: str | None = None
    deaths: int = 0
    tried: set[tuple[str, str]] = field(default_factory=set)
    waits_since_ns: int = 0
    overtaken: int = 0  # later requests that were dispatched first
    was_told_error: bool = False  # a worker said so
    was_refused: bool = False  # because it was full

    @property
    def request_id(self) -> str:
        return self.spec.request_id


def tokens_of(packed: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<I", packed)]


class Ledger:
    """Requests, attempts and leases of one router."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.open: dict[str, Client] = {}
        self.running: dict[str, dict[str, Client]] = {}  # by worker, by request
        self.leases: dict[str, Lease] = {}
        self.leased: Counter[str] = Counter()  # by worker
        self.tally: Counter[str] = Counter()
        self.epochs: dict[str, str] = {}  # of the life the router knows, by worker

    def submitted(self, spec: RequestSpec, now_ns: int) -> Client:
        client = Client(spec, Answer(spec.prompt, spec.sampling), len(self.clients))
        client.waits_since_ns = now_ns
        self.clients[spec.request_id] = self.open[spec.request_id] = client
        self.tally["submitted"] += 1
        return client

    def hung_up(self, client: Client) -> None:
        self._leave(client)
        self._end(client, "hung up")

    def gave_up(self, worker: str, request_id: str, attempt: int, now_ns: int) -> None:
        """A worker ends an attempt by itself, which the router hears now."""
        client = self.open.get(request_id)
        if client is not None and client.worker == worker and client.attempt == attempt:
            self.tally["gave up"] += 1
            self._lose(client, now_ns)

    def acted(self, action: Action, now_ns: int) -> None:
        match action:
            case Dispatch():
                client = self.clients[action.spec.request_id]
                client.worker, client.attempt = action.worker_id, action.attempt
                self.running.setdefault(action.worker_id, {})[client.request_id] = client
                self.tally["dispatched"] += 1
            case Emit():
                client = self.clients[action.request_id]
                self.tally["emitted"] += 1
                client.got += tokens_of(action.token_ids)
                client.text_len += len(action.text)
                if action.finish is not None:
                    self._leave(client)
                    self._end(client, action.finish)
            case Fail():
                client = self.clients[action.request_id]
                self._leave(client)
                self._end(client, action.failure)
            case Abort():
                client = self.clients[action.request_id]
                if client.worker is not None and client.attempt == action.attempt:
                    self._lose(client, now_ns)
            case Drop():
                self._drop(action.worker_id, now_ns)

    def granted(self, lease: Lease) -> None:
        self.leases[lease.lease_id] = lease
        self.leased[lease.worker_id] += 1
        self.tally["leases"] += 1

    def lease_ended(self, lease_id: str) -> None:
        lease = self.leases.pop(lease_id, None)
        if lease is not None:
            self.leased[lease.worker_id] -= 1

    def elapsed(self, now_ns: int) -> None:
        """A tick."""
        for lease in list(self.leases.values()):
            if lease.end_ns <= now_ns:
                self.lease_ended(lease.lease_id)
                self.tally["leases lapsed"] += 1

    def booked(self, worker: str) -> int:
        return len(self.running.get(worker, ())) + self.leased[worker]

    @property
    def n_waiting(self) -> int:
        return len(self.open) - sum(map(len, self.running.values()))

    def _drop(self, worker: str, now_ns: int) -> None:
        self.tally["dropped"] += 1
        for client in list(self.running.get(worker, {}).values()):
            self._lose(client, now_ns)
        for lease in list(self.leases.values()):
            if lease.worker_id == worker:
                self.lease_ended(lease.lease_id)

    def _lose(self, client: Client, now_ns: int) -> None:
        worker = client.worker or ""
        client.deaths += 1
        client.tried.add((worker, self.epochs.get(worker, "")))
        client.waits_since_ns = now_ns
        client.overtaken = 0
        self._leave(client)

    def _leave(self, client: Client) -> None:
        if client.worker is not None:
            del self.running[client.worker][client.request_id]
            client.worker = None

    def _end(self, client: Client, end: End) -> None:
        self.open.pop(client.request_id, None)
        self.tally[str(end)] += 1
        if client.end is None:
            client.end = end
