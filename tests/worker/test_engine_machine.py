"""Two small engines under any history of requests, ends, failures and moves from one to the other.

After each step every block has one owner, the oldest request got further, and what was said is what
the request would have been told alone; in the end nothing is held and nothing is cached unseen.
"""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from radixroute.radix.tree.eviction import EVICTION_POLICIES
from radixroute.request.sampling import FinishReason, SamplingParams
from tests.radix.machines import played
from tests.worker.fakes import FakeRunner, Listener, alone, make_engine, request
from tests.worker.ownership import assert_nothing_is_held, assert_one_owner_each, empty

PICK = st.integers(0, 10**6)
TRUNK = [1, 2, 3, 1, 2, 3, 2, 1, 3, 3, 2, 1, 1, 1, 2, 2]  # prompts begin with some of it
MOST_STEPS = 2_000  # of a history's rest: more is a deadlock


class _Worker:
    """One engine and what a router hears of it."""

    def __init__(self, n_blocks: int, limits: dict[str, Any]) -> None:
        self.engine, self.runner = make_engine(FakeRunner(n_blocks=n_blocks), **limits)
        self.listener = Listener()


class _Job:
    """A request wherever it is, what it was told so far and what it is to be told."""

    def __init__(self, name: str, prompt: list[int], max_tokens: int) -> None:
        self.name, self.prompt, self.max_tokens = name, prompt, max_tokens
        self.attempt = 0
        self.at: _Worker | None = None
        self.told: list[int] = []
        self.wanted = alone(prompt, SamplingParams(max_tokens=max_tokens))


class EngineMachine(RuleBasedStateMachine):
    """Submit, step, abort, fail, end a session, move."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[_Worker] = []
        self.jobs: list[_Job] = []
        self.now_ns = 0

    @initialize(
        n_blocks=st.integers(9, 20),
        budget=st.integers(1, 24),
        seqs=st.integers(1, 5),
        order=st.sampled_from(["youngest", "least_computed"]),
        policy=st.sampled_from(sorted(EVICTION_POLICIES)),
        watermark=st.sampled_from([0.0, 0.2]),
    )
    def begin(self, n_blocks, budget, seqs, order, policy, watermark):
        limits = {
            "max_num_batched_tokens": budget,
            "max_num_seqs": seqs,
            "preemption_order": order,
            "eviction_policy": policy,
            "watermark": watermark,
        }
        self.workers = [_Worker(n_blocks, limits) for _ in range(2)]

    def send(self, job, worker):
        job.attempt += 1
        job.at = worker
        again = request(
            job.name,
            job.prompt,
            session_id=f"s{len(job.prompt) % 2}",
            emitted=job.told,
            attempt=job.attempt,
            max_tokens=job.max_tokens,
        )
        worker.engine.submit(again, self.now_ns)

    @rule(cut=st.integers(0, 16), tail=st.lists(st.integers(1, 3), min_size=1, max_size=8),
          max_tokens=st.integers(1, 12), which=st.integers(0, 1))  # fmt: skip
    def submit(self, cut, tail, max_tokens, which):
        job = _Job(f"r{len(self.jobs)}", TRUNK[:cut] + tail, max_tokens)
        self.jobs.append(job)
        self.send(job, self.workers[which])

    @rule(which=st.integers(0, 1), cut=st.integers(8, 16), n=st.integers(2, 3), fails=st.booleans())
    def burst(self, which, cut, n, fails):
        """Some at once with one cold beginning: who comes second shares what is not computed yet,
        and must lose it with the first when their step fails."""
        for _ in range(n):
            self.submit(cut, [1, 2], 3, which)
        if fails:
            self.fail(which)
        self.step_once(self.workers[which])

    @rule(which=st.integers(0, 1), n=st.integers(1, 6))
    def step(self, which, n):
        for _ in range(n):
            self.step_once(self.workers[which])

    @precondition(lambda self: self.jobs)
    @rule(number=PICK)
    def abort(self, number):
        """Waiting, half computed, answering, preempted or long gone: all the same."""
        job = self.jobs[number % len(self.jobs)]
        self.workers[number % 2].engine.abort(job.name, job.attempt)

    @precondition(lambda self: any(job.at for job in self.jobs))
    @rule(number=PICK)
    def move(self, number):
        """It goes on at the other worker with what it was told so far."""
        moving = [job for job in self.jobs if job.at is not None]
        job = moving[number % len(moving)]
        job.at.engine.abort(job.name, job.attempt)
        self.send(job, self.workers[self.workers[0] is job.at])

    @rule(which=st.integers(0, 1))
    def fail(self, which):
        """The next step breaks half-way; two in a row never do, lest the engine give up."""
        worker = self.workers[which]
        if worker.engine._failed_in_a_row == 0:
            worker.runner.fail_steps.add(len(worker.runner.plans))

    @rule(which=st.integers(0, 1), session=st.sampled_from(["s0", "s1"]))
    def end_session(self, which, session):
        self.workers[which].engine.end_session(session)

    @invariant()
    def every_block_has_one_owner(self):
        for worker in self.workers:
            worker.engine.check()
            assert_one_owner_each(worker.engine._cache)

    def step_once(self, worker):
        scheduler = worker.engine._scheduler
        oldest = scheduler._running[0] if scheduler._running else None
        before = oldest.n_computed if oldest else 0
        had_requests = bool(scheduler._sequences)
        n_plans = len(worker.runner.plans)
        self.now_ns += 1
        step = worker.engine.step(self.now_ns)
        if step is None:
            assert not worker.engine.has_work
            return
        assert (len(worker.runner.plans) == n_plans + 1) == had_requests, "a step did nothing"
        if oldest is not None and oldest.key in scheduler._sequences:
            assert scheduler._running[0] is oldest, "the oldest request gave way"
            assert oldest.n_computed > before, "the oldest request got no further"
        worker.listener.hear(step.events)
        assert worker.listener.keys == worker.engine.resident_keys()
        assert step.kv_blocks_used == worker.engine._cache.n_used
        was_told_to_fail = n_plans in worker.runner.fail_steps
        for output in step.outputs:
            assert (output.finish is FinishReason.ERROR) <= was_told_to_fail, "a block held nothing"
            self.hear(worker, output)

    def hear(self, worker, output):
        (job,) = (job for job in self.jobs if job.name == output.request_id)
        if (job.at, job.attempt) != (worker, output.attempt):
            assert not output.token_ids, "an attempt that was aborted goes on"
            return
        assert output.position == len(job.told)
        job.told += output.token_ids
        if output.finish is not None:
            job.at = None
            ended_well = output.finish in (FinishReason.STOP, FinishReason.LENGTH)
            assert job.told == (job.wanted if ended_well else job.wanted[: len(job.told)])

    def teardown(self):
        for worker in self.workers:
            for _ in range(MOST_STEPS):
                if not worker.engine.has_work:
                    break
                self.step_once(worker)
            assert_nothing_is_held(worker.engine)
            empty(worker.engine._cache)
            worker.listener.hear(worker.engine._cache.take_events())
            assert worker.listener.keys == set()
        assert not any(job.at for job in self.jobs), "a request never ended"


TestEngines = played(EngineMachine, 60, 30)
TestEnginesAtLength = pytest.mark.deep(played(EngineMachine, 600, 60))
