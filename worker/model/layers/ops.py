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

    def rms_norm(self, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        """Over the last dimension; without a weight: of 1 each."""
        return functional.rms_norm(x, x.shape[-1:], weight, eps)

    def add_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x += delta, in place, and then the RMSNorm of x: (n, width)."""
        x += delta
        return self.rms_norm(x, weight, eps)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Over the last dimension."""
        return functional.layer_norm(x, weight.shape, weight, bias, eps)

    def gelu(self, x: Tensor) -> Tensor:
        """By its tanh approximation, as GPT-2 has it."""
        return functional.gelu(x, approximate="tanh")

    def per_head(self, x: Tensor, matrices: Tensor) -> Tensor:
        """Each head by a matrix of its own: (n, heads, in), (heads, in, out) -> (n, heads, out)."""
        return torch.bmm(x.transpose(0, 1), matrices).transpose(0, 1)

    def top_experts(self, scores: Tensor, top_k: int, *, normalised: bool) -> tuple[Tensor, Tensor]:
        """(n, experts) -> shares and numbers of the best, each (n, top_k)."""
        shares, chosen = torch.softmax(scores, dim=-1).topk(top_k, dim=-1)
        return (shares / shares.sum(-1, keepdim=True) if normalised else shares), chosen

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Features of both, side by side."""
        return torch.cat((first, second), dim=-1)

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
