"""Policy: the seam between the router's core and a way of giving requests to workers.

A policy owns whatever only it needs (turns, learned blocks, accounts of replicas, an order of its
own). `choose`, `plan` and `scores` are pure: they read a `Snapshot` and the policy's own state and
change neither, so that another policy can be asked beside the one that acts. What was decided comes
back by the other verbs, and only those change anything. No clock, no I/O; the core calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from radixroute.radix.ids import WorkerId
from radixroute.router.counters import Counters
from radixroute.router.messages.inputs import RequestSpec
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Scores, View
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import Members


class Bound(NamedTuple):
    """A request that should go to a worker now."""

    ask: Ask
    decision: Decision


class Plan(NamedTuple):
    """What a policy would do now. Nothing has happened yet."""

    bound: Sequence[Bound] = ()  # in the order in which they go
    # Those that it left should be looked at once more, when these are booked.
    asks_again: bool = False
    # Everyone that still waits was weighed against every worker: who idles now idles on purpose.
    is_weighed: bool = False
    wake_ns: int | None = None  # when to plan again though nothing may have happened; None: never
    own: Any = None  # for `adopt`: the policy's own record


class Dispatched(NamedTuple):
    """A decision that was booked."""

    spec: RequestSpec
    booking: BookingId
    decision: Decision
    kv_blocks: int  # of the worker's cache; 0: not known
    now_ns: int


class Policy(Protocol):
    """How requests are given to workers: one instance in each router."""

    @property
    def binds_late(self) -> bool:
        """Requests may wait by its own rule. False: they wait only where no worker has room."""

    def elapse(self, now_ns: int) -> None:
        """Time has come to `now_ns`: what has lapsed goes. On ticks and before questions."""

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        """A request came. True: it need not wait, `choose` for it. False: it waits for `plan`."""

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        """For one request that goes now, wherever that is. Nothing bound: nobody can take it."""

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        """A plan that binds nothing, if whoever has that need, or none, has to go on
        waiting; None: ask `plan`.

        Must not cost more because more wait.
        """

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        """For the first requests that wait, in the queue's order; at least one. None is running.

        All have one need, or none.
        """

    def scores(self, view: View) -> Scores:
        """Of a view that this policy judged: equal views give equal scores."""

    def adopt(self, plan: Plan) -> None:
        """This answer of `choose` or `plan` is being carried out."""

    def on_dispatch(self, dispatched: Dispatched) -> None:
        """A decision of this policy was booked."""

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        """The first token of what was dispatched under it. Not told of leases, whose clients see
        it alone, nor of answers that nobody reads here.
        """

    def on_settle(self, booking: BookingId) -> None:
        """What was dispatched under it holds no load any more, however it ended."""

    def on_end(self, request_id: str) -> None:
        """A request that this policy admitted or chose for has ended."""

    def forget(self, worker_id: WorkerId) -> None:
        """Its cache is gone."""

    def check(self) -> None:
        """Raises BrokenInvariant."""


@dataclass(frozen=True, slots=True)
class PolicyParts:
    """What a policy may be made of."""

    name: str
    settings: RouterSettings
    counters: Counters
    members: Members


PolicyFactory: TypeAlias = Callable[[PolicyParts], Policy]
