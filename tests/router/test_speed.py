"""Speed: learned from steps, sane before the first, and stable under noise."""

import random

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.speed import PRIOR_MS_PER_PREFILL_TOKEN, Speed, SpeedBook, SpeedMeter

A = WorkerId("a")


def test_without_steps_the_prior_stands():
    assert SpeedBook().speed(A) == Speed()


@pytest.mark.parametrize("truth", [Speed(0.05, 5.0, 0.2), Speed(2.0, 30.0, 3.0)])
def test_a_meter_finds_the_workers_true_speed_under_noise(truth):
    rng, meter = random.Random(1), SpeedMeter()
    for _ in range(400):
        decode = rng.randint(1, 16)
        prefill = rng.choice([0, 0, 0, rng.randint(1, 512)])
        exact = truth.step_ms(decode) + truth.ms_per_prefill_token * prefill
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
    assert meter.speed.ms_per_prefill_token > 0.8


def test_estimates_never_go_below_zero():
    meter = SpeedMeter()
    for decode in range(1, 40):
        meter.observe(step_ms=40.0 / decode, prefill_tokens=0, decode_tokens=decode)
        meter.observe(step_ms=0.001, prefill_tokens=100, decode_tokens=decode)
    speed = meter.speed
    assert speed.ms_per_prefill_token > 0
    assert speed.step_base_ms >= 0
    assert speed.ms_per_decode >= 0


def test_empty_steps_teach_nothing():
    meter = SpeedMeter()
    meter.observe(step_ms=0.0, prefill_tokens=10, decode_tokens=0)
    meter.observe(step_ms=5.0, prefill_tokens=0, decode_tokens=0)
    assert meter.speed == Speed()


def test_an_unknown_worker_is_thought_to_be_like_the_others():
    book = SpeedBook()
    for _ in range(50):
        book.observe(A, step_ms=100.0, prefill_tokens=1000, decode_tokens=0)
    assert book.speed(WorkerId("new")) == book.speed(A)


def test_answers_are_expected_to_be_as_long_as_the_last_ones():
    book = SpeedBook()
    for _ in range(300):
        book.answered(10)
    assert book.expected_output(256) == pytest.approx(10, abs=1)
    assert book.expected_output(4) == 4
