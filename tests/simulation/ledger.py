"""Ledger: what the router should have, told from what went in and came out of it.

Owns the simulation's own account of requests, attempts and leases; shares no code with the router.
Only `Edge` and `World` write it; invariants compare.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field

from radixroute.events.wire.records import LoadReport
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import More
from radixroute.router.messages.actions import (
    Abort,
    Action,
    Disconnect,
    Dispatch,
    Drop,
    Emit,
    Fail,
    Failure,
    Grant,
)
from radixroute.router.messages.inputs import RequestSpec
from tests.simulation.prompts import Answer, prompt_in
from tests.simulation.standing import Standing

End = FinishReason | Failure | str


@dataclass(slots=True, eq=False)
class Client:
    """One request as its client sees it."""

    spec: RequestSpec
    answer: Answer
    number: int  # in order of arrival
    got: list[int] = field(default_factory=list)
    passed: list[bytes] = field(default_factory=list)  # instead, of a verbatim one
    text_len: int = 0
    end: End | None = None
    attempt: int = 0
    worker: str | None = None
    n_before: int = 0  # tokens it had when this attempt began
    deaths: int = 0
    errors: int = 0  # of live workers
    tried: set[tuple[str, str]] = field(default_factory=set)
    waits_since_ns: int = 0
    overtaken: int = 0  # later requests that were dispatched first
    was_refused: bool = False  # a worker said that it cannot serve such a one

    @property
    def request_id(self) -> str:
        return self.spec.request_id

    @property
    def n_got(self) -> int:
        return len(self.got) + len(self.passed)

    @property
    def is_lost(self) -> bool:
        """It was on its way to an answer: it goes before all that were not."""
        return bool(self.tried or self.got)

    @property
    def is_resuming(self) -> bool:
        """Its prompt is computed again."""
        return bool(self.tried) and self.n_got == self.n_before


@dataclass(slots=True, eq=False)
class Lease:
    """A booking of a client that streams from the worker itself."""

    lease_id: str
    spec: RequestSpec
    worker: str
    end_ns: int


def tokens_of(packed: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<I", packed)]


class Ledger:
    """Requests, attempts and leases of one router."""

    def __init__(self, *, unseen_ns: int, ttl_ns: int) -> None:
        """So long leases live: before their client is seen, and after it was seen last."""
        self._unseen_ns, self._ttl_ns = unseen_ns, ttl_ns
        self.clients: dict[str, Client] = {}
        self.open: dict[str, Client] = {}
        self.running: dict[str, dict[str, Client]] = {}  # by worker, by request
        self.leases: dict[str, Lease] = {}
        self.leased: Counter[str] = Counter()  # by worker
        self.guests: dict[str, tuple[int, int]] = {}  # bytes and tokens of each that is in
        self.n_bytes = self.n_tokens = 0  # of them
        self.tally: Counter[str] = Counter()
        self.epochs: dict[str, str] = {}  # of the life the router knows, by worker
        self.standing = Standing()
        self._lapsing: list[Lease] = []  # in the input at hand

    # -- clients

    def entered(self, request_id: str, n_bytes: int, tokens: int) -> None:
        """Into the house; once more when its tokens are known."""
        self.left(request_id)
        self.guests[request_id] = n_bytes, tokens
        self.n_bytes += n_bytes
        self.n_tokens += tokens

    def left(self, request_id: str) -> None:
        n_bytes, tokens = self.guests.pop(request_id, (0, 0))
        self.n_bytes -= n_bytes
        self.n_tokens -= tokens

    def submitted(self, spec: RequestSpec, now_ns: int, n_bytes: int) -> Client:
        client = Client(spec, Answer(prompt_in(spec), spec.sampling), len(self.clients))
        client.waits_since_ns = now_ns
        self.clients[spec.request_id] = self.open[spec.request_id] = client
        self.entered(spec.request_id, n_bytes, spec.prompt_tokens)
        self.tally["submitted"] += 1
        return client

    def hung_up(self, client: Client) -> None:
        self._leave(client)
        self._end(client, "hung up")

    # -- what workers say, before the router hears it

    def told(
        self, worker: str, request_id: str, attempt: int, finish: FinishReason, now_ns: int
    ) -> None:
        """A worker ends an attempt without an answer."""
        client = self.open.get(request_id)
        if client is None or client.worker != worker or client.attempt != attempt:
            return
        self.tally[f"told {finish.name}"] += 1
        match finish:
            case FinishReason.ABORT:
                self._lose(client, now_ns)
            case FinishReason.ERROR:
                client.errors += 1
                self.tally["cut off by an error"] += bool(client.passed)
                client.tried.add((worker, self.epochs.get(worker, "")))
                self._wait_again(client, now_ns)
                self.tally["breakers"] += self.standing.failed(worker, now_ns)
            case FinishReason.FULL:
                self._wait_again(client, now_ns)
                self.standing.full.add(worker)
            case FinishReason.INVALID:
                client.was_refused = True

    def heard(self, worker: str, load: LoadReport, now_ns: int) -> None:
        """A heartbeat names the requests of direct clients."""
        for lease in [lease for lease in self.leases.values() if lease.worker == worker]:
            if lease.spec.request_id in load.direct:
                lease.end_ns = now_ns + self._ttl_ns
            if lease.spec.request_id in load.direct_ended:
                self.lease_ended(lease.lease_id)
                self.tally["leases used"] += 1

    def elapsed(self, now_ns: int) -> None:
        """A tick."""
        self.standing.elapsed(now_ns)
        for lease in list(self.leases.values()):
            if lease.end_ns <= now_ns:
                self.lease_ended(lease.lease_id)
                self._lapsing.append(lease)

    # -- what the router does

    def acted(self, action: Action, now_ns: int) -> None:
        match action:
            case Dispatch():
                client = self.clients[action.spec.request_id]
                client.worker, client.attempt = action.worker_id, action.attempt
                client.n_before = len(client.got)
                self.running.setdefault(action.worker_id, {})[client.request_id] = client
                self.tally["dispatched"] += 1
            case Emit():
                self._emit(self.clients[action.request_id], action)
            case More():
                self.tally["emitted"] += 1
                self.clients[action.request_id].passed.append(action.data)
            case Fail():
                client = self.clients[action.request_id]
                self._leave(client)
                self._end(client, action.failure)
            case Grant():
                self._grant(action, now_ns)
            case Abort():
                client = self.clients[action.request_id]
                if client.worker is not None and client.attempt == action.attempt:
                    self._lose(client, now_ns)
            case Drop():
                self._drop(action.worker_id, now_ns)
            case Disconnect():
                self.standing.forget(action.worker_id)

    def over(self) -> None:
        """An input and all that it led to."""
        self.tally["leases lapsed"] += len(self._lapsing)
        self._lapsing.clear()

    def lease_ended(self, lease_id: str) -> None:
        lease = self.leases.pop(lease_id, None)
        if lease is not None:
            self.leased[lease.worker] -= 1
            self.left(lease.spec.request_id)

    def booked(self, worker: str) -> int:
        return len(self.running.get(worker, ())) + self.leased[worker]

    @property
    def n_waiting(self) -> int:
        return len(self.open) - sum(map(len, self.running.values()))

    def waiting(self) -> list[Client]:
        return [client for client in self.open.values() if client.worker is None]

    def _emit(self, client: Client, emit: Emit) -> None:
        self.tally["emitted"] += 1
        client.got += tokens_of(emit.token_ids)
        if emit.passage is not None and emit.passage.data:
            client.passed.append(emit.passage.data)
        client.text_len += len(emit.text)
        if emit.finish is not None:
            if client.worker is not None:
                self.standing.served(client.worker)
            self._leave(client)
            self._end(client, emit.finish)

    def _grant(self, grant: Grant, now_ns: int) -> None:
        client = self.clients[grant.request_id]
        lease = Lease(grant.lease_id, client.spec, grant.worker_id, now_ns + self._unseen_ns)
        self.leases[lease.lease_id] = lease
        self.leased[lease.worker] += 1
        self.open.pop(client.request_id, None)
        client.end = client.end or "granted"
        self.tally["leases"] += 1

    def _drop(self, worker: str, now_ns: int) -> None:
        self.tally["dropped"] += 1
        self.standing.forget(worker)
        # A dead worker's leases end with it, and count as nothing else.
        self._lapsing = [lease for lease in self._lapsing if lease.worker != worker]
        for client in list(self.running.get(worker, {}).values()):
            self._lose(client, now_ns)
        for lease in list(self.leases.values()):
            if lease.worker == worker:
                self.lease_ended(lease.lease_id)

    def _lose(self, client: Client, now_ns: int) -> None:
        worker = client.worker or ""
        client.deaths += 1
        client.tried.add((worker, self.epochs.get(worker, "")))
        self._wait_again(client, now_ns)

    def _wait_again(self, client: Client, now_ns: int) -> None:
        client.waits_since_ns = now_ns
        client.overtaken = 0
        self._leave(client)

    def _leave(self, client: Client) -> None:
        if client.worker is not None:
            del self.running[client.worker][client.request_id]
            client.worker = None

    def _end(self, client: Client, end: End) -> None:
        if self.open.pop(client.request_id, None) is not None:
            self.left(client.request_id)
        self.tally[str(end)] += 1
        if client.end is None:
            client.end = end
