"""Inference engine: a scheduler over the prefix cache, and a model runner that computes its plans.

Owns both and turns each plan into one `EngineStep`. Holds no socket and reads no clock but the one
it is given, which only measures. The runner may be torch or a fake: nothing here imports torch.
Driven by the engine process's loop, tests and benchmarks; one thread.
"""

import logging
from collections.abc import Callable

from radixroute.radix.ids import BlockKey
from radixroute.radix.keys.scope import Scope
from radixroute.worker.engine.cache import CacheCounters, PrefixCache
from radixroute.worker.engine.engine import (
    EngineInfo,
    EngineRequest,
    EngineStep,
    TokenOutput,
)
from radixroute.worker.engine.progress import ProgressTracker
from radixroute.worker.engine.runner import ModelFacts, ModelRunner
from radixroute.worker.engine.scheduler import Scheduler
from radixroute.worker.engine.step import ScheduledStep, SchedulerCounters, SchedulerLimits
from radixroute.worker.errors import BadSetting, EngineBroken
from radixroute.worker.settings import WorkerSettings

# One failing step may be one bad batch; three in a row with different requests are the machine.
MAX_FAILED_STEPS = 3

_log = logging.getLogger(__name__)


class InferenceEngine:
    """Implements `radixroute.worker.engine.engine.Engine`."""

    def __init__(
        self, settings: WorkerSettings, runner: ModelRunner, clock_ns: Callable[[], int]
    ) -> None:
        facts = runner.facts
        self._info = _engine_info(settings, facts)
        self._runner = runner
        self._clock_ns = clock_ns
        self._cache = PrefixCache(
            facts.kv_blocks_total,
            facts.block_size,
            engine_scope(settings, self._info),
            events_carry_tokens=settings.events_compat,
            eviction_policy=settings.eviction_policy,
            window=facts.window,
        )
        self._scheduler = Scheduler(self._cache, _limits(settings, self._info))
        self._progress = ProgressTracker()
        self._step = 0
        self._failed_in_a_row = 0

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def scheduler_counters(self) -> SchedulerCounters:
        return self._scheduler.counters

    @property
    def cache_counters(self) -> CacheCounters:
        return self._cache.counters

    def resident_keys(self) -> set[BlockKey]:
        return self._cache.resident_keys()

    def submit(self, request: EngineRequest, now_ns: int) -> None:
        self._progress.acknowledge(request.session_id, request.dispatch_seq)
        self._scheduler.submit(request, now_ns)

    def abort(self, request_id: str, attempt: int) -> None:
        self._scheduler.abort(request_id, attempt)

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        self._scheduler.inquire(session_id, request_id, attempt)

    def end_session(self, session_id: str) -> None:
        """Abort all requests of a worker session whose stream is gone, and forget it."""
        for sequence in list(self._scheduler.sequences()):
            if sequence.request.session_id == session_id:
                self._scheduler.abort(*sequence.key)
        self._progress.forget(session_id)

    def step(self, now_ns: int) -> EngineStep | None:
        """Plan a step and compute it. Raises `EngineBroken` when steps fail again and again."""
        if not self._scheduler.has_work:
            return None
        began_ns = self._clock_ns()
        outputs = self._scheduler.take_ended()
        planned = self._scheduler.schedule(now_ns)
        if planned is not None:
            outputs += self._execute(planned, now_ns, began_ns)
        self._step += 1
        step_ms = (self._clock_ns() - began_ns) / 1e6
        return self._report(outputs, planned, step_ms)

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        self._scheduler.check()

    def _execute(self, planned: ScheduledStep, now_ns: int, began_ns: int) -> list[TokenOutput]:
        try:
            result = self._runner.execute(planned.plan)
        except Exception as error:  # noqa: BLE001  # raised again when it keeps coming
            # Whatever broke, the blocks of this step hold nothing and its requests must end.
            _log.exception("step %d failed with %d requests", self._step, len(planned.sequences))
            outputs = self._scheduler.fail()
            self._count_failure(error)
            return outputs
        if result.unsound_slices:
            n_all, n_unsound = len(planned.sequences), len(result.unsound_slices)
            _log.error("step %d gave NaN for %d of %d requests", self._step, n_unsound, n_all)
        outputs = self._scheduler.commit(result, now_ns + self._clock_ns() - began_ns)
        if len(result.unsound_slices) == len(planned.sequences):
            self._count_failure(None)  # weights or memory, rather than every one of the prompts
        else:
            self._failed_in_a_row = 0
        return outputs

    def _count_failure(self, cause: Exception | None) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MAX_FAILED_STEPS:
            raise EngineBroken(f"{MAX_FAILED_STEPS} steps failed in a row") from cause

    def _report(
        self, outputs: list[TokenOutput], planned: ScheduledStep | None, step_ms: float
    ) -> EngineStep:
        return EngineStep(
            step=self._step,
            outputs=tuple(outputs),
            events=self._cache.take_events(),
            step_ms=step_ms,
            prefill_tokens=0 if planned is None else planned.prefill_tokens,
            decode_tokens=0 if planned is None else planned.decode_tokens,
            kv_blocks_used=self._cache.n_used,
            sessions=self._progress.of(self._scheduler.sequences()),
        )


def engine_scope(settings: WorkerSettings, info: EngineInfo) -> Scope:
    """What this worker's block keys are salted with."""
    return Scope(
        model_fingerprint=info.model_fingerprint,
        block_size=info.block_size,
        kv_dtype=info.kv_dtype or info.dtype,
        cluster_secret=settings.cluster_secret.encode(),
    )


def _engine_info(settings: WorkerSettings, facts: ModelFacts) -> EngineInfo:
    """The facts of this engine; a context longer than the pool is cut, or refused if asked for."""
    pool_tokens = facts.kv_blocks_total * facts.block_size
    if pool_tokens < 2:
        raise BadSetting("kv_memory", f"{settings.kv_memory} bytes hold not even one block of KV")
    # A sliding window holds less than the context; `Scheduler` says where even that is too much.
    longest = pool_tokens if facts.window is None else facts.max_model_len
    limit = min(facts.max_model_len, longest)
    requested = settings.max_model_len
    if requested > limit:
        raise BadSetting(
            "max_model_len",
            f"{requested} is too long: the model takes {facts.max_model_len} tokens and the KV "
            f"pool {pool_tokens}; lower it, or raise worker.kv_memory",
        )
    return EngineInfo(
        model=settings.served_model_name or facts.model,
        block_size=facts.block_size,
        max_model_len=requested or limit,
        vocab_size=facts.vocab_size,
        eos_token_ids=facts.eos_token_ids,
        model_fingerprint=facts.fingerprint,
        dtype=facts.dtype,
        kv_dtype=facts.kv_dtype,
        device=facts.device,
        kv_blocks_total=facts.kv_blocks_total,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        adapters=facts.adapters,
    )


def _limits(settings: WorkerSettings, info: EngineInfo) -> SchedulerLimits:
    return SchedulerLimits(
        max_model_len=info.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_waiting=settings.max_waiting,
        watermark_blocks=int(settings.watermark * info.kv_blocks_total),
        preemption_order=settings.preemption_order,
        eos_token_ids=frozenset(info.eos_token_ids),
        adapters=frozenset(info.adapters),
    )
