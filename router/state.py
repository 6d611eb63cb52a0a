"""Everything one router knows, in one record: the parts that `RouterCore`'s collaborators share.

Owns nothing itself: each part is changed by its own verbs only. Built once by `RouterCore`.
"""

import random
from dataclasses import dataclass, field

from radixroute.router.active_blocks import ActiveBlocks
from radixroute.router.counters import Counters
from radixroute.router.decision_log import DecisionLog
from radixroute.router.expected import ExpectedBlocks
from radixroute.router.fill import Fills
from radixroute.router.hits import HitCounters
from radixroute.router.idle import IdleBook
from radixroute.router.learned import LearnedBlocks
from radixroute.router.leases import Leases
from radixroute.router.load_book import LoadBook
from radixroute.router.members import Members
from radixroute.router.replicas import Replicas
from radixroute.router.request_log import RequestLog
from radixroute.router.requests import RequestTable
from radixroute.router.selection import Fleet, PrefixBeliefs, Selector
from radixroute.router.settings import RouterSettings
from radixroute.router.slots import Slots
from radixroute.router.speed import SpeedBook
from radixroute.router.waiting import WaitingQueue

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
