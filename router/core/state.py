"""Everything one router knows, in one record: the parts that `RouterCore`'s collaborators share.

Owns nothing itself: each part is changed by its own verbs only. Built once by `RouterCore`.
"""

import random
from dataclasses import dataclass, field

from radixroute.router.core.decision_log import DecisionLog
from radixroute.router.core.hits import HitCounters
from radixroute.router.core.leases import Leases
from radixroute.router.core.request_log import RequestLog
from radixroute.router.core.requests import RequestTable
from radixroute.router.core.waiting import WaitingQueue
from radixroute.router.counters import Counters
from radixroute.router.policy.active_blocks import ActiveBlocks
from radixroute.router.policy.expected import ExpectedBlocks
from radixroute.router.policy.learned import LearnedBlocks
from radixroute.router.policy.replicas import Replicas
from radixroute.router.policy.selector import Fleet, PrefixBeliefs, Selector
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.columns import Slots
from radixroute.router.workers.idle import IdleBook
from radixroute.router.workers.load import LoadBook
from radixroute.router.workers.members import Members
from radixroute.router.workers.recent_prefill import Fills
from radixroute.router.workers.speed import SpeedBook

NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class Serving:
    """What the fleet serves: of the first worker that joined, and of all after it."""

    block_size: int = 16
    eos_token_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RouterState:
    """The parts of one router."""

    members: Members
    loads: LoadBook
    speeds: SpeedBook
    fills: Fills
    expected: ExpectedBlocks
    active: ActiveBlocks
    learned: LearnedBlocks
    requests: RequestTable
    waiting: WaitingQueue
    leases: Leases
    hits: HitCounters
    idle: IdleBook
    log: DecisionLog
    ended: RequestLog
    counters: Counters
    selector: Selector
    serving: Serving = field(default_factory=Serving)


def new_state(settings: RouterSettings, index: PrefixBeliefs, rng: random.Random) -> RouterState:
    slots, counters = Slots(), Counters()
    fleet = Fleet(
        members=Members(slots),
        loads=LoadBook(settings.router_id, slots),
        speeds=SpeedBook(slots),
        fills=Fills(slots),
        active=ActiveBlocks(),
        learned=LearnedBlocks(round(settings.learned_ttl_s * NS_PER_S)),
        expected=ExpectedBlocks(round(settings.expected_ttl_s * NS_PER_S)),
        index=index,
        replicas=Replicas(counters),
    )
    return RouterState(
        members=fleet.members,
        loads=fleet.loads,
        speeds=fleet.speeds,
        fills=fleet.fills,
        active=fleet.active,
        learned=fleet.learned,
        expected=fleet.expected,
        requests=RequestTable(),
        waiting=WaitingQueue(settings.max_waiting),
        leases=Leases(),
        hits=HitCounters(),
        idle=IdleBook(fleet.members, fleet.loads),
        log=DecisionLog(settings.decision_log_len),
        ended=RequestLog(settings.request_log_bytes),
        counters=counters,
        selector=Selector(fleet, rng, settings),
    )
