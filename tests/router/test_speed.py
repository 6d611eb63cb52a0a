"""Speed: learned from steps, sane before the first, and stable under noise."""

import random

import numpy as np
import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.speed import PRIOR_MS_PER_PREFILL_TOKEN, Speed, SpeedBook, SpeedMeter

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def new_book() -> SpeedBook:
    columns = WorkerColumns()
    book = SpeedBook(columns)
    for worker_id in (A, B, C):
        columns.give(worker_id)
    return book


def test_without_steps_the_prior_stands():
    assert new_book().speed(A) == Speed()


@pytest.mark.parametrize("truth", [Speed(4.0, 0.05, 5.0, 0.2), Speed(30.0, 2.0, 30.0, 3.0)])
def test_a_meter_finds_the_workers_true_speed_under_noise(truth):
    rng, meter = random.Random(1), SpeedMeter()
    for _ in range(400):
        decode = rng.randint(1, 16)
        prefill = rng.choice([0, 0, 0, rng.randint(1, 512)])
        exact = truth.step_ms(decode)
        if prefill:
            exact += truth.prefill_base_ms + truth.ms_per_prefill_token * prefill
        meter.observe(
            step_ms=exact * rng.uniform(0.95, 1.05), prefill_tokens=prefill, decode_tokens=decode
        )
    assert meter.speed.ms_per_prefill_token == pytest.approx(truth.ms_per_prefill_token, rel=0.15)
    assert meter.speed.step_ms(8) == pytest.approx(truth.step_ms(8), rel=0.1)


def test_one_long_prompt_is_enough_to_leave_the_prior():
    meter = SpeedMeter()
    meter.observe(step_ms=10 + 1024 * 0.01, prefill_tokens=1024, decode_tokens=0)
    assert meter.speed.ms_per_prefill_token < PRIOR_MS_PER_PREFILL_TOKEN / 5


def test_a_worker_that_slows_down_is_believed_soon():
    meter = SpeedMeter()
    for _ in range(50):
        meter.observe(step_ms=10 + 51.2, prefill_tokens=512, decode_tokens=0)
    for _ in range(20):
        meter.observe(step_ms=10 + 512, prefill_tokens=512, decode_tokens=0)
    assert meter.speed.prefill_base_ms + 512 * meter.speed.ms_per_prefill_token > 0.75 * 522


def test_estimates_never_go_below_zero():
    meter = SpeedMeter()
    for decode in range(1, 40):
        meter.observe(step_ms=40.0 / decode, prefill_tokens=0, decode_tokens=decode)
        meter.observe(step_ms=0.001, prefill_tokens=100, decode_tokens=decode)
    speed = meter.speed
    assert speed.ms_per_prefill_token > 0
    assert speed.step_base_ms >= 0
    assert speed.ms_per_decode >= 0


def test_chunks_of_one_size_still_cost_by_the_token():
    meter = SpeedMeter()
    for _ in range(2000):
        meter.observe(step_ms=100.0, prefill_tokens=512, decode_tokens=0)
    assert 0.15 < meter.speed.ms_per_prefill_token < 100 / 512


def test_empty_steps_teach_nothing():
    meter = SpeedMeter()
    meter.observe(step_ms=0.0, prefill_tokens=10, decode_tokens=0)
    meter.observe(step_ms=5.0, prefill_tokens=0, decode_tokens=0)
    assert meter.speed == Speed()


def test_an_unknown_worker_is_thought_to_be_like_the_others():
    book = new_book()
    for _ in range(50):
        book.observe(A, step_ms=100.0, prefill_tokens=1000, decode_tokens=0, now_ns=1)
    assert book.speed(WorkerId("new")) == book.speed(A)


def test_columns_hold_what_each_meter_says_and_the_mean_for_the_others():
    columns, rng = WorkerColumns(), random.Random(4)
    book = SpeedBook(columns)
    listed: list[WorkerId] = []
    for n in range(300):
        if rng.random() < 0.1:
            listed.append(WorkerId(f"w{n}"))
            columns.give(listed[-1])
        elif listed and rng.random() < 0.1:
            gone = listed.pop(rng.randrange(len(listed)))
            book.forget(gone)
            columns.take_back(gone)
        elif listed:
            worker_id, step_ms = rng.choice(listed), rng.uniform(1, 200)
            prefill = 64 * (n % 2)
            book.observe(
                worker_id, step_ms=step_ms, prefill_tokens=prefill, decode_tokens=2, now_ns=n
            )
        taken = book.take(np.array([columns.of(w) for w in listed], np.intp))
        wanted = [book.speed(w) for w in listed]
        assert taken[:-1].T.ravel().tolist() == pytest.approx(
            [x for speed in wanted for x in speed]
        )
        book.check()
    assert columns.of(listed[-1]) < 30, "columns of workers that left are used again"


def test_answers_are_expected_to_be_as_long_as_the_last_ones():
    book = new_book()
    for _ in range(300):
        book.answered(10)
    assert book.expected_output(256) == pytest.approx(10, abs=1)
    assert book.expected_output(4) == 4
