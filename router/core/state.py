"""Everything one router knows, in one record: the parts that `RouterCore`'s collaborators share.

Owns nothing itself: each part is changed by its own verbs only. Built once by `RouterCore`.
"""

import random
from dataclasses import dataclass, field

from radixroute.router.core.hits import HitCounters
from radixroute.router.core.latencies import Latencies
from radixroute.router.core.leases import Leases
from radixroute.router.core.logs.decision_log import DecisionLog
from radixroute.router.core.logs.request_log import RequestLog
from radixroute.router.core.logs.tape import Tape
from radixroute.router.core.queue.admission import Admission, House
from radixroute.router.core.queue.deadlines import Deadlines
from radixroute.router.core.queue.pacing import ResumePace
from radixroute.router.core.queue.retries import RetryBudget
from radixroute.router.core.queue.usual_wait import UsualWait
from radixroute.router.core.queue.waiting_queue import WaitingQueue
from radixroute.router.core.requests import RequestTable
from radixroute.router.core.trial import Trials
from radixroute.router.counters import Counters
from radixroute.router.messages.inputs import NS_PER_S
from radixroute.router.policy.candidates import CandidateList
from radixroute.router.policy.expected import ExpectedBlocks
from radixroute.router.policy.policy import PolicyParts
from radixroute.router.policy.selector import Selector
from radixroute.router.policy.snapshot import Ask, Beliefs, FleetNumbers
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.audit import Audit
from radixroute.router.workers.breakers import Breakers
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.idle import IdleBook
from radixroute.router.workers.journal import AuditedIndex
from radixroute.router.workers.load import LoadBook
from radixroute.router.workers.members import Members
from radixroute.router.workers.recent_prefill import RecentPrefill
from radixroute.router.workers.speed import SpeedBook


@dataclass(slots=True)
class Serving:
    """What the fleet serves: of the first worker that joined, and of all after it."""

    block_size: int = 16
    eos_token_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RouterState:
    """The parts of one router."""

    members: Members
    audit: Audit
    loads: LoadBook
    speeds: SpeedBook
    recent_prefill: RecentPrefill
    expected: ExpectedBlocks
    requests: RequestTable
    admission: Admission
    waiting: WaitingQueue
    deadlines: Deadlines
    retries: RetryBudget
    pace: ResumePace
    usual_wait: UsualWait
    breakers: Breakers
    leases: Leases
    hits: HitCounters
    idle: IdleBook
    log: DecisionLog
    ended: RequestLog
    latencies: Latencies
    counters: Counters
    selector: Selector
    trials: Trials
    tape: Tape | None = None  # None: nobody looks on
    serving: Serving = field(default_factory=Serving)


def new_state(
    settings: RouterSettings,
    index: AuditedIndex,
    rng: random.Random,
    log_seed: int,
    tape: Tape | None = None,
) -> RouterState:
    columns, counters = WorkerColumns(), Counters()
    members, loads = Members(columns), LoadBook(settings.router_id, columns)
    speeds, recent_prefill = SpeedBook(columns), RecentPrefill(columns)
    expected = ExpectedBlocks(round(settings.expected_ttl_s * NS_PER_S))

    def draw(ask: Ask) -> int:
        """Once for a request, so that weighing it again changes nothing."""
        if ask.draw is None:
            ask.draw = rng.getrandbits(64)
        return ask.draw

    return RouterState(
        members=members,
        audit=Audit(index, members, counters),
        loads=loads,
        speeds=speeds,
        recent_prefill=recent_prefill,
        expected=expected,
        requests=RequestTable(),
        admission=Admission(
            House(
                settings.max_in_flight, settings.max_in_flight_bytes, settings.max_in_flight_tokens
            )
        ),
        waiting=WaitingQueue(
            max_requests=settings.max_waiting,
            max_tokens=settings.max_waiting_tokens,
            age_ns=round(settings.priority_age_s * NS_PER_S),
        ),
        deadlines=Deadlines(),
        retries=RetryBudget(),
        pace=ResumePace(),
        usual_wait=UsualWait(),
        breakers=Breakers(members),
        leases=Leases(ttl_ns=round(settings.lease_ttl_s * NS_PER_S)),
        hits=HitCounters(),
        idle=IdleBook(members, loads),
        log=DecisionLog(settings.decision_log_len, settings.decision_log_bytes),
        ended=RequestLog(settings.request_log_bytes, log_seed),
        latencies=Latencies(),
        counters=counters,
        selector=Selector(
            PolicyParts("", settings, counters, members),
            FleetNumbers(loads, speeds, recent_prefill),
            Beliefs(index, CandidateList(members), expected),
            draw,
        ),
        trials=Trials(settings.policy),
        tape=tape,
    )
