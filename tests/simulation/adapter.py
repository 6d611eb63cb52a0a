"""The one place that knows the verbs of `RouterCore`: what it is given, and how it is asked.

Everything else here speaks of clients, workers and time. When a verb changes, this file does.
"""

import random
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from radixroute.events.wire.epoch import epoch_to_hex
from radixroute.events.wire.records import Epoch, LoadReport
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Holder, Keys, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import PATHS, Verbatim
from radixroute.router.core.router_core import RouterCore
from radixroute.router.core.snapshot import RouterSnapshot
from radixroute.router.links.wire import step_reports
from radixroute.router.messages.actions import Action, AttemptName, Dispatch
from radixroute.router.messages.inputs import (
    Absence,
    AbsentWorker,
    Delta,
    MemberSpec,
    PackedTokens,
    RequestSpec,
    StepReport,
    WorkerFacts,
)
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.view import Scores
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.claims import Claim
from tests.simulation.agenda import MS
from tests.simulation.deeds import Submit, TakeLease
from tests.simulation.glance import Glance, glance_at
from tests.simulation.meter import Meter
from tests.simulation.plan import INDEX_BYTES, Plan, WorkerPlan
from tests.simulation.prompts import BLOCK_TOKENS, EOS, body_of, prompt_of

ROUTER_ID = "me"
# Little of each, so that a seed reaches every bound.
LOG_LEN, LOG_BYTES = 16, 8 << 10
LEASE_TTL_S = EXPECTED_TTL_S = LEARNED_TTL_S = 2.0
LEASE_UNSEEN_S = NO_WORKER_WAIT_S = 1.0
STUCK_SUSPECT_S = 2.0
AGE_NS = 500 * MS
_INPUTS = (
    "submit", "schedule_waiting", "abort", "release", "step", "set_members", "joined", "lost",
    "heartbeat", "tick",
)  # fmt: skip


def settings(plan: Plan) -> RouterSettings:
    return RouterSettings(
        router_id=ROUTER_ID,
        seed=plan.seed,
        max_waiting=plan.max_waiting,
        max_waiting_tokens=plan.max_waiting_tokens,
        max_in_flight=plan.max_in_flight,
        max_in_flight_bytes=plan.max_in_flight_bytes,
        max_in_flight_tokens=plan.max_in_flight_tokens,
        priority_age_s=AGE_NS / 1e9,
        stuck_suspect_after_s=STUCK_SUSPECT_S,
        stuck_dead_after_s=5.0,
        no_worker_wait_s=NO_WORKER_WAIT_S,
        lease_ttl_s=LEASE_TTL_S,
        lease_unseen_s=LEASE_UNSEEN_S,
        expected_ttl_s=EXPECTED_TTL_S,
        learned_ttl_s=LEARNED_TTL_S,
        decision_log_len=LOG_LEN,
        request_log_bytes=LOG_BYTES,
        index_bytes=INDEX_BYTES,
    )


def scope_of(plan: Plan, deed: Submit | TakeLease) -> RequestScope:
    """What its client shares its blocks by."""
    tenant = "" if plan.tenants_share else deed.tenant
    if not (deed.salt or deed.lora or tenant):
        return UNSCOPED
    return RequestScope(deed.lora, deed.salt, tenant)


def request_spec(deed: Submit, scope: RequestScope, now_ns: int) -> RequestSpec:
    prompt, keys = prompt_of(deed.pieces, scope)
    spec = RequestSpec(
        request_id=deed.request_id,
        prompt=prompt,
        keys=keys,
        sampling=SamplingParams(max_tokens=deed.max_tokens),
        policy=deed.policy,
        arrival_ns=now_ns,
        deadline_ns=now_ns + deed.timeout_ms * MS,
        session=deed.session,
        tenant=deed.tenant,
        priority=deed.priority,
        scope=scope,
    )
    return _as_it_came(spec, deed) if deed.is_verbatim else spec


def _as_it_came(spec: RequestSpec, deed: Submit) -> RequestSpec:
    """A verbatim one: its length is a guess where its router has not read it."""
    n_tokens = len(spec.prompt)
    if deed.is_read:
        return replace(spec, verbatim=Verbatim(PATHS[0], body_of(deed.pieces), n_tokens))
    verbatim = Verbatim(PATHS[0], body_of(deed.pieces), 1 + n_tokens * (1 + n_tokens % 3) // 2)
    return replace(spec, prompt=spec.prompt[:0], keys=spec.keys[:0], verbatim=verbatim)


def lease_spec(deed: TakeLease, scope: RequestScope, now_ns: int) -> RequestSpec:
    prompt, keys = prompt_of(deed.pieces, scope)
    return RequestSpec(
        request_id=deed.request_id,
        prompt=prompt,
        keys=keys,
        sampling=SamplingParams(max_tokens=deed.max_tokens),
        policy=deed.policy,
        arrival_ns=now_ns,
        deadline_ns=now_ns + 60_000 * MS,
        tenant=deed.tenant,
        priority=deed.priority,
        lease_id=f"lease of {deed.request_id}",
        scope=scope,
    )


def n_bytes(spec: RequestSpec) -> int:
    """Of a prompt as it came."""
    return spec.prompt.nbytes


def guessed_tokens(spec: RequestSpec) -> int:
    """Of text, before it is tokenised; of a verbatim one its door guesses."""
    return -(-n_bytes(spec) // 2) if spec.verbatim is None else spec.verbatim.n_tokens


def member(worker: str, incarnation: int) -> MemberSpec:
    return MemberSpec(WorkerId(worker), f"{worker}:1", incarnation)


def facts(plan: WorkerPlan, epoch: Epoch) -> WorkerFacts:
    return WorkerFacts(
        worker_id=WorkerId(plan.name),
        epoch=epoch_to_hex(epoch),
        block_size=BLOCK_TOKENS,
        eos_token_ids=frozenset({EOS}),
        kv_blocks_total=plan.kv_blocks,
        max_batched_tokens=plan.batch_tokens,
        max_num_seqs=plan.seats if plan.says_seats else 0,
        max_waiting=plan.queue_len if plan.says_queue else 0,
        adapters=frozenset(plan.adapters),
        takes_verbatim=plan.takes_verbatim,
    )


def refusal(dispatch: Dispatch) -> Delta:
    """A worker whose seats and queue are taken."""
    request_id = dispatch.spec.request_id
    return Delta(request_id, dispatch.attempt, 0, PackedTokens(b""), "", FinishReason.FULL)


def gone(name: AttemptName) -> Delta:
    """A worker that has no such attempt."""
    return Delta(name.request_id, name.attempt, 0, PackedTokens(b""), "", FinishReason.ABORT)


def over_the_wire(report: StepReport) -> StepReport:
    """What the router's link makes of it. Its times and sums only: outputs go as they are."""
    output = pb.StepOutput(
        step_ms=report.step_ms,
        prefill_tokens=report.prefill_tokens,
        decode_tokens=report.decode_tokens,
    )
    return replace(next(step_reports(output)), deltas=report.deltas, more=report.more)


class OverheardCore(RouterCore):
    """Heartbeats reach it from the event link: tells somebody of each before it acts on it."""

    def __init__(self, plan: Plan, index: PrefixIndex) -> None:
        super().__init__(settings(plan), index, random.Random(plan.seed))
        self.on_heartbeat: Callable[[str, LoadReport], None] = lambda worker, load: None
        # Each decision, before anything comes of it.
        self.on_decision: Callable[[str, Decision], None] = lambda request_id, decision: None
        self._decided = self._state.log.decided
        vars(self._state.log)["decided"] = self._overhear
        # What the audit is given to judge.
        self.on_claim: Callable[[Claim], None] = lambda claim: None
        self._reported = self._state.audit.reported
        vars(self._state.audit)["reported"] = self._overhear_claim

    def heartbeat(
        self, worker_id: WorkerId, load: LoadReport, now_ns: int, *, heard_ns: int | None = None
    ) -> list[Action]:
        self.on_heartbeat(worker_id, load)
        return super().heartbeat(worker_id, load, now_ns, heard_ns=heard_ns)

    def glance(self) -> Glance:
        return glance_at(self._state)

    def is_believed(self, worker: str) -> bool:
        """Whether what the index says of it counts."""
        member = self._state.members.get(WorkerId(worker))
        return member is not None and member.is_believed

    def _overhear(self, request_id: str, decision: Decision) -> None:
        self.on_decision(request_id, decision)
        self._decided(request_id, decision)

    def _overhear_claim(self, claim: Claim) -> None:
        self.on_claim(claim)
        self._reported(claim)


class Router:
    """The core under test, and what may be asked about it."""

    def __init__(self, plan: Plan) -> None:
        self.index = PrefixIndex(plan.index_bytes)
        self.core = OverheardCore(plan, self.index)
        self.meter = Meter(self.core, _INPUTS) if plan.is_metered else None

    # -- clients

    def enter(self, spec: RequestSpec) -> bool:
        """As text, before its tokens are known."""
        tokens = None if spec.verbatim is None else guessed_tokens(spec)
        return self.core.enter(spec.request_id, n_bytes=n_bytes(spec), tokens=tokens)

    def leave(self, request_id: str) -> None:
        self.core.leave(request_id)

    def submit(self, spec: RequestSpec, now_ns: int) -> list[Action]:
        return self.core.submit(spec, now_ns)

    def hang_up(self, request_id: str, now_ns: int) -> list[Action]:
        return self.core.abort(request_id, now_ns)

    def release(self, lease_id: str, now_ns: int) -> list[Action] | None:
        """None: it had ended already."""
        return self.core.release(lease_id, now_ns)

    # -- the fleet

    def list_members(self, specs: Sequence[MemberSpec], now_ns: int) -> list[Action]:
        return self.core.set_members(specs, now_ns)

    def name_absent(self, workers: Sequence[str]) -> None:
        """Those that the controller is starting again."""
        self.core.set_absent([AbsentWorker(WorkerId(w), Absence.RESTARTING) for w in workers])

    def joined(self, plan: WorkerPlan, epoch: Epoch, now_ns: int) -> list[Action]:
        return self.core.joined(facts(plan, epoch), now_ns)

    def refused(self, worker: str) -> None:
        self.core.refused(WorkerId(worker), "does not fit")

    def lost(self, worker: str, reason: str, now_ns: int) -> list[Action]:
        return self.core.lost(WorkerId(worker), reason, now_ns)

    def step(self, worker: str, report: StepReport, now_ns: int) -> list[Action]:
        return self.core.step(WorkerId(worker), report, now_ns)

    # -- time

    def tick(self, now_ns: int) -> list[Action]:
        actions = self.core.tick(now_ns)
        self.index.sweep(1000)
        return actions

    def wake(self, now_ns: int) -> list[Action]:
        return self.core.schedule_waiting(now_ns)

    @property
    def wake_ns(self) -> int | None:
        return self.core.wake_ns

    # -- for those who look

    @property
    def n_running(self) -> int:
        return self.core.n_running

    @property
    def n_waiting(self) -> int:
        return self.core.n_waiting

    def glance(self) -> Glance:
        return self.core.glance()

    def snapshot(self) -> RouterSnapshot:
        return self.core.snapshot()

    def credited(self, workers: Sequence[WorkerId], keys: Keys) -> list[int]:
        """Leading blocks that the index has for each, as far as it is believed."""
        overlaps, holders = self.index.overlaps(keys), set(self.index.holders)
        return [
            int(overlaps.blocks_of(Holder(worker)))
            if Holder(worker) in holders and self.core.is_believed(worker)
            else 0
            for worker in workers
        ]

    def scores(self, decision: Decision) -> Scores:
        return self.core.scores(decision)

    def expects_blocks(self, worker: str) -> bool:
        return self.core._state.expected.expects(WorkerId(worker))

    def check(self) -> None:
        self.core.check()
