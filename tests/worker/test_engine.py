"""The engine over a fake model that reads its context through the paged pool."""

from typing import Any

import numpy as np
import pytest

from radixroute.events.wire.records import BlocksRemoved
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.worker.errors import BadSetting, EngineBroken
from tests.worker.fakes import (
    EOS,
    FakeRunner,
    Listener,
    alone,
    assert_at_rest,
    drain,
    ids,
    make_engine,
    request,
)

SHARED = list(range(1, 41))


def test_one_request_gets_the_tokens_of_the_model_and_one_finish():
    engine, _ = make_engine()
    sent = request("a", SHARED, max_tokens=12, ignore_eos=True)
    engine.submit(sent, 0)
    outputs, _ = drain(engine)
    assert ids(outputs["a"]) == alone(SHARED, sent.sampling)
    assert [output.position for output in outputs["a"]] == list(range(12))
    assert [output.finish for output in outputs["a"]] == [None] * 11 + [FinishReason.LENGTH]
    assert_at_rest(engine)


def test_a_second_prompt_with_the_same_prefix_computes_only_the_rest():
    engine, runner = make_engine()
    engine.submit(request("a", SHARED, max_tokens=1), 0)
    drain(engine)
    before = runner.n_computed
    engine.submit(request("b", [*SHARED, 90, 91], max_tokens=1), 0)
    outputs, _ = drain(engine)
    report = outputs["b"][0].prompt
    assert (report.prompt_tokens, report.cached_tokens, report.recomputed_tokens) == (42, 40, 0)
    assert runner.n_computed - before == 2


def test_at_least_one_token_of_a_fully_cached_prompt_is_computed():
    engine, _ = make_engine()
    outputs: dict[str, Any] = {}
    for name in ("a", "b"):
        engine.submit(request(name, SHARED, max_tokens=2, ignore_eos=True), 0)
        outputs |= drain(engine)[0]
    assert outputs["b"][0].prompt.cached_tokens == 36
    assert ids(outputs["a"]) == ids(outputs["b"])
    assert engine.cache_counters.deduplicated >= 1
    assert_at_rest(engine)


def test_requests_of_one_pass_share_a_cold_prefix():
    engine, _ = make_engine()
    for name in "abc":
        engine.submit(request(name, [*SHARED, ord(name)], max_tokens=3, ignore_eos=True), 0)
    outputs, steps = drain(engine)
    assert steps[0].prefill_tokens == 41 + 1 + 1
    assert [outputs[name][0].prompt.cached_tokens for name in "abc"] == [0, 40, 40]
    for name in "abc":
        assert ids(outputs[name]) == alone(
            [*SHARED, ord(name)], request("x", [1], max_tokens=3, ignore_eos=True).sampling
        )


def test_a_long_prompt_is_computed_in_chunks_while_others_decode():
    engine, _ = make_engine(max_num_batched_tokens=8)
    engine.submit(request("short", [1, 2, 3], max_tokens=20, ignore_eos=True), 0)
    engine.step(0)
    engine.submit(request("long", SHARED, max_tokens=2, ignore_eos=True), 0)
    outputs, steps = drain(engine)
    assert max(step.prefill_tokens + step.decode_tokens for step in steps) <= 8
    assert sum(step.prefill_tokens > 0 and step.decode_tokens > 0 for step in steps) >= 5
    assert ids(outputs["long"]) == alone(
        SHARED, request("x", [1], max_tokens=2, ignore_eos=True).sampling
    )


def test_a_prompt_that_is_being_computed_in_chunks_is_not_computed_by_the_next_request():
    engine, runner = make_engine(max_num_batched_tokens=16)
    for name in "ab":
        engine.submit(request(name, [*SHARED, ord(name)], max_tokens=1), 0)
    drain(engine)
    assert runner.n_computed == 41 + 1


def test_generated_blocks_are_cached_too():
    engine, _ = make_engine()
    engine.submit(request("a", SHARED, max_tokens=17, ignore_eos=True), 0)
    outputs, _ = drain(engine)
    turn = [*SHARED, *ids(outputs["a"]), 5, 6]
    engine.submit(request("b", turn, max_tokens=1), 0)
    outputs, _ = drain(engine)
    assert outputs["b"][0].prompt.cached_tokens == 56


def test_a_request_that_never_fits_is_refused_and_leaves_no_trace():
    engine, _ = make_engine(FakeRunner(n_blocks=8, max_model_len=4096), max_model_len=0)
    for refused in (
        request("empty", []),
        request("long", SHARED, max_tokens=8),
        request("endless", [1], max_tokens=4000),
    ):
        with pytest.raises(InvalidRequest):
            engine.submit(refused, 0)
    assert_at_rest(engine)


def test_the_same_attempt_twice_is_refused_but_the_next_attempt_is_not():
    engine, _ = make_engine()
    engine.submit(request("a", [1]), 0)
    with pytest.raises(InvalidRequest, match="running already"):
        engine.submit(request("a", [1]), 0)
    engine.submit(request("a", [1], attempt=2), 0)


def test_a_context_that_does_not_fit_the_pool_is_cut_or_refused():
    engine, _ = make_engine(FakeRunner(n_blocks=8, max_model_len=4096))
    assert engine.info.max_model_len == 32
    with pytest.raises(BadSetting, match="kv_memory"):
        make_engine(FakeRunner(n_blocks=8, max_model_len=4096), max_model_len=100)
    with pytest.raises(BadSetting, match="takes 50 tokens"):
        make_engine(FakeRunner(max_model_len=50), max_model_len=100)


def test_abort_frees_the_blocks_and_says_so_once():
    engine, _ = make_engine(max_num_batched_tokens=16)
    for name in "ab":
        engine.submit(request(name, [ord(name), *SHARED]), 0)
    engine.step(0)
    for name in ("a", "b", "a", "never"):
        engine.abort(name, 1)
        engine.check()
    outputs, _ = drain(engine)
    assert [o.finish for o in outputs["a"]] == [FinishReason.ABORT]
    assert [o.finish for o in outputs["b"]] == [FinishReason.ABORT]
    assert engine.scheduler_counters.unknown_aborts == 2
    assert_at_rest(engine)


def test_who_is_asked_for_and_not_there_ends_once_more_behind_what_it_had_to_say():
    engine, _ = make_engine()
    engine.submit(request("runs", [1, 2], ignore_eos=True), 0)
    # Complete as it comes: its end waits for the next step.
    engine.submit(request("done", [1, 2], emitted=[3, 4], max_tokens=2), 0)
    for name in ("runs", "done", "never"):
        engine.inquire("s", name, 1)
    engine.check()
    outputs, _ = drain(engine)
    assert [o.finish for o in outputs["done"]] == [FinishReason.LENGTH, FinishReason.ABORT]
    assert [o.finish for o in outputs["never"]] == [FinishReason.ABORT]
    assert [o.finish for o in outputs["runs"] if o.finish] == [FinishReason.LENGTH]
    assert engine.scheduler_counters.unknown_inquiries == 2
    assert_at_rest(engine)


def test_an_ended_session_loses_its_requests_and_no_other():
    engine, _ = make_engine()
    engine.submit(request("a", [1, 2], session_id="gone", dispatch_seq=7), 0)
    engine.submit(request("b", [1, 2], session_id="kept", dispatch_seq=9, ignore_eos=True), 0)
    step = engine.step(0)
    assert {p.session_id: p.acknowledged_dispatch for p in step.sessions} == {"gone": 7, "kept": 9}
    engine.end_session("gone")
    outputs, steps = drain(engine)
    assert outputs["a"][-1].finish is FinishReason.ABORT
    assert outputs["b"][-1].finish is FinishReason.LENGTH
    assert {p.session_id for p in steps[-1].sessions} == {"kept"}


def test_end_of_sequence_stops_unless_ignored_or_too_early():
    engine, _ = make_engine()
    prompt = next(p for p in ([i, i + 1] for i in range(9999)) if EOS in alone(p, _long())[:20])
    position = alone(prompt, _long()).index(EOS)
    engine.submit(request("stops", prompt, max_tokens=40), 0)
    engine.submit(request("goes-on", prompt, max_tokens=40, ignore_eos=True), 0)
    engine.submit(request("too-early", prompt, max_tokens=40, min_tokens=position + 2), 0)
    outputs, _ = drain(engine)
    assert len(ids(outputs["stops"])) == position + 1
    assert outputs["stops"][-1].finish is FinishReason.STOP
    assert len(ids(outputs["goes-on"])) == 40


def test_no_end_token_comes_before_min_tokens_others_did():
    """And then it is not reported in the middle of an answer that goes on."""
    engine, _ = make_engine()
    prompt = next(p for p in ([i, i + 1] for i in range(9999)) if EOS in alone(p, _long())[:20])
    free = alone(prompt, _long())
    at = free.index(EOS)
    stop = free[at - 1]
    for name, ends in (("eos", {}), ("stop", {"stop_token_ids": (stop,)})):
        engine.submit(request(name, prompt, max_tokens=40, min_tokens=at + 3, **ends), 0)
    ignoring = {"ignore_eos": True, "stop_token_ids": (stop,)}
    engine.submit(request("eos-is-no-end", prompt, max_tokens=40, min_tokens=at + 3, **ignoring), 0)
    engine.submit(request("as-many", prompt, max_tokens=at + 3, min_tokens=at + 3), 0)
    outputs, _ = drain(engine)
    for name in ("eos", "stop", "as-many"):
        assert EOS not in ids(outputs[name])[: at + 3]
        assert len(ids(outputs[name])) >= at + 3
        assert ids(outputs[name])[:at] == free[:at] or name == "stop"
    assert stop not in ids(outputs["stop"])[: at + 3]
    assert stop not in ids(outputs["eos-is-no-end"])[: at + 3]
    assert outputs["as-many"][-1].finish is FinishReason.LENGTH


def _long():
    return request("x", [1], max_tokens=40, ignore_eos=True).sampling


def test_a_resume_at_every_position_continues_the_same_output():
    whole = alone(SHARED, _long())
    for n_emitted in range(len(whole) + 1):
        engine, _ = make_engine()
        emitted = whole[:n_emitted]
        engine.submit(
            request("a", SHARED, emitted=emitted, attempt=2, max_tokens=40, ignore_eos=True), 0
        )
        outputs, _ = drain(engine)
        assert emitted + ids(outputs["a"]) == whole
        assert outputs["a"][0].position == n_emitted
        assert outputs["a"][-1].finish is FinishReason.LENGTH
        if n_emitted < len(whole):
            report = outputs["a"][0].prompt
            assert (report.prompt_tokens, report.recomputed_tokens) == (40, n_emitted)
        assert_at_rest(engine)


def test_a_resume_whose_last_token_ended_it_is_finished_without_work():
    engine, runner = make_engine()
    engine.submit(request("a", SHARED, emitted=[5, EOS], max_tokens=40), 0)
    outputs, _ = drain(engine)
    assert [(o.token_ids, o.position, o.finish) for o in outputs["a"]] == [
        ((), 2, FinishReason.STOP)
    ]
    assert runner.n_computed == 0


def test_too_little_memory_preempts_and_the_outputs_stay_the_same():
    engine, _ = make_engine(FakeRunner(n_blocks=14), watermark=0.0)
    listener = Listener()
    prompts = {name: [ord(name) % 90, *range(1, 12)] for name in "abcd"}
    for name, prompt in prompts.items():
        engine.submit(request(name, prompt, max_tokens=24, ignore_eos=True), 0)
    outputs, steps = drain(engine)
    assert engine.scheduler_counters.preemptions > 0
    assert engine.cache_counters.evicted > 0
    for step in steps:
        listener.hear(step.events)
    for name, prompt in prompts.items():
        assert ids(outputs[name]) == alone(
            prompt, request("x", [1], max_tokens=24, ignore_eos=True).sampling
        )
        assert sum(o.prompt is not None for o in outputs[name]) == 1
    assert listener.keys == engine.resident_keys()
    assert_at_rest(engine)


def test_a_failed_step_ends_its_requests_takes_its_blocks_back_and_the_engine_goes_on():
    engine, runner = make_engine(max_num_batched_tokens=64)
    listener = Listener()
    engine.submit(request("old", SHARED[:9], max_tokens=1), 0)
    _, steps = drain(engine)
    runner.fail_steps = {len(runner.plans)}
    for name in "abc":
        engine.submit(request(name, [*SHARED, ord(name)]), 0)
    outputs, failed = drain(engine)
    assert {o.finish for name in "abc" for o in outputs[name]} == {FinishReason.ERROR}
    assert "sending it again may work" in outputs["a"][0].error
    for step in (*steps, *failed):
        listener.hear(step.events)
    assert listener.keys == engine.resident_keys()
    assert len(listener.keys) == 2
    engine.submit(request("d", [*SHARED, 7], max_tokens=5, ignore_eos=True), 0)
    outputs, _ = drain(engine)
    assert ids(outputs["d"]) == alone(
        [*SHARED, 7], request("x", [1], max_tokens=5, ignore_eos=True).sampling
    )
    assert_at_rest(engine)


def test_a_request_without_numbers_ends_alone_and_its_blocks_are_not_cached():
    engine, runner = make_engine(max_num_batched_tokens=64)
    runner.bad_tokens = {90}
    listener = Listener()
    good, shared = [*SHARED[:9], 50], [*SHARED[:9], *[90] * 8]
    engine.submit(request("good", good, ignore_eos=True), 0)
    engine.submit(request("bad", shared, ignore_eos=True), 0)
    engine.submit(request("shares", [*shared, 5], ignore_eos=True), 0)
    outputs, steps = drain(engine)
    for name in ("bad", "shares"):
        (end,) = outputs[name]
        assert (end.finish, end.token_ids) == (FinishReason.ERROR, ())
        assert "NaN or infinity" in end.error
    sampling = request("x", [1], ignore_eos=True).sampling
    assert ids(outputs["good"]) == alone(good, sampling)
    for step in steps:
        listener.hear(step.events)
    assert listener.keys == engine.resident_keys()
    assert engine._cache.cached_tokens(np.array(shared, np.uint32)) == 8  # up to the first 90
    assert engine.scheduler_counters.failed == 2
    assert_at_rest(engine)


def test_whoever_shares_a_spoilt_block_is_computed_again_without_it():
    """One request sees the harm, another that holds the block does not: it gives way, no more."""
    engine, runner = make_engine(max_num_batched_tokens=64)
    listener, steps = Listener(), []
    for name, last in (("sees", 60), ("holds", 61)):
        engine.submit(request(name, [*SHARED[:16], last], ignore_eos=True), 0)
    steps.append(engine.step(0))
    spoilt = engine._scheduler._running[0].held.table[1]
    runner.unsound = {len(runner.plans): (0, spoilt)}
    outputs, rest = drain(engine)
    assert outputs["sees"][-1].finish is FinishReason.ERROR
    assert engine.scheduler_counters.preemptions == 1
    first = [o for o in steps[0].outputs if o.request_id == "holds"]
    sampling = request("x", [1], ignore_eos=True).sampling
    assert ids([*first, *outputs["holds"]]) == alone([*SHARED[:16], 61], sampling)
    gone = [event for step in rest for event in step.events if isinstance(event, BlocksRemoved)]
    assert [len(event.keys) for event in gone] == [3]  # the spoilt block and the two below it
    for step in (*steps, *rest):
        listener.hear(step.events)
    assert listener.keys == engine.resident_keys()
    assert_at_rest(engine)


def test_an_engine_that_computes_no_numbers_at_all_gives_up():
    engine, runner = make_engine()
    runner.bad_tokens = {1}
    for turn in range(2):
        engine.submit(request(str(turn), [1]), 0)
        assert engine.step(0).outputs[0].finish is FinishReason.ERROR
    engine.submit(request("sound", [2]), 0)
    drain(engine)  # a step of somebody else went well: it was the prompts
    for turn in range(2):
        engine.submit(request(str(turn), [1]), 0)
        assert engine.step(0).outputs[0].finish is FinishReason.ERROR
    engine.submit(request("last", [1]), 0)
    with pytest.raises(EngineBroken):
        engine.step(0)


def test_an_engine_whose_steps_keep_failing_gives_up():
    engine, runner = make_engine()
    runner.fail_steps = set(range(99))
    for turn in range(2):
        engine.submit(request(str(turn), [1]), 0)
        assert engine.step(0).outputs[0].finish is FinishReason.ERROR
    engine.submit(request("last", [1]), 0)
    with pytest.raises(EngineBroken):
        engine.step(0)


def test_load_counts_what_is_queued_and_what_is_pinned():
    engine, _ = make_engine(max_num_batched_tokens=16)
    for name in "ab":
        engine.submit(request(name, [ord(name), *SHARED]), 0)
    step = engine.step(0)
    (progress,) = step.sessions
    assert progress.in_flight == 2
    assert progress.queued_tokens == 41 - 16 + 41
    assert progress.active_blocks == 4
    _, steps = drain(engine)
    assert steps[-1].sessions[0].in_flight == 0
    assert steps[-1].sessions[0].active_blocks == 0


def test_the_plan_is_a_function_of_state_and_inputs():
    def run():
        engine, runner = make_engine(FakeRunner(n_blocks=16), max_num_batched_tokens=9)
        for index in range(6):
            engine.submit(request(str(index), [1, 2, 3, 4, 5, index + 1], max_tokens=9), 0)
        drain(engine)
        return [
            [(s.token_ids.tolist(), s.start, s.block_table.tolist()) for s in plan.slices]
            for plan in runner.plans
        ]

    assert run() == run()


def test_block_keys_are_those_of_the_scope():
    from radixroute.radix.keys.block_keys import block_keys
    from radixroute.radix.keys.scope import Scope

    engine, _ = make_engine(cluster_secret="hush")
    engine.submit(request("a", SHARED, max_tokens=1), 0)
    drain(engine)
    scope = Scope("fa4e", 4, "float32", cluster_secret=b"hush")
    tokens = np.array(SHARED, dtype=np.uint32)
    assert engine.resident_keys() == set(block_keys(tokens, 4, scope.seed).tolist())
