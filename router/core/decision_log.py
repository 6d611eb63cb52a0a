"""Decision log: why each of the last requests went where it went.

Owns a bounded log, oldest out first. Entries hold numbers and ids, never prompts.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from radixroute.router.errors import UnknownRequest
from radixroute.router.policy.decision import Decision


@dataclass(slots=True)
class LoggedRequest:
    """What the log keeps of a request; only `DecisionLog` may change it."""

    request_id: str
    policy: str
    prompt_tokens: int
    block_size: int
    decisions: list[Decision] = field(default_factory=list)
    outcome: str = "running"
    cached_tokens: int = 0


class DecisionLog:
    """The last `capacity` requests."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_id: OrderedDict[str, LoggedRequest] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, entry: LoggedRequest) -> None:
        self._by_id[entry.request_id] = entry
        while len(self._by_id) > self._capacity:
            self._by_id.popitem(last=False)

    def decided(self, request_id: str, decision: Decision) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.decisions.append(decision)

    def served(self, request_id: str, cached_tokens: int) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.cached_tokens = cached_tokens

    def ended(self, request_id: str, outcome: str) -> None:
        entry = self._by_id.get(request_id)
        if entry is not None:
            entry.outcome = outcome

    def get(self, request_id: str) -> LoggedRequest:
        entry = self._by_id.get(request_id)
        if entry is None:
            raise UnknownRequest(
                f"no decision is kept for this request id; the last {self._capacity} are"
            )
        return entry
