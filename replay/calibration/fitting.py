"""A timing and a way out of what was measured, and how well they say it. Pure.

A step's time is a sum (`timing`): what every step takes, so much a prompt token, a token that one
of these reads, a prompt, a request that decodes and a token of its context. The sum is fitted to
the steps of an engine, or to times of clients, in which a prompt is its chunks, one after the
other, and the way there and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from radixroute.replay.calibration.least_squares import least_squares
from radixroute.replay.calibration.rows import BesideRow, Rows, StepRow, WayRow, chunks_of
from radixroute.replay.errors import BadCalibration
from radixroute.replay.fleet.timing import CALIBRATED, Timing
from radixroute.replay.scenario import Conditions

LEAST_STEPS = 5  # of each kind, for a fit to steps

# A step's terms: steps, prompt tokens, pairs, prompts, requests that decode, their context.
_Terms = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Way:
    """What a request's first token takes beside steps, in milliseconds; `Conditions` has both."""

    dispatch_ms: float = 0.0  # from its router until a step could begin with it
    client_ms: float = 0.0  # from its client to the router, and from that step's end back

    def onto(self, conditions: Conditions) -> Conditions:
        """With these times where nothing else was asked for."""
        return replace(
            conditions,
            dispatch_ms=conditions.dispatch_ms or self.dispatch_ms,
            client_ms=conditions.client_ms or self.client_ms,
        )


@dataclass(frozen=True, slots=True)
class Residuals:
    """Relative errors of the fitted times: 0.1 is 10 %."""

    rows: int
    mean: float  # of their absolute values
    most: float
    bias: float  # all fitted times together beside all that were measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """A timing model, what lies beside it, and how well they say what was measured."""

    timing: Timing
    prefill: Residuals
    decode: Residuals
    beside: Residuals | None  # of prompts beside decoding; None: not measured
    way: Way = Way()


def fit(rows: Rows) -> Calibration:
    """Raises `BadCalibration` for too few rows, and for times that are none."""
    if rows.kv_tokens < 1:
        raise BadCalibration(f"a worker's pool holds some tokens, not {rows.kv_tokens}")
    return _fit_steps(rows) if rows.steps else _fit_clients(rows)


def step_residuals(timing: Timing, steps: Sequence[StepRow]) -> dict[str, Residuals]:
    """By kind of step: prefill, decode, beside (prompts beside requests that decode)."""
    found = {}
    for kind, chosen in _by_kind(steps).items():
        if chosen:
            predicted = [_step_ms(timing, _terms(step)) for step in chosen]
            found[kind] = _residuals(predicted, [step.ms for step in chosen])
    return found


# -- steps of an engine


def _by_kind(steps: Sequence[StepRow]) -> dict[str, list[StepRow]]:
    found: dict[str, list[StepRow]] = {"prefill": [], "decode": [], "beside": []}
    for step in steps:
        kind = "beside" if step.decoding and step.prompts else "prefill"
        found[kind if step.prompts else "decode"].append(step)
    return found


def _fit_steps(rows: Rows) -> Calibration:
    kinds = _by_kind(rows.steps)
    for kind, what in (
        ("prefill", "prompts while nothing decodes"),
        ("decode", "requests that only decode"),
        ("beside", "prompts that come while others decode"),
    ):
        if len(kinds[kind]) < LEAST_STEPS:
            raise BadCalibration(
                f"{len(kinds[kind])} steps of {what} were measured and a fit takes {LEAST_STEPS}:"
                " send more of these"
            )
    if len({step.prefill_tokens for step in kinds["prefill"]}) < 2:
        raise BadCalibration("all prompts computed as many tokens: send some of other lengths")
    terms = np.array([_terms(step) for step in rows.steps])
    timing = _timing(rows, least_squares([*terms.T], np.array([step.ms for step in rows.steps])))
    found = step_residuals(timing, rows.steps)
    return Calibration(
        timing, found["prefill"], found["decode"], found["beside"], _median_way(rows.way)
    )


def _terms(step: StepRow) -> _Terms:
    prompts = (step.prefill_tokens, step.pairs, step.prompts)
    return (1.0, *prompts, step.decoding, step.context_tokens)


def _median_way(way: Sequence[WayRow]) -> Way:
    if not way:
        return Way()
    return Way(
        max(0.0, float(np.median([row.to_engine_ms for row in way]))),
        max(0.0, float(np.median([row.to_client_ms for row in way]))),
    )


# -- what clients saw


def _fit_clients(rows: Rows) -> Calibration:
    if len({row.tokens for row in rows.prefill}) < 2 or not rows.decode:
        raise BadCalibration(
            "to fit a timing takes prompts of two lengths or more, alone on their workers, and"
            " requests that decode: measure again while the cluster has nothing else to do"
        )
    alone = [_prompt_terms(row.tokens, row.cached, rows) for row in rows.prefill]
    decoding = [_decode_terms(row.decoding, row.context_tokens) for row in rows.decode]
    terms = np.array([*alone, *decoding])
    on_way = np.array([1.0] * len(alone) + [0.0] * len(decoding))
    prefill_ms = [row.ms for row in rows.prefill]
    decode_ms = [row.ms for row in rows.decode]
    columns = [*terms.T]
    if max(one[0] for one in alone) > 1.0:
        # Who took several steps tells the way, once each, from what every prompt's step takes.
        columns.append(on_way)
    *found, way_ms = [*least_squares(columns, np.array([*prefill_ms, *decode_ms])), 0.0][:7]
    timing = _timing(rows, found)
    # Of what lies behind the router, half each way: from outside nobody can tell.
    client_ms = min(way_ms, float(np.median([row.client_ms for row in rows.prefill])))
    dispatch_ms = (way_ms - client_ms) / 2
    return Calibration(
        timing,
        _residuals([_step_ms(timing, one) + way_ms for one in alone], prefill_ms),
        _residuals([_step_ms(timing, one) for one in decoding], decode_ms),
        _beside(timing, way_ms, rows) if rows.beside else None,
        Way(dispatch_ms, way_ms - dispatch_ms),
    )


def _prompt_terms(tokens: int, cached: int, rows: Rows) -> _Terms:
    """Of all steps of a prompt alone."""
    chunks = chunks_of(tokens, cached, rows.chunk_tokens)
    pairs = sum(pairs for _, pairs in chunks)
    return (len(chunks), tokens, pairs, len(chunks), 0.0, 0.0)


def _decode_terms(decoding: int, context_tokens: float) -> _Terms:
    return (1.0, 0.0, 0.0, 0.0, decoding, context_tokens)


def _beside(timing: Timing, way_ms: float, rows: Rows) -> Residuals:
    """A step that decodes is running and half done in the mean; the prompt's own decode, too."""

    def predicted_ms(row: BesideRow) -> float:
        own = _prompt_terms(row.tokens, 0, rows)
        decoding = (own[0] * row.decoding, own[0] * row.context_tokens)
        waited_ms = 0.5 * timing.decode_ms(row.decoding, row.context_tokens)
        return way_ms + waited_ms + _step_ms(timing, (*own[:4], *decoding))

    return _residuals([predicted_ms(row) for row in rows.beside], [row.ms for row in rows.beside])


# -- both


def _timing(rows: Rows, found: Sequence[float]) -> Timing:
    every, a1, a_pair, a_each, d_each, d_token = found
    return Timing(
        CALIBRATED,
        a1=a1,
        d1=d_token * rows.kv_tokens,
        d_each=d_each,
        kv_tokens=rows.kv_tokens,
        every=every,
        a_pair=a_pair,
        a_each=a_each,
    )


def _step_ms(timing: Timing, terms: _Terms) -> float:
    """Of all steps that the terms are of."""
    steps, tokens, pairs, prompts, decoding, context_tokens = terms
    prefill_ms = timing.a1 * tokens + timing.a_pair * pairs + timing.a_each * prompts
    decode_ms = timing.d_each * decoding + timing.d1 * context_tokens / timing.kv_tokens
    return timing.every * steps + prefill_ms + decode_ms


def _residuals(predicted: Sequence[float], measured: Sequence[float]) -> Residuals:
    fitted, seen = np.array(predicted), np.array(measured)
    errors = np.abs(fitted / seen - 1.0)
    bias = float(fitted.sum() / seen.sum() - 1.0)
    return Residuals(len(errors), float(errors.mean()), float(errors.max()), bias)
