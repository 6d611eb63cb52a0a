"""Rope: rotary positions as a model's configuration says them.

Owns `Rope` and how it is read; kinds it cannot compute are refused by name. No torch. Called by the
families' readers; `rotary.py` makes the table.
"""

import math
from dataclasses import dataclass

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields

# The rotary divisors that a GGUF file carries, in the folders our conversion writes.
GGUF_ROPE = "gguf_divisors"


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's stretch of the rotary frequencies; lengths in tokens."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN: slow rotations are stretched by `factor`, fast ones kept, between them a ramp."""

    factor: float
    beta_fast: float  # rotations within `original_max_position`: as many are fast
    beta_slow: float  # as few are slow
    truncate: bool  # whether the ramp's ends are whole frequencies
    original_max_position: int  # tokens
    amplitude: float  # of cos and sin
    mscale_all_dim: float | None  # of DeepSeek's attention, which is sharpened by it

    @property
    def sharpness(self) -> float:
        """By which DeepSeek multiplies the products of queries and keys."""
        return _mscale(self.factor, self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions over `width` features of a head."""

    width: int
    theta: float
    scaling: RopeScaling | Yarn | None = None
    divisors: tuple[float, ...] = ()  # one for each rotary frequency; (): none


def read_rope(fields: Fields, width: int, *, theta: float = 10000.0) -> Rope:
    """Settings beside the sizes, or, in newer folders, in a record of their own.

    `theta`: the family's, where a configuration names none.
    """
    rope = fields.record("rope_parameters")
    for record in (fields, rope):
        record.must_be("partial_rotary_factor", 1.0, default=1.0)
    scaling = fields.record("rope_scaling") if fields.get("rope_scaling") else rope
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    theta = fields.positive("rope_theta", default=theta)
    return Rope(
        width=width,
        theta=rope.positive("rope_theta", default=theta),
        scaling=_scaling(scaling, kind),
        divisors=_divisors(scaling, kind, width // 2),
    )


def _scaling(scaling: Fields, kind: object) -> RopeScaling | Yarn | None:
    if kind == "llama3":
        return _llama3(scaling)
    return _yarn(scaling) if kind == "yarn" else None


def _yarn(scaling: Fields) -> Yarn:
    def given(name: str) -> float | None:
        return scaling.positive(name) if scaling.get(name) else None

    factor, all_dim = scaling.positive("factor"), given("mscale_all_dim")
    amplitude, mscale = given("attention_factor"), given("mscale")
    if amplitude is None:
        both = mscale is not None and all_dim is not None
        amplitude = _mscale(factor, mscale if both else 1.0)
        amplitude /= _mscale(factor, all_dim) if both else 1.0
    fast, slow = given("beta_fast") or 32.0, given("beta_slow") or 1.0
    if slow >= fast:
        raise scaling.refusal("beta_slow", f"below beta_fast, {fast:g}")
    return Yarn(
        factor=factor,
        beta_fast=fast,
        beta_slow=slow,
        truncate=scaling.switch("truncate", default=True),
        original_max_position=scaling.count("original_max_position_embeddings"),
        amplitude=amplitude,
        mscale_all_dim=all_dim,
    )


def _mscale(factor: float, mscale: float | None) -> float:
    return 1.0 if factor <= 1 else 0.1 * (mscale or 1.0) * math.log(factor) + 1.0


def _llama3(scaling: Fields) -> RopeScaling:
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    if low >= high:
        raise scaling.refusal("low_freq_factor", f"below high_freq_factor, {high:g}")
    return RopeScaling(
        factor=scaling.positive("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position=scaling.count("original_max_position_embeddings"),
    )


def _divisors(scaling: Fields, kind: object, n: int) -> tuple[float, ...]:
    if kind in ("default", "llama3", "yarn"):
        return ()
    if kind == "linear":
        return (scaling.positive("factor"),) * n
    if kind != GGUF_ROPE:
        raise ModelError(
            f"rope scaling {kind!r} is not supported: use default, linear, llama3 or yarn"
        )
    given = scaling.get("divisors")
    if not isinstance(given, list) or len(given) != n:
        raise scaling.refusal("divisors", f"a list of {n} numbers")
    if not all(isinstance(one, float) and 0 < one < float("inf") for one in given):
        raise scaling.refusal("divisors", "of numbers above 0")
    return tuple(given)
