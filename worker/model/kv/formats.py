"""KV formats: in which numbers the pool keeps keys and values, and the bytes of one.

Owns the table of formats; no torch. How a tensor becomes one of them and back is `rounding`.
Called by the plan, the pool and the settings.
"""

from dataclasses import dataclass

AUTO = "auto"  # the dtype that the model computes in


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How one number is kept. Sizes in bytes."""

    name: str
    value_bytes: int
    scale_bytes: int = 0  # of the one scale of a token and head; 0: unscaled

    def bytes_of(self, heads: int, width: int) -> int:
        """Of one token of one plane: `heads` rows of `width` numbers, each row with its scale."""
        return heads * (width * self.value_bytes + self.scale_bytes)


FLOAT32 = KVFormat("float32", 4)
FLOAT16 = KVFormat("float16", 2)
BFLOAT16 = KVFormat("bfloat16", 2)
INT8 = KVFormat("int8", 1, scale_bytes=4)
# Unscaled, as vLLM keeps it without calibration: its 4 bits of exponent reach from 2^-9 to 448.
FP8_E4M3 = KVFormat("fp8_e4m3", 1)

FORMATS = {one.name: one for one in (FLOAT32, FLOAT16, BFLOAT16, INT8, FP8_E4M3)}

_SHORT_NAMES = {"fp32": FLOAT32, "fp16": FLOAT16, "bf16": BFLOAT16, "fp8": FP8_E4M3}


def format_named(name: str) -> KVFormat | None:
    """By its name or its short one (`fp16`); None for one that nobody knows."""
    return FORMATS.get(name) or _SHORT_NAMES.get(name)
