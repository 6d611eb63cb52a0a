"""Gated feed-forward: silu(gate) * up, then down.

Owns three matrices, gate and up fused: of a layer, or of one expert. Called by the decoder.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.layers.linear import Linear, read_linear

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True)
class GatedMlp:
    """A layer's feed-forward part."""

    gate_up: Linear  # 2 * intermediate rows: gate, then up
    down: Linear

    @classmethod
    def read(
        cls,
        weights: "Weights",
        prefix: str,
        hidden: int,
        intermediate: int,
        *,
        bias: bool = False,
        names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    ) -> "GatedMlp":
        gate, up, down = (f"{prefix}.{name}" for name in names)
        rows = {gate: intermediate, up: intermediate}
        return cls(
            read_linear(weights, rows, hidden, bias=bias),
            read_linear(weights, {down: hidden}, intermediate, bias=bias),
        )

    def __call__(self, ops: "Ops", x: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, hidden)."""
        return ops.linear(ops.swiglu(ops.linear(x, self.gate_up)), self.down)
