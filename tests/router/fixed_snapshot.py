"""A snapshot that always shows one view: what a policy makes of it, without a router around it."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from radixroute.router.core.requests import Request
from radixroute.router.counters import Counters
from radixroute.router.messages.inputs import RequestSpec
from radixroute.router.policy.candidates import CandidateList
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.policy import Dispatched, Policy, PolicyParts
from radixroute.router.policy.registry import policy_named
from radixroute.router.policy.snapshot import Beliefs
from radixroute.router.policy.view import View
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import Members
from tests.router.scalar_score import OUTPUT
from tests.router.worlds import FakeIndex, request


@dataclass
class _Fixed:
    """Of `seen`; whoever asks gets the view without what a policy adds."""

    seen: View
    now_ns: int = 0
    block_size: int = 16
    lead_ms: float = 3.0
    beliefs: Beliefs = field(
        default_factory=lambda: Beliefs(FakeIndex(), CandidateList(Members(WorkerColumns())), None)
    )

    def view(self, ask: Request, beliefs: Beliefs | None = None) -> View:
        return msgspec.structs.replace(self.seen, prompt_tokens=self.seen.prompt_tokens, own=None)

    def draw(self, ask: Request) -> int:
        return self.seen.draw

    def expected_output(self, ask: Request) -> float:
        return OUTPUT


def FixedSnapshot(seen: View) -> Any:
    return _Fixed(seen)


def make(name: str, **settings) -> Policy:
    """A policy alone."""
    members = Members(WorkerColumns())
    return policy_named(name)(PolicyParts(name, RouterSettings(**settings), Counters(), members))


def ask(**more) -> Request:
    spec: RequestSpec = request("r", **{"blocks": 720, **more})
    return Request(spec)


def decide(policy: Policy, what: View, **more) -> Decision:
    """Asked, adopted and dispatched, as the core does."""
    asked = ask(**more)
    plan = policy.choose(asked, FixedSnapshot(what))
    policy.adopt(plan)
    (bound,) = plan.bound
    booking = BookingId(f"r{random.getrandbits(64)}", 1)
    policy.on_dispatch(Dispatched(asked.spec, booking, bound.decision, 0, 0))
    policy.on_settle(booking)
    policy.on_end("r")
    return bound.decision
