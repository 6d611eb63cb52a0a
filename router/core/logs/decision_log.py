"""Decision log: why each of the last requests went where it went.

Owns a log bounded by count and by bytes, oldest out first: a decision keeps what it was made from,
a row of numbers for each worker, so that a large fleet's take the more room. Entries hold numbers
and ids, never prompts.
"""

from collections import OrderedDict

import msgspec

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.errors import UnknownRequest
from radixroute.router.policy.decision import Decision

# Without its arrays, measured: an entry with its ids some 500 bytes, a decision and its view 600.
ENTRY_BYTES = 500
DECISION_BYTES = 600
# Fewer digits of an id name nothing: a typing error should not find a request.
MIN_PREFIX = 4


class LoggedRequest(msgspec.Struct):
    """What the log keeps of a request; only `DecisionLog` may change it."""

    request_id: str
    policy: str
    prompt_tokens: int
    block_size: int
    decisions: list[Decision] = msgspec.field(default_factory=list)
    outcome: str = "running"
    cached_tokens: int = 0
    n_bytes: int = ENTRY_BYTES  # with its decisions


class DecisionLog:
    """The last `capacity` requests, as far as they fit into so many bytes."""

    def __init__(self, capacity: int, capacity_bytes: int) -> None:
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._by_id: OrderedDict[str, LoggedRequest] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def n_bytes(self) -> int:
        """Of all entries, by the estimate above."""
        return self._bytes

    def open(self, entry: LoggedRequest) -> None:
        older = self._by_id.pop(entry.request_id, None)
        if older is not None:  # the stream that this one goes on with
            self._bytes -= older.n_bytes
        self._by_id[entry.request_id] = entry
        self._bytes += entry.n_bytes
        self._shrink()

    def decided(self, request_id: str, decision: Decision) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.decisions.append(decision)
            n_bytes = _decision_bytes(decision)
            entry.n_bytes += n_bytes
            self._bytes += n_bytes
            self._shrink()

    def served(self, request_id: str, cached_tokens: int) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.cached_tokens = cached_tokens

    def ended(self, request_id: str, outcome: str) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.outcome = outcome

    def get(self, request_id: str) -> LoggedRequest:
        """By its id, or by the digits that it alone begins with. Raises UnknownRequest. O(kept)
        for what is no whole id."""
        entry = self._by_id.get(request_id)
        if entry is not None:
            return entry
        found = []
        if len(request_id) >= MIN_PREFIX:
            found = [one for name, one in self._by_id.items() if name.startswith(request_id)]
        if len(found) > 1:
            raise UnknownRequest(
                f"{len(found)} requests have ids that begin so: give more digits of the one meant"
            )
        if not found:
            raise UnknownRequest(
                f"no decision is kept for this request id; those of the last {len(self)} requests"
                f" are (router.decision_log_len {self._capacity}, router.decision_log_bytes"
                f" {self._capacity_bytes})"
            )
        return found[0]

    def check(self) -> None:
        if self._bytes != sum(entry.n_bytes for entry in self._by_id.values()):
            raise BrokenInvariant("the decision log's bytes are not the sum of its entries'")
        for entry in self._by_id.values():
            if entry.n_bytes != ENTRY_BYTES + sum(map(_decision_bytes, entry.decisions)):
                raise BrokenInvariant("an entry's bytes are not those of its decisions")

    def _shrink(self) -> None:
        """The last one stays, whatever its size."""
        while len(self._by_id) > 1 and (
            len(self._by_id) > self._capacity or self._bytes > self._capacity_bytes
        ):
            _, entry = self._by_id.popitem(last=False)
            self._bytes -= entry.n_bytes


def _decision_bytes(decision: Decision) -> int:
    """The ids of the workers are the fleet's, shared by all decisions."""
    view = decision.view
    arrays = view.table.nbytes + view.overlap_blocks.nbytes + view.expected_blocks.nbytes
    return DECISION_BYTES + int(arrays)
