"""Gated feed-forward: silu(gate) * up, then down.

Owns three matrices of one layer, gate and up fused. Called by the decoder.
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
    """One layer's feed-forward part."""

    gate_up: Linear  # 2 * intermediate rows: gate, then up
    down: Linear

    @classmethod
    def read(
        cls, weights: "Weights", prefix: str, hidden: int, intermediate: int, *, bias: bool = False
    ) -> "GatedMlp":
        gate_up = {f"{prefix}.gate_proj": intermediate, f"{prefix}.up_proj": intermediate}
        down = {f"{prefix}.down_proj": hidden}
        return cls(
            read_linear(weights, gate_up, hidden, bias=bias),
            read_linear(weights, down, intermediate, bias=bias),
        )

    def __call__(self, ops: "Ops", x: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, hidden)."""
        return ops.linear(ops.swiglu(ops.linear(x, self.gate_up)), self.down)
