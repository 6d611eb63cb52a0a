"""Calibration: what a known engine took gives its timing back, and files say what was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from radixroute.replay.calibration.calibration_file import calibration_json, read_calibration
from radixroute.replay.calibration.fitting import LEAST_STEPS, Way, fit, step_residuals
from radixroute.replay.calibration.rows import (
    BesideRow,
    DecodeRow,
    PrefillRow,
    Rows,
    StepRow,
    WayRow,
    chunks_of,
)
from radixroute.replay.errors import BadCalibration
from radixroute.replay.fleet.layout import D_TOTAL
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing, pairs_of
from radixroute.replay.scenario import Conditions

KNOWN = Timing(
    "known", a1=0.4, d1=90.0, d_each=1.5, kv_tokens=8000, every=18.0, a_pair=3e-5, a_each=3.0
)
NAMES = ("every", "a1", "a_pair", "a_each", "d_each", "d1")
CHUNK = 200
WAY_MS = 5.0


def prompt_ms(timing, tokens, cached, chunk):
    """Step by step."""
    done, ms = 0, WAY_MS
    while done < tokens:
        n = min(chunk, tokens - done)
        ms += timing.prefill_ms(n, cached + done)
        done += n
    return ms


def ttft_ms(found, tokens):
    """As its client sees a prompt of one step; what is step and what is way noise may mix up."""
    return found.way.dispatch_ms + found.timing.prefill_ms(tokens) + found.way.client_ms


def rows_of(timing, noise=0.0, seed=0, chunk=CHUNK):
    rng = np.random.default_rng(seed)

    def about(ms):
        return float(ms * rng.uniform(1 - noise, 1 + noise))

    decode = [(n, n * context) for n in (1, 2, 4, 8) for context in (60, 300)]
    prompts = [(n, cached) for n in (16, 40, 100, 250, 900) for cached in (0, 96)]
    mixed = timing.decode_ms(4, 400) + timing.prefill_ms(100) - timing.every
    return Rows(
        timing.kv_tokens,
        tuple(PrefillRow(n, about(prompt_ms(timing, n, c, chunk)), c) for n, c in prompts),
        tuple(DecodeRow(n, c, about(timing.decode_ms(n, c))) for n, c in decode),
        (BesideRow(100, 4, 400, WAY_MS + 0.5 * timing.decode_ms(4, 400) + mixed),),
        chunk,
    )


def engine_rows(seed, noise=0.0):
    """Steps of a known engine: prompts alone, decoding, and both; whatever they are of."""
    rng = np.random.default_rng(seed)
    coefficients = {name: float(rng.uniform(0.3, 1.0)) for name in NAMES}
    scales = {"every": 30.0, "a_pair": 2e-3, "a_each": 20.0, "d_each": 8.0, "d1": 100.0, "a1": 3.0}
    timing = Timing(
        "drawn", kv_tokens=9000, **{name: coefficients[name] * scales[name] for name in NAMES}
    )
    steps = []
    for number in range(60):
        chunks = [
            (int(rng.integers(1, 500)), 16 * int(rng.integers(0, 60)))
            for _ in range(int(rng.integers(1, 4)) if number % 3 else 0)
        ]
        n_decoding = int(rng.integers(1, 9)) if number % 3 != 1 else 0
        contexts = rng.integers(20, 900, n_decoding).tolist()
        ms = timing.every + sum(
            timing.a1 * n + timing.a_each + timing.a_pair * sum(c + i + 1 for i in range(n))
            for n, c in chunks
        )
        ms += sum(timing.d_each + timing.d1 * context / 9000 for context in contexts)
        pairs = sum(int(pairs_of(n, c)) for n, c in chunks)
        tokens = sum(n for n, _ in chunks)
        ms *= rng.uniform(1 - noise, 1 + noise)
        steps.append(StepRow(tokens, len(chunks), pairs, len(contexts), sum(contexts), float(ms)))
    return timing, Rows(9000, steps=tuple(steps), way=(WayRow(3.0, 1.0), WayRow(4.0, 1.5)))


def test_a_known_engine_is_found_again():
    found = fit(rows_of(KNOWN))
    for name in NAMES:
        assert getattr(found.timing, name) == pytest.approx(getattr(KNOWN, name), rel=1e-6)
    assert found.way.dispatch_ms + found.way.client_ms == pytest.approx(WAY_MS)
    assert found.prefill.most < 1e-9
    assert found.decode.most < 1e-9
    assert found.beside is not None
    assert found.beside.most < 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_steps_of_a_known_engine_give_it_back(seed):
    timing, rows = engine_rows(seed)
    found = fit(rows)
    for name in NAMES:
        assert getattr(found.timing, name) == pytest.approx(getattr(timing, name), rel=1e-6)
    assert found.beside is not None
    assert found.beside.most < 1e-9
    assert found.way == Way(3.5, 1.25)  # as measured, never fitted


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_were_not_fitted_are_said_as_well(seed):
    timing, rows = engine_rows(seed, noise=0.1)
    exact = engine_rows(seed)[1]
    told = step_residuals(fit(rows).timing, exact.steps)
    assert set(told) == {"prefill", "decode", "beside"}
    assert all(one.mean < 0.06 for one in told.values())
    assert all(one.mean == pytest.approx(0.0, abs=1e-9) for one in
               step_residuals(timing, exact.steps).values())  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (lambda step: not (step.prompts and step.decoding), "come while others decode"),
        (lambda step: step.decoding, "prompts while nothing decodes"),
        (lambda step: step.prompts, "only decode"),
    ],
)
def test_a_kind_of_step_that_was_hardly_measured_is_asked_for(kept, says):
    rows = engine_rows(0)[1]
    few = tuple(step for step in rows.steps if kept(step))
    with pytest.raises(BadCalibration, match=rf"^0 steps of .*{says}.*send more") as told:
        fit(replace(rows, steps=few))
    assert f"takes {LEAST_STEPS}" in str(told.value)


def test_prompts_of_one_length_say_nothing_of_a_token():
    rows = engine_rows(0)[1]
    even = tuple(replace(s, prefill_tokens=7) if s.prompts else s for s in rows.steps)
    with pytest.raises(BadCalibration, match="other lengths"):
        fit(replace(rows, steps=even))


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_told_and_no_coefficient_is_negative(seed):
    flat = Timing("flat", a1=0.4, every=18.0, kv_tokens=8000)
    found = fit(rows_of(flat, noise=0.2, seed=seed))
    assert min(getattr(found.timing, name) for name in NAMES) >= 0
    assert found.way.dispatch_ms >= 0
    assert 0.01 < found.prefill.mean < 0.2
    assert found.prefill.rows == 10
    for n in (16, 200):
        assert ttft_ms(found, n) == pytest.approx(WAY_MS + flat.prefill_ms(n), rel=0.25)


def test_a_pass_that_something_else_held_up_hardly_counts():
    rows = rows_of(KNOWN, noise=0.02)
    slow = [replace(row, ms=row.ms * 4) for row in rows.prefill[2:4]]
    found = fit(replace(rows, prefill=(*slow, *rows.prefill[:2], *rows.prefill[4:])))
    for n in (16, 100, 200):
        assert ttft_ms(found, n) == pytest.approx(WAY_MS + KNOWN.prefill_ms(n), rel=0.08)
    assert found.prefill.most > 0.7  # and it is told


def test_a_prompt_that_takes_several_steps_reads_what_they_computed():
    assert chunks_of(450, 32, 200) == [
        (200, 200 * 32 + 200 * 201 / 2),
        (200, 200 * 232 + 200 * 201 / 2),
        (50, 50 * 432 + 50 * 51 / 2),
    ]
    assert chunks_of(450, 0, 0) == [(450, 450 * 451 / 2)]


def test_a_file_gives_the_same_timing_whatever_is_written_beside_the_rows():
    for rows in (rows_of(KNOWN, noise=0.1), engine_rows(1, noise=0.1)[1]):
        record = json.loads(calibration_json(rows))
        record["fitted"]["timing"]["a1"] = 1e9
        assert read_calibration(json.dumps(record).encode()) == fit(rows)


def test_a_file_from_before_chunks_is_read():
    """Its prompts were one step each, and it says nothing of their way."""
    rows = rows_of(KNOWN, chunk=10_000)
    record = json.loads(calibration_json(replace(rows, chunk_tokens=0)))
    record["version"] = 1
    for name in ("chunk_tokens", "steps", "way"):
        del record["rows"][name]
    for row in record["rows"]["prefill"]:
        del row["cached"]
    found = read_calibration(json.dumps(record).encode())
    assert found.way == Way()
    assert found.prefill.mean < 0.05


def test_what_was_measured_of_the_way_gives_way_to_what_is_asked_for():
    assert Way(3.0, 2.0).onto(Conditions()) == Conditions(dispatch_ms=3.0, client_ms=2.0)
    asked = Conditions(event_delay_ms=1.0, dispatch_ms=7.0)
    assert Way(3.0, 2.0).onto(asked) == replace(asked, client_ms=2.0)


def test_shares_are_of_the_pool_that_was_measured():
    big = FleetShape(workers=1, kv_blocks=4000, block_size=16)
    assert KNOWN.coefficients(big)[D_TOTAL] == 8000
    assert Timing("of the worker").coefficients(big)[D_TOTAL] == 64_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "it is no calibration"),
        (b"\xff", "it is no calibration"),
        (b'{"schema": "x"}', "it is no calibration"),
        (
            b'{"schema": "x", "version": 1, "rows": {"kv_tokens": 1, "prefill": [], "decode": []}}',
            "its schema must be",
        ),
        (calibration_json(rows_of(KNOWN)).replace('"version": 2', '"version": 3').encode(), "sche"),
    ],
)
def test_what_is_no_calibration_is_refused(data, reason):
    with pytest.raises(BadCalibration, match=reason):
        read_calibration(data)


def test_too_little_to_fit_is_refused():
    rows = rows_of(KNOWN)
    for less in (
        replace(rows, prefill=rows.prefill[:1]),
        replace(rows, decode=()),
        replace(rows, kv_tokens=0),
        replace(rows, prefill=(*rows.prefill, PrefillRow(5, 0.0))),
        replace(rows, prefill=(*rows.prefill, PrefillRow(5, float("nan")))),
    ):
        with pytest.raises(BadCalibration):
            fit(less)
