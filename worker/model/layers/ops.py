"""Ops: the arithmetic of a model between attention calls, as torch's own kernels do it.

Owns no state. The one door: layers and families call these and no function of torch, so another
`Ops` changes how every model is computed. Rows are tokens, and each function gives a row from its
own row alone; whether *bitwise* is for the `Ops` to say (this one: no, kernels differ by shape).
"""

import torch
from torch import Tensor
from torch.nn import functional

from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.rope import Rope
from radixroute.worker.model.layers.rotary import rotary_table


class Ops:
    """The fast arithmetic. Shapes: n rows of a step."""

    def embed(self, token_ids: Tensor, table: Tensor) -> Tensor:
        """(n,) -> (n, width): rows of `table`, copied."""
        return functional.embedding(token_ids, table)

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        """(n, in) -> (n, out)."""
        return functional.linear(x, linear.weight, linear.bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Over the last dimension."""
        return functional.rms_norm(x, weight.shape, weight, eps)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """(n, 2 * width) -> (n, width): silu(gate) * up."""
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate).mul_(up)

    def rotary_table(self, rope: Rope, max_position: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin by position, each (max_position, 1, width / 2), in the dtype of `like`."""
        return rotary_table(rope, max_position, like)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary embedding; halves, not pairs, rotate together (the Hugging Face layout)."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
