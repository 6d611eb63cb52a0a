"""Request log: what was asked of this router, and what became of it, for whoever makes a trace.

Owns the last ended requests, as many as fit a byte budget, oldest out first. They are numbered from
1 as they end, so a reader that asks again knows exactly how many it missed. Entries hold lengths,
block keys and marks, never prompts: without the cluster's secret a key says nothing about its
tokens, and without this router's a mark. Marks are the same whatever keeps blocks apart.
"""

import hashlib
from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys, Tokens, WorkerId
from radixroute.radix.keys.marks import marks_of
from radixroute.radix.keys.scope import RequestScope
from radixroute.router.core.requests import Request

# An entry without what its arrays hold: measured at 530 bytes, ids and numbers included.
ENTRY_BYTES = 540


class EndedRequest(msgspec.Struct, frozen=True, eq=False):
    """One request. Times are nanoseconds on the router's clock; lengths are tokens."""

    number: int  # from 1, in order of ending
    request_id: str
    policy: str
    worker_id: WorkerId | None  # that had it last
    outcome: str  # stop, length, abort, error; leased: its client streamed from the worker
    block_size: int  # tokens of one key
    arrival_ns: int
    dispatched_ns: int | None  # to its first worker
    first_token_ns: int | None
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int  # of the prompt, as its first worker reported
    predicted_tokens: int  # of the prompt, that were thought to be cached there
    keys: Keys  # of the prompt's full blocks
    marks: bytes = b""  # of the prompt (`marks_of`), packed little-endian u64
    lora: str = ""  # its adapter
    # What of its salt or tenant keeps its blocks apart from others'; 0: nothing does.
    apart: int = 0

    @property
    def n_bytes(self) -> int:
        return ENTRY_BYTES + int(self.keys.nbytes) + len(self.marks)


@dataclass(frozen=True, slots=True)
class EndedPage:
    """Some of the log."""

    oldest: int  # number of the oldest entry that is kept
    latest: int  # of the last one that ended
    entries: list[EndedRequest]


class RequestLog:
    """The last ended requests of one router."""

    def __init__(self, capacity_bytes: int, seed: int = 0) -> None:
        """`seed`: 64 bits that only this router has."""
        self._capacity = capacity_bytes
        self._seed = seed
        self._mark_seed = np.uint64(seed)
        self._bytes = 0
        self._entries: deque[EndedRequest] = deque()
        self.latest = 0  # number of the request that ended last

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest(self) -> int:
        """Number of the oldest entry kept; 0: none is."""
        return self._entries[0].number if self._entries else 0

    def ended(
        self,
        request: Request,
        outcome: str,
        *,
        block_size: int,
        worker_id: WorkerId | None = None,
    ) -> None:
        """Its one end."""
        spec = request.spec
        self.latest += 1
        entry = EndedRequest(
            number=self.latest,
            request_id=spec.request_id,
            policy=spec.policy,
            worker_id=worker_id or request.worker_id,
            outcome=outcome,
            block_size=block_size,
            arrival_ns=spec.arrival_ns,
            dispatched_ns=request.dispatched_ns,
            first_token_ns=request.first_token_ns,
            prompt_tokens=spec.prompt_tokens,
            output_tokens=request.output_tokens,
            cached_tokens=request.cached_tokens,
            predicted_tokens=request.predicted_tokens,
            keys=spec.keys,
            marks=self._marks(spec.prompt),
            lora=spec.scope.lora,
            apart=self._apart(spec.scope),
        )
        self._entries.append(entry)
        self._bytes += entry.n_bytes
        while self._bytes > self._capacity:
            self._bytes -= self._entries.popleft().n_bytes

    def _marks(self, prompt: Tokens) -> bytes:
        if self._capacity < ENTRY_BYTES:
            return b""
        marks = marks_of(prompt, self._mark_seed)
        return marks.astype("<u8", copy=False).tobytes()

    def _apart(self, scope: RequestScope) -> int:
        if not (scope.salt or scope.tenant):
            return 0
        secret = self._seed.to_bytes(8, "little")
        state = hashlib.blake2b(digest_size=8, key=secret, person=b"rr-apart")
        for part in (scope.salt.encode(), scope.tenant.encode()):
            state.update(len(part).to_bytes(4, "little") + part)
        return int.from_bytes(state.digest(), "little") or 1

    def after(self, number: int, max_bytes: int) -> list[EndedRequest]:
        """Those kept with a higher number, in order: at least one if there is any. O(kept)."""
        found: list[EndedRequest] = []
        n_bytes = 0
        for entry in self._entries:
            if entry.number <= number:
                continue
            n_bytes += entry.n_bytes
            if found and n_bytes > max_bytes:
                break
            found.append(entry)
        return found

    def page(self, after: int, max_bytes: int) -> "EndedPage":
        """`after`, with what whoever reads on needs to know."""
        return EndedPage(self.oldest, self.latest, self.after(after, max_bytes))

    def check(self) -> None:
        if self._bytes != sum(entry.n_bytes for entry in self._entries):
            raise BrokenInvariant("the request log's bytes are not the sum of its entries'")
        if self._entries and self._entries[-1].number != self.latest:
            raise BrokenInvariant("the request log's last entry is not the latest")
