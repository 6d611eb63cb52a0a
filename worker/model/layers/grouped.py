"""Grouped-query attention: K and V for groups of heads, rotary positions, one cache row a token.

Owns the projections around one attention call and their sizes. MHA is a group of one head, MQA one
group of all. Called by the decoder.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.fields import Fields
from radixroute.worker.model.layers.linear import Linear, read_linear

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.attention.backend import AttentionBackend
    from radixroute.worker.model.layers.decoder import Rotary
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """Heads of one layer and the features of each."""

    hidden: int
    n_heads: int
    n_kv_heads: int
    head_dim: int


def read_head_sizes(fields: Fields, *, head_dim: int | None = None) -> HeadSizes:
    """`head_dim`: a family's own default, instead of an even share of the width."""
    n_heads, hidden = fields.count("num_attention_heads"), fields.count("hidden_size")
    n_kv_heads = fields.count("num_key_value_heads", default=n_heads)
    if n_heads % n_kv_heads:
        raise fields.refusal("num_key_value_heads", f"a divisor of the {n_heads} attention heads")
    if head_dim is None and fields.get("head_dim") is None and hidden % n_heads:
        raise fields.refusal("hidden_size", f"a multiple of the {n_heads} attention heads")
    width = fields.count("head_dim", default=head_dim or hidden // n_heads)
    if width % 2:
        raise fields.refusal("head_dim", "even, as rotary positions need it")
    return HeadSizes(hidden, n_heads, n_kv_heads, width)


@dataclass(frozen=True, slots=True)
class QkNorm:
    """RMSNorm over each head's queries and keys, before positions turn them."""

    weights: "Tensor"  # (heads + kv heads, head_dim): a row for each head of q, then of k
    eps: float

    @classmethod
    def read(cls, weights: "Weights", prefix: str, sizes: HeadSizes, eps: float) -> "QkNorm":
        shape = (sizes.head_dim,)
        q, k = (weights.take(f"{prefix}.{name}_norm.weight", shape) for name in "qk")
        rows = q.repeat(sizes.n_heads + sizes.n_kv_heads, 1)
        rows[sizes.n_heads :] = k
        return cls(rows, eps)

    def __call__(self, ops: "Ops", qk: "Tensor") -> "Tensor":
        """(n, heads + kv heads, head_dim) -> the same shape."""
        return ops.rms_norm(qk, None, self.eps) * self.weights


@dataclass(frozen=True, slots=True)
class GroupedAttention:
    """One layer's attention; projections that read the same input are fused."""

    sizes: HeadSizes
    qkv: Linear  # (heads + 2 kv heads) * head_dim rows: q, then k, then v
    output: Linear
    norm: QkNorm | None = None

    @classmethod
    def read(
        cls,
        weights: "Weights",
        prefix: str,
        sizes: HeadSizes,
        *,
        qkv_bias: bool = False,
        output_bias: bool = False,
        norm: QkNorm | None = None,
    ) -> "GroupedAttention":
        queries, keys = sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim
        rows = {f"{prefix}.q_proj": queries, f"{prefix}.k_proj": keys, f"{prefix}.v_proj": keys}
        qkv = read_linear(weights, rows, sizes.hidden, bias=qkv_bias)
        output = {f"{prefix}.o_proj": sizes.hidden}
        return cls(sizes, qkv, read_linear(weights, output, queries, bias=output_bias), norm)

    def __call__(
        self, ops: "Ops", layer: int, x: "Tensor", rotary: "Rotary", attention: "AttentionBackend"
    ) -> "Tensor":
        """(n, hidden) -> (n, hidden)."""
        heads, head_dim = self.sizes.n_heads, self.sizes.head_dim
        rotated = heads + self.sizes.n_kv_heads
        qkv = ops.linear(x, self.qkv).view(len(x), -1, head_dim)
        qk = qkv[:, :rotated]
        if self.norm is not None:
            qk = self.norm(ops, qk)
        qk = ops.rotate(qk, *rotary)
        attention.write(layer, qk[:, heads:], qkv[:, rotated:])
        attended = attention.read(layer, qk[:, :heads], head_dim**-0.5)
        return ops.linear(attended.view(len(x), -1), self.output)
