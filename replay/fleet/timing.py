"""Timing of an engine's step: models behind one form that the fleet's kernel computes.

    prefill ms = a2 t^2 + a1 t + a0 + a_pair r + a_each q
                                 t > 0: prompt tokens computed in the step, of q prompts;
                                 r: for each of them the tokens that it reads, itself the last
    decode ms  = max(d_min, d2 p^2 + d1 p + d0 + d_each n)
                                 n > 0: requests that decode, p: their context / all KV tokens
    step ms    = every + prefill ms + decode ms

Pure values. What a step of both saves over two is `every`: weights are read once. The kernel
computes it in `decode_fast_forward.step_ns`. A first token has the time at which its step ends
(`scheduler`); TTFT is that less the arrival, and `Conditions.client_ms` more.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.shape import FleetShape


@dataclass(frozen=True, slots=True)
class Timing:
    """One timing model; times in milliseconds."""

    name: str
    a2: float = 0.0
    a1: float = 0.0
    a0: float = 0.0
    d2: float = 0.0
    d1: float = 0.0
    d0: float = 0.0
    d_each: float = 0.0
    d_min: float = 0.0
    kv_tokens: int = 0  # that "all KV tokens" means; 0: those of the worker
    every: float = 0.0
    a_pair: float = 0.0
    a_each: float = 0.0

    def coefficients(self, shape: FleetShape) -> Floats:
        """Shape (TIMING_LEN,), for workers of this shape."""
        row = np.zeros(at.TIMING_LEN)
        row[at.A2], row[at.A1], row[at.A0] = self.a2, self.a1, self.a0
        row[at.D2], row[at.D1], row[at.D0] = self.d2, self.d1, self.d0
        row[at.D_EACH], row[at.D_MIN] = self.d_each, self.d_min
        row[at.D_TOTAL] = self.kv_tokens or shape.kv_blocks * shape.block_size
        row[at.SLOWNESS] = 1.0
        row[at.EVERY], row[at.A_PAIR], row[at.A_EACH] = self.every, self.a_pair, self.a_each
        return row

    def decode_ms(self, decoding: float, context_tokens: float) -> float:
        """Of a step in which so many requests decode, with so much context together."""
        p = context_tokens / self.kv_tokens if self.kv_tokens else 0.0
        decode_ms = (self.d2 * p + self.d1) * p + self.d0 + self.d_each * decoding
        return self.every + max(self.d_min, decode_ms)

    def prefill_ms(self, tokens: float, cached: float = 0.0) -> float:
        """Of a step that computes only so many tokens of one prompt, behind those cached."""
        if tokens <= 0:
            return 0.0
        own_ms = (self.a2 * tokens + self.a1) * tokens + self.a0
        return self.every + own_ms + self.a_pair * pairs_of(tokens, cached) + self.a_each


def pairs_of(tokens: float, before: float) -> float:
    """Tokens read by so many of one prompt, behind so many: each reads those before, and itself."""
    return tokens * before + tokens * (tokens + 1) / 2


# Dynamo's mocker (`polynomial`), fitted by NVIDIA to one of its GPUs.
POLYNOMIAL = Timing(
    "polynomial",
    a2=4.209989e-07,
    a1=1.518344e-02,
    a0=16.50142,
    d2=-25.74,
    d1=54.01,
    d0=5.74,
    d_min=1.0,
)
# The same machine as straight lines: what a rough guess would be.
LINEAR = Timing("linear", a1=1.9e-02, a0=12.0, d0=5.74, d1=40.0, d_min=1.0)
TIMINGS = {timing.name: timing for timing in (POLYNOMIAL, LINEAR)}
CALIBRATED = "calibrated"  # of one's own engine: `calibration`


def timing_named(name: str) -> Timing:
    try:
        return TIMINGS[name]
    except KeyError:
        known = ", ".join([*sorted(TIMINGS), CALIBRATED])
        raise InvalidShape(f"unknown timing {name!r}: use one of {known}") from None
