"""Decision: one choice with everything it was made from. Plain data; scores are the policy's."""

from dataclasses import dataclass

from radixroute.radix.ids import WorkerId
from radixroute.router.policy.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Where one attempt at a request goes."""

    attempt: int
    policy: str
    view: View
    chosen: int  # position in view.worker_ids
    reason: str = ""  # one sentence of its policy; empty: the terms say it (`reasons.reason_of`)
    ttft_ms: float | None = None  # dispatch to first token, if the policy forecast it

    @property
    def worker_id(self) -> WorkerId:
        return self.view.worker_ids[self.chosen]
