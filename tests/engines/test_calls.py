"""Calls and vitals: load that is always that of the calls, and which engine is dead."""

import random

import numpy as np
import pytest

from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions import health
from radixroute.worker.companions.calls import Calls
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    EngineNumbers,
    Heard,
    RankNumbers,
)
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.measures.counters import CompanionCounters
from radixroute.worker.companions.refusals import finish_already, refusal_of
from radixroute.worker.engine.engine import EngineInfo, EngineRequest

SEED = 7
S = 1_000_000_000


def request(number=0, session="s", n_prompt=10, emitted=(), **sampling):
    return EngineRequest(
        request_id=f"{session}.{number}",
        attempt=1,
        session_id=session,
        prompt=np.arange(n_prompt, dtype=np.uint32),
        sampling=SamplingParams(**{"max_tokens": 20, **sampling}),
        emitted=np.array(emitted, np.uint32),
        dispatch_seq=number,
    )


def test_load_is_that_of_the_calls_whatever_happens():
    print("seed", SEED)
    rng = random.Random(SEED)
    calls, number = Calls(4), 0
    for now in range(3000):
        running = list(calls)
        match rng.randrange(5):
            case 0:
                number += 1
                one = request(number, rng.choice("xyz"), rng.randrange(1, 60), range(number % 3))
                calls.acknowledge(one)
                calls.begin(one, uncached_tokens=rng.randrange(1, 60), now_ns=now)
            case 1 | 2 if running:
                heard = Heard(tuple(range(rng.randrange(1, 4))))
                output = calls.hear(rng.choice(running), heard, now)
                assert output is not None
                assert output.finish is None
            case 3 if running:
                call = rng.choice(running)
                output = calls.hear(call, Heard((1,), FinishReason.STOP), now)
                assert output is not None
                assert output.position == call.n_output - 1
                assert calls.hear(call, Heard((1,)), now) is None
            case 4 if running and rng.random() < 0.3:
                call = rng.choice(running)
                if rng.random() < 0.5:
                    assert calls.cancel(call).finish is FinishReason.ABORT
                else:
                    calls.forget_session(call.request.session_id)
        calls.check()
    for session in "xyz":
        calls.forget_session(session)
    assert not list(calls)
    assert calls.progress() == ()


def report(emitted, cached):
    calls = Calls(4)
    call = calls.begin(request(emitted=emitted), uncached_tokens=5, now_ns=0)
    output = calls.hear(call, Heard((1,), FinishReason.LENGTH, cached_tokens=cached), 2_000_000)
    assert output is not None
    return output.prompt


@pytest.mark.parametrize(
    ("emitted", "cached", "told", "recomputed"),
    [((), 8, 8, 0), (range(6), 0, 0, 6), (range(6), 8, 8, 6), (range(6), 12, 10, 4)],
)
def test_of_what_was_resumed_the_report_counts_the_prompts_part(emitted, cached, told, recomputed):
    prompt = report(emitted, cached)
    assert (prompt.prompt_tokens, prompt.cached_tokens) == (10, told)
    assert (prompt.recomputed_tokens, prompt.event_seq) == (recomputed, None)
    assert prompt.prefill_ms == 2.0


def test_an_engine_that_tells_nothing_has_no_report():
    assert report((), None) is None


def info(**changes):
    facts = {"model": "m", "block_size": 4, "max_model_len": 40, "vocab_size": 97}
    facts |= {"eos_token_ids": (0,), "model_fingerprint": "", "dtype": "", "device": ""}
    facts |= {"kv_blocks_total": 9, "max_num_seqs": 0, "max_num_batched_tokens": 0}
    return EngineInfo(**{**facts, "resent_is_prompt": True, **changes})


def test_what_is_refused_before_it_is_sent():
    def refused(one, **changes):
        return refusal_of(one, info(**changes), is_running=False).partition(":")[0]

    assert refused(request()) == ""
    assert refused(request(n_prompt=21)) == "max_tokens"
    penal = {"presence_penalty": 0.1}
    assert refused(request(emitted=(1,), **penal)).startswith("presence_penalty")
    assert refused(request(**penal)) == refused(request(emitted=(1,))) == ""
    assert refused(request(emitted=(1,), **penal), resent_is_prompt=False) == ""
    assert refusal_of(request(), info(), is_running=True).startswith("request_id")


@pytest.mark.parametrize(
    ("emitted", "sampling", "finish"),
    [
        ((), {}, None),
        ((3, 4), {}, None),
        ((3, 0), {}, FinishReason.STOP),
        ((3, 0), {"ignore_eos": True}, None),
        ((3, 0), {"min_tokens": 2}, None),
        ((3, 4), {"stop_token_ids": (4,)}, FinishReason.STOP),
        ((3, 4), {"max_tokens": 2}, FinishReason.LENGTH),
        ((3, 0), {"max_tokens": 2}, FinishReason.STOP),
    ],
)
def test_a_resume_that_is_over_already(emitted, sampling, finish):
    assert finish_already(request(emitted=emitted, **sampling), (0,)) is finish


@pytest.mark.parametrize(
    ("n_tokens", "apart_ns", "told"),
    [(20, 5_000_000, (1, 0)), (20, 10_000, (1, 1)), (7, 10_000, (0, 0))],
)
def test_an_answer_whose_tokens_come_at_once_is_told_from_one_that_is_streamed(
    n_tokens, apart_ns, told
):
    calls = Calls(4)
    call = calls.begin(request(emitted=range(9)), uncached_tokens=10, now_ns=0)
    for at in range(n_tokens):
        finish = FinishReason.LENGTH if at == n_tokens - 1 else None
        calls.hear(call, Heard((1,), finish), S + at * apart_ns)
    assert (calls.long_answers, calls.lumps) == told


def test_looks_are_counted_by_what_an_engine_has_that_nobody_sent():
    counters = CompanionCounters()
    for n_calls, rank in [
        (4, RankNumbers(running=4, waiting=2)),  # some have ended since
        (4, RankNumbers(running=6, waiting=1, kv_usage=0.9)),
        (0, RankNumbers(running=2)),
        (0, RankNumbers(running=1)),
    ]:
        counters.looked(n_calls, EngineNumbers((rank,)))
    counters.looked(0, EngineNumbers())
    found = (counters.told_looks, counters.crowded_looks, counters.queued_looks)
    assert found == (4, 2, 1)
    assert counters.most_running == 6


def test_one_failed_look_is_no_death_and_two_are():
    vitals = Vitals(5 * S)
    assert vitals.looked(Answer(0)) == ""
    assert vitals.looked(Answer(200)) == ""
    assert [vitals.looked(Answer(0)), vitals.looked(Answer(0))] == ["", health.GONE]
    other = Vitals(5 * S)
    assert [other.looked(Answer(503)), other.looked(Answer(503))] == ["", health.UNWELL]


def told(*steps: int, started_s: float | None = None) -> EngineNumbers:
    """Steps of its ranks."""
    return EngineNumbers(tuple(RankNumbers(steps=one) for one in steps), started_s)


def test_another_start_or_a_count_that_went_back_is_another_life():
    for later in (told(9, started_s=2.0), told(3, started_s=1.0)):
        vitals = Vitals(5 * S)
        first = told(7, started_s=1.0)
        assert vitals.counted(first, 0, busy=()) == ""
        assert vitals.counted(first, 1, busy=()) == ""
        assert vitals.counted(later, 2, busy=()) == health.ANOTHER_LIFE


def test_only_an_engine_with_work_that_makes_no_step_is_stuck():
    vitals = Vitals(5 * S)
    still = told(7)
    vitals.counted(still, 0, busy=(0,))
    assert vitals.counted(still, 4 * S, busy=(0,)) == ""
    assert vitals.counted(told(8), 6 * S, busy=(0,)) == ""
    vitals.moved(10 * S)  # an output
    assert vitals.counted(told(8), 14 * S, busy=(0,)) == ""
    assert vitals.counted(told(8), 16 * S, busy=(0,)) == health.STUCK
    assert vitals.counted(told(8), 99 * S, busy=()) == ""
    assert vitals.counted(EngineNumbers(), 200 * S, busy=(0,)) == ""  # it does not count


def test_a_rank_with_work_that_stands_still_is_not_hidden_by_the_others():
    vitals = Vitals(5 * S)
    assert vitals.counted(told(7, 3), 0, busy=(0, 1)) == ""
    assert vitals.counted(told(8, 3), 4 * S, busy=(0, 1)) == ""
    assert vitals.counted(told(9, 4), 6 * S, busy=(0, 1)) == ""
    assert vitals.counted(told(19, 4), 10 * S, busy=(0,)) == ""
    assert vitals.counted(told(29, 4), 14 * S, busy=(0, 1)) == ""
    assert vitals.counted(told(39, 4), 16 * S, busy=(0, 1)) == health.STUCK


def test_who_waits_for_an_engine_that_stands_still_is_added_up_though_each_leaves():
    vitals = Vitals(30 * S)
    for at in (0, 20, 40):
        vitals.busy(at * S)
        vitals.counted(told(7), (at + 1) * S, busy=(0,))  # the first look is a first number
        vitals.rests((at + 6) * S)
    assert vitals.still_ns(60 * S) == 17 * S
    vitals.busy(60 * S)
    assert vitals.still_ns(62 * S) == 19 * S
    vitals.counted(told(8), 63 * S, busy=(0,))
    assert vitals.still_ns(64 * S) == 1 * S
    vitals.moved(70 * S)  # an output
    vitals.rests(70 * S)
    assert vitals.still_ns(99 * S) == 0


def test_errors_of_an_engine_are_counted_by_status_and_in_a_row():
    counters = CompanionCounters()
    for status in (503, 503, 404, 799):
        counters.heard(Heard(finish=FinishReason.ERROR, status=status))
    assert dict(counters.statuses) == {"503": 2, "404": 1, "other": 1}
    assert counters.errors_in_a_row == 3
    counters.heard(Heard(finish=FinishReason.STOP))
    assert counters.errors_in_a_row == 0
