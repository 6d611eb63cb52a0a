"""Who runs when: first come first served, one budget, and someone always gets on."""

import numpy as np
import pytest

from radixroute.radix.errors import BrokenInvariant
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.runner import StepResult
from radixroute.worker.errors import BadSetting
from tests.worker.fakes import FakeRunner, drain, make_engine, request


def planned(runner):
    """(first token, tokens computed) of each slice, step by step; first tokens name requests."""
    return [
        [(int(part.token_ids[0]), len(part.token_ids)) for part in plan.slices]
        for plan in runner.plans
    ]


def test_waiting_requests_start_in_the_order_they_came():
    engine, runner = make_engine(max_num_batched_tokens=6)
    for name in (10, 20, 30):
        engine.submit(request(str(name), [name, 1, 2, 3], max_tokens=1), 0)
    drain(engine)
    assert planned(runner) == [[(10, 4), (20, 2)], [(2, 2), (30, 4)]]


def test_running_requests_come_before_waiting_ones():
    engine, runner = make_engine(max_num_batched_tokens=4)
    engine.submit(request("a", [10, 1], max_tokens=5, ignore_eos=True), 0)
    engine.step(0)
    engine.submit(request("b", [20, 1, 2, 3, 4, 5], max_tokens=1), 0)
    drain(engine)
    second = planned(runner)[1]
    assert [tokens for _, tokens in second] == [1, 3]
    assert second[1][0] == 20


def test_no_step_is_larger_than_its_budget_and_no_more_requests_run_than_allowed():
    engine, runner = make_engine(max_num_batched_tokens=7, max_num_seqs=3)
    for index in range(9):
        engine.submit(request(str(index), [index + 1] * 11, max_tokens=4, ignore_eos=True), 0)
    outputs, _ = drain(engine)
    for plan in runner.plans:
        assert sum(len(part.token_ids) for part in plan.slices) <= 7
        assert len(plan.slices) <= 3
    assert all(outputs[str(index)][-1].finish is FinishReason.LENGTH for index in range(9))


def test_the_watermark_keeps_room_for_those_that_run():
    def admitted_at_once(watermark):
        engine, runner = make_engine(FakeRunner(n_blocks=20), watermark=watermark)
        for index in range(4):
            engine.submit(request(str(index), [index + 1] * 20, max_tokens=1), 0)
        engine.step(0)
        return len(runner.plans[0].slices)

    assert admitted_at_once(0.0) == 4
    assert admitted_at_once(0.3) == 2


def test_a_lone_request_may_use_the_room_the_watermark_keeps():
    engine, _ = make_engine(FakeRunner(n_blocks=10), watermark=0.9)
    engine.submit(request("a", [1] * 37, max_tokens=3, ignore_eos=True), 0)
    outputs, _ = drain(engine)
    assert outputs["a"][-1].finish is FinishReason.LENGTH


@pytest.mark.parametrize("order", ["youngest", "least_computed"])
def test_the_oldest_request_is_never_preempted_and_all_end(order):
    engine, runner = make_engine(FakeRunner(n_blocks=16), watermark=0.0, preemption_order=order)
    for index in range(5):
        prompt = [index + 1] * 8
        engine.submit(request(str(index), prompt, max_tokens=40, ignore_eos=True), 0)
    outputs, steps = drain(engine)
    assert engine.scheduler_counters.preemptions >= 3
    # The first of all computes its prompt once: no step after the first holds two of its tokens.
    firsts = [plan.slices[0] for plan in runner.plans[:39]]
    assert [len(part.token_ids) for part in firsts] == [8] + [1] * 38
    assert all(outputs[str(index)][-1].finish is FinishReason.LENGTH for index in range(5))
    assert steps[-1].kv_blocks_used <= 16


def test_the_preemption_order_chooses_who_gives_way():
    def preempted(order):
        engine, runner = make_engine(FakeRunner(n_blocks=16), watermark=0.0, preemption_order=order)
        engine.submit(request("old", [1] * 20, max_tokens=40, ignore_eos=True), 0)
        engine.submit(request("small", [2] * 8, max_tokens=20, ignore_eos=True), 0)
        engine.submit(request("large", [3] * 24, max_tokens=20, ignore_eos=True), 0)
        while not engine.scheduler_counters.preemptions:
            engine.step(0)
        return {len(part.block_table) > 5 for part in runner.plans[-1].slices[1:]}

    assert preempted("youngest") == {False}
    assert preempted("least_computed") == {True}


@pytest.mark.parametrize(("policy", "cached"), [("lru", [0, 8]), ("lfu", [8, 0])])
def test_the_eviction_policy_chooses_what_stays_cached(policy, cached):
    """One prompt is asked for twice, then another once, then a long one needs most of the pool."""
    engine, _ = make_engine(FakeRunner(n_blocks=12), eviction_policy=policy, watermark=0.0)
    often, once, large = [1] * 9, [2] * 9, [3] * 40

    def ask(name, prompt):
        engine.submit(request(name, prompt, max_tokens=1, ignore_eos=True), 0)
        outputs, _ = drain(engine)
        return outputs[name][0].prompt.cached_tokens

    for name, prompt in (("a", often), ("b", [4] * 9), ("c", often), ("d", once), ("e", large)):
        ask(name, prompt)
    assert [engine._cache.cached_tokens(np.array(p, np.uint32)) for p in (often, once)] == cached


def test_an_unknown_eviction_policy_is_refused_with_those_there_are():
    with pytest.raises(BadSetting, match=r"'mru' is not known; use one of lru, slru, lfu, cost"):
        make_engine(eviction_policy="mru")


def test_what_a_preempted_request_computes_again_is_reported_apart():
    engine, runner = make_engine(FakeRunner(n_blocks=12), max_num_batched_tokens=3, watermark=0.0)
    engine.submit(request("old", [1] * 3, max_tokens=45, ignore_eos=True), 0)
    for step in range(16):
        engine.step(step)
    engine.submit(request("late", [2] * 27, max_tokens=2, ignore_eos=True), 30)
    outputs, _ = drain(engine)
    assert engine.scheduler_counters.preemptions == 1
    (report,) = [o.prompt for o in outputs["late"] if o.prompt is not None]
    assert (report.prompt_tokens, report.cached_tokens) == (27, 0)
    assert report.recomputed_tokens > 0
    # Everything the model computed: each token once, and the second sampled one of each never.
    assert runner.n_computed == (3 + 44) + (27 + 1) + report.recomputed_tokens


def test_times_of_the_report_are_queueing_then_prefill():
    engine, _ = make_engine(max_num_batched_tokens=4)
    engine.submit(request("a", [1] * 8, max_tokens=1), 1_000_000)
    engine.step(4_000_000)
    (output,) = engine.step(9_000_000).outputs
    assert output.prompt.queue_ms == pytest.approx(3.0)
    assert output.prompt.prefill_ms == pytest.approx(5.0, abs=0.1)


def test_a_pass_cannot_be_opened_twice_or_committed_twice():
    from radixroute.radix.keys.scope import Scope
    from radixroute.worker.engine.cache import PrefixCache
    from radixroute.worker.engine.scheduler import Scheduler
    from radixroute.worker.engine.step import SchedulerLimits

    limits = SchedulerLimits(64, 4, 16, 8, 0, "youngest", frozenset())
    scheduler = Scheduler(PrefixCache(8, 4, Scope("m", 4)), limits)
    scheduler.submit(request("a", [1, 2], max_tokens=4), 0)
    assert scheduler.schedule(0) is not None
    with pytest.raises(BrokenInvariant):
        scheduler.schedule(0)
    with pytest.raises(BrokenInvariant):
        scheduler.commit(StepResult(()), 0)
    with pytest.raises(BrokenInvariant):
        scheduler.commit(StepResult((1,)), 0)


def test_a_full_queue_refuses_and_takes_again_later():
    from radixroute.request.errors import InvalidRequest

    engine, _ = make_engine(max_waiting=2)
    for name in "ab":
        engine.submit(request(name, [1], max_tokens=1), 0)
    with pytest.raises(InvalidRequest, match="queue is full"):
        engine.submit(request("c", [1], max_tokens=1), 0)
    engine.step(0)
    engine.submit(request("c", [1], max_tokens=1), 0)
    assert engine.scheduler_counters.refused == 1


def test_a_preempted_request_comes_before_those_that_never_ran():
    engine, _ = make_engine(FakeRunner(n_blocks=12), max_num_batched_tokens=16, watermark=0.0)
    engine.submit(request("old", [1] * 12, max_tokens=24, ignore_eos=True), 0)
    engine.submit(request("young", [2] * 12, max_tokens=24, ignore_eos=True), 0)
    engine.step(0)
    engine.step(1)
    engine.submit(request("last", [3] * 40, max_tokens=1), 0)
    ends = []
    for now in range(2, 500):
        step = engine.step(now)
        if step is None:
            break
        ends += [output.request_id for output in step.outputs if output.finish]
    assert engine.scheduler_counters.preemptions >= 1
    assert ends == ["old", "young", "last"]


def test_what_was_used_last_is_evicted_last():
    engine, _ = make_engine(FakeRunner(n_blocks=12), watermark=0.0)
    now = 0

    def run(name, prompt):
        nonlocal now
        engine.submit(request(f"{name}{now}", prompt, max_tokens=1), now)
        while (step := engine.step(now)) is not None:
            now += 1_000_000
            report = step.outputs[0].prompt
        return report.cached_tokens

    first, second = [1] * 17, [2] * 17
    run("first", first)
    run("second", second)
    assert run("first", first) == 16
    run("third", [3] * 17)  # needs room for one block more than is free
    assert run("first", first) == 16
    assert run("second", second) < 16
