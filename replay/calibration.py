"""Calibration: the simulator's timing model fitted to steps that were measured, and its file.

Pure. Least squares of relative errors, so that short steps count as much as long ones; what is off
by more than most counts less (Huber's weights, by reweighting), since other work on the machine
only ever makes a step longer. A coefficient that would be negative is left out: a step never gets
shorter by doing more. The form is `timing`'s; a prompt alone takes its prefill, a step that decodes
the time between two tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.errors import BadCalibration
from radixroute.replay.fleet.timing import CALIBRATED, Timing

SCHEMA, VERSION = "radixroute.calibration", 1
_USUAL_ERROR = 0.1  # relative: what is off by more counts less
_ROUNDS = 20  # of reweighting; it settles within ten


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """One prompt, alone on its worker."""

    tokens: int  # computed, not from cache
    ms: float  # sent to first token, as its client saw it


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """Some steps of one worker that only decoded."""

    decoding: int  # requests in each step
    context_tokens: float  # of all of them together, mean over the steps
    ms: float  # mean time between two tokens of a request


@dataclass(frozen=True, slots=True)
class BesideRow:
    """One prompt on a worker on which others decode. Nothing is fitted to it: it is the check."""

    tokens: int
    decoding: int
    context_tokens: float  # of those that decode
    ms: float  # sent to first token


@dataclass(frozen=True, slots=True)
class Rows:
    """What was measured."""

    kv_tokens: int  # that a worker's pool holds
    prefill: tuple[PrefillRow, ...]
    decode: tuple[DecodeRow, ...]
    beside: tuple[BesideRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Residuals:
    """Relative errors of the fitted times: 0.1 is 10 %."""

    rows: int
    mean: float  # of their absolute values
    most: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A timing model, and how well it says what was measured."""

    timing: Timing
    prefill: Residuals
    decode: Residuals
    beside: Residuals | None  # of prompts beside decoding; None: not measured


@dataclass(frozen=True, slots=True)
class _File:
    schema: str
    version: int
    rows: Rows


def fit(rows: Rows) -> Calibration:
    """Raises `BadCalibration` for too few rows, and for times that are none."""
    if len({row.tokens for row in rows.prefill}) < 2 or not rows.decode or rows.kv_tokens < 1:
        raise BadCalibration(
            "to fit a timing takes prompts of two lengths or more, alone on their workers, and"
            " requests that decode: measure again while the cluster has nothing else to do"
        )
    tokens = np.array([row.tokens for row in rows.prefill], np.float64)
    prefill_ms = np.array([row.ms for row in rows.prefill])
    a2, a1, a0 = _least_squares([tokens**2, tokens, np.ones_like(tokens)], prefill_ms)
    decoding = np.array([row.decoding for row in rows.decode], np.float64)
    share = np.array([row.context_tokens for row in rows.decode]) / rows.kv_tokens
    decode_ms = np.array([row.ms for row in rows.decode])
    d1, d0, d_each = _least_squares([share, np.ones_like(share), decoding], decode_ms)
    timing = Timing(
        CALIBRATED, a2=a2, a1=a1, a0=a0, d1=d1, d0=d0, d_each=d_each, kv_tokens=rows.kv_tokens
    )
    predicted = np.array(
        [timing.decode_ms(row.decoding, row.context_tokens) for row in rows.decode]
    )
    return Calibration(
        timing,
        _residuals(np.array([timing.prefill_ms(n) for n in tokens.tolist()]), prefill_ms),
        _residuals(predicted, decode_ms),
        _beside(timing, rows.beside) if rows.beside else None,
    )


def calibration_json(rows: Rows) -> str:
    """What was measured, and for people what was fitted to it."""
    record = {
        "schema": SCHEMA,
        "version": VERSION,
        "rows": asdict(rows),
        "fitted": asdict(fit(rows)),
    }
    return json.dumps(record, indent=1) + "\n"


def read_calibration(data: bytes) -> Calibration:
    """Fits the rows of a file again: they are the truth in it. Raises `BadCalibration`."""
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadCalibration(f"it is no calibration: {error}") from error
    if (found.schema, found.version) != (SCHEMA, VERSION):
        raise BadCalibration(f"its schema must be {SCHEMA}, version {VERSION}")
    return fit(found.rows)


def _beside(timing: Timing, rows: Sequence[BesideRow]) -> Residuals:
    """A step that decodes is running and half done in the mean; the prompt's own decodes, too."""
    predicted = []
    for row in rows:
        decode_ms = timing.decode_ms(row.decoding, row.context_tokens)
        predicted.append(1.5 * decode_ms + timing.prefill_ms(row.tokens))
    return _residuals(np.array(predicted), np.array([row.ms for row in rows]))


def _least_squares(columns: Sequence[Floats], ms: Floats) -> tuple[float, ...]:
    """Coefficients, none negative, of least squared relative error: columns of shape (rows,)."""
    if not (np.isfinite(ms).all() and (ms > 0).all()):
        raise BadCalibration("a step that took no time cannot have been measured")
    matrix = np.stack(columns, 1) / ms[:, None]
    weights = np.ones(len(ms))
    for _ in range(_ROUNDS):
        found = _not_negative(matrix * weights[:, None], weights)
        errors = np.abs(matrix @ found - 1.0)
        weights = np.sqrt(1.0 / np.maximum(1.0, errors / _USUAL_ERROR))
    return tuple(found.tolist())


def _not_negative(matrix: Floats, wanted: Floats) -> Floats:
    """`matrix` of shape (rows, coefficients) times the result is nearest to `wanted`."""
    found = np.zeros(matrix.shape[1])
    left = list(range(matrix.shape[1]))
    while left:
        # Columns of equal size: token counts squared beside ones would lose half the digits.
        size = np.abs(matrix[:, left]).max(0)
        size[size == 0.0] = 1.0
        solved = np.linalg.lstsq(matrix[:, left] / size, wanted, rcond=None)[0]
        if (solved >= 0.0).all():
            found[left] = solved / size
            break
        left.pop(int(np.argmin(solved)))
    return found


def _residuals(predicted: Floats, measured: Floats) -> Residuals:
    errors = np.abs(predicted / measured - 1.0)
    return Residuals(len(errors), float(errors.mean()), float(errors.max()))
