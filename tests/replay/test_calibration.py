"""Calibration: what a known engine took gives its timing back, and files say what was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from radixroute.replay.calibration import (
    BesideRow,
    DecodeRow,
    PrefillRow,
    Rows,
    calibration_json,
    fit,
    read_calibration,
)
from radixroute.replay.errors import BadCalibration
from radixroute.replay.fleet.layout import D_TOTAL
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing

KNOWN = Timing("known", a2=3e-5, a1=0.4, a0=21.0, d1=90.0, d0=18.0, d_each=1.5, kv_tokens=8000)


def rows_of(timing, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)

    def about(ms):
        return float(ms * rng.uniform(1 - noise, 1 + noise))

    decode = [(n, n * context) for n in (1, 2, 4, 8) for context in (60, 300)]
    return Rows(
        timing.kv_tokens,
        tuple(PrefillRow(n, about(timing.prefill_ms(n))) for n in (16, 40, 100, 250, 500) * 2),
        tuple(DecodeRow(n, c, about(timing.decode_ms(n, c))) for n, c in decode),
        (BesideRow(100, 4, 400, timing.prefill_ms(100) + 1.5 * timing.decode_ms(4, 400)),),
    )


def test_a_known_engine_is_found_again():
    found = fit(rows_of(KNOWN))
    for name in ("a2", "a1", "a0", "d1", "d0", "d_each"):
        assert getattr(found.timing, name) == pytest.approx(getattr(KNOWN, name), rel=1e-6)
    assert found.prefill.most < 1e-9
    assert found.decode.most < 1e-9
    assert found.beside is not None
    assert found.beside.most < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_told_and_no_coefficient_is_negative(seed):
    flat = Timing("flat", a1=0.4, a0=5.0, d0=18.0, kv_tokens=8000)
    found = fit(rows_of(flat, noise=0.2, seed=seed))
    t = found.timing
    assert min(t.a2, t.a1, t.a0, t.d1, t.d0, t.d_each) >= 0
    assert 0.01 < found.prefill.mean < 0.2
    assert found.prefill.rows == 10
    for n in (16, 500):
        assert t.prefill_ms(n) == pytest.approx(flat.prefill_ms(n), rel=0.25)


def test_a_pass_that_something_else_held_up_hardly_counts():
    rows = rows_of(KNOWN, noise=0.02)
    slow = [replace(row, ms=row.ms * 4) for row in rows.prefill[2:4]]
    found = fit(replace(rows, prefill=(*slow, *rows.prefill[:2], *rows.prefill[4:])))
    for n in (16, 100, 500):
        assert found.timing.prefill_ms(n) == pytest.approx(KNOWN.prefill_ms(n), rel=0.08)
    assert found.prefill.most > 0.7  # and it is told


def test_a_file_gives_the_same_timing_whatever_is_written_beside_the_rows():
    rows = rows_of(KNOWN, noise=0.1)
    text = calibration_json(rows)
    record = json.loads(text)
    record["fitted"]["timing"]["a1"] = 1e9
    assert read_calibration(json.dumps(record).encode()) == fit(rows)


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
        (calibration_json(rows_of(KNOWN)).replace('"version": 1', '"version": 2').encode(), "sche"),
    ],
)
def test_what_is_no_calibration_is_refused(data, reason):
    with pytest.raises(BadCalibration, match=reason):
        read_calibration(data)


def test_too_little_to_fit_is_refused():
    rows = rows_of(KNOWN)
    for less in (
        Rows(8000, rows.prefill[:1], rows.decode),
        Rows(8000, rows.prefill, ()),
        Rows(0, rows.prefill, rows.decode),
        Rows(8000, (*rows.prefill, PrefillRow(5, 0.0)), rows.decode),
        Rows(8000, (*rows.prefill, PrefillRow(5, float("nan"))), rows.decode),
    ):
        with pytest.raises(BadCalibration):
            fit(less)
