"""Decision log: why each of the last requests went where it went.

Owns a bounded log, oldest out first. Entries hold numbers and ids, never prompts.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from radixroute.radix.ids import WorkerId
from radixroute.router.errors import UnknownRequest
from radixroute.router.policy.score import expected_ttft_ms
from radixroute.router.policy.table import policy_named
from radixroute.router.policy.view import Scores, View


@dataclass(frozen=True, slots=True)
class Excluded:
    """A worker that could not be chosen, and why."""

    worker_id: WorkerId
    because: str


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One choice with everything it was made from."""

    attempt: int
    policy: str
    view: View
    chosen: int  # position in view.worker_ids
    reason: str
    excluded: tuple[Excluded, ...]
    ttft_ms: float | None = None  # dispatch to first token, if a plan computed it

    @property
    def expected_ms(self) -> float:
        """Dispatch to first token, as forecast."""
        known = self.ttft_ms
        return expected_ttft_ms(self.view, self.chosen) if known is None else known

    @property
    def worker_id(self) -> WorkerId:
        return self.view.worker_ids[self.chosen]

    def scores(self) -> Scores:
        """As they were: equal views give equal scores, so the log need not keep them."""
        return policy_named(self.policy).choose(self.view).scores


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
