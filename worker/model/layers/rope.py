"""Rope: rotary positions as a model's configuration says them.

Owns `Rope` and how it is read; kinds it cannot compute are refused by name. No torch. Called by the
families' readers; `rotary.py` makes the table.
"""

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
class Rope:
    """Rotary positions over `width` features of a head."""

    width: int
    theta: float
    scaling: RopeScaling | None = None
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
        scaling=_llama3(scaling) if kind == "llama3" else None,
        divisors=_divisors(scaling, kind, width // 2),
    )


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
    if kind in ("default", "llama3"):
        return ()
    if kind == "linear":
        return (scaling.positive("factor"),) * n
    if kind != GGUF_ROPE:
        raise ModelError(f"rope scaling {kind!r} is not supported: use default, linear or llama3")
    given = scaling.get("divisors")
    if not isinstance(given, list) or len(given) != n:
        raise scaling.refusal("divisors", f"a list of {n} numbers")
    if not all(isinstance(one, float) and 0 < one < float("inf") for one in given):
        raise scaling.refusal("divisors", "of numbers above 0")
    return tuple(given)
