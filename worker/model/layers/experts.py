"""Mixture of experts: a router sends each token to the few experts that suit it best.

Owns the router and the experts of one layer. A token's experts are added up in the order of their
numbers, so that what came of it does not depend on who else is in the step. Called by the decoder.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.mlp import GatedMlp

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Experts:
    """A layer's feed-forward part: routed experts, and those that see every token."""

    router: Linear  # (experts, hidden), float32: a rounded score may choose another expert
    experts: tuple[GatedMlp, ...]
    top_k: int  # experts of a token
    normalised: bool  # whether a token's shares add up to 1
    scale: float = 1.0  # of what the routed experts say together
    shared: GatedMlp | None = None

    def __call__(self, ops: "Ops", x: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, hidden)."""
        shares, chosen = ops.top_experts(
            ops.linear(x.float(), self.router), self.top_k, normalised=self.normalised
        )
        shares = (shares * self.scale).to(x.dtype)
        out = x.new_zeros(x.shape)
        for number in sorted({*chosen.flatten().tolist()}):
            rows, places = (chosen == number).nonzero().unbind(1)
            told = self.experts[number](ops, x[rows]) * shares[rows, places, None]
            out.index_add_(0, rows, told)
        return out if self.shared is None else out + self.shared(ops, x)


def read_router(weights: "Weights", name: str, n_experts: int, hidden: int) -> Linear:
    return Linear(weights.take(f"{name}.weight", (n_experts, hidden)).float())
