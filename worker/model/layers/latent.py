"""Latent attention (MLA): one row a token that all heads share, instead of K and V of each.

Owns the projections of one layer. The matrices that would make keys and values of a latent are
absorbed: queries go into the latent's space, what attention read comes out of it, and the cache
holds the latent and the rotary key alone. Called by the decoder.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.layers.linear import Linear, read_linear

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.attention.backend import AttentionBackend
    from radixroute.worker.model.layers.decoder import Rotary
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights

# Of the norms over latents: a constant in the models, whatever their other norms have.
_NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class LatentSizes:
    """Heads of one layer and widths in features."""

    hidden: int
    n_heads: int
    query_rank: int | None  # of the latent that queries come from; None: they come from the input
    rank: int  # of the latent that keys and values come from
    plain: int  # features of a key without positions
    rotary: int  # features of a key with positions, which all heads share
    value: int  # features of a value
    sharpness: float = 1.0  # of attention, beside the usual scale

    @property
    def query(self) -> int:
        return self.plain + self.rotary


@dataclass(frozen=True, slots=True)
class _Queries:
    """From the input, or through a latent of their own."""

    down: Linear | None
    norm: "Tensor | None"
    up: Linear

    def __call__(self, ops: "Ops", x: "Tensor") -> "Tensor":
        if self.down is not None:
            x = ops.rms_norm(ops.linear(x, self.down), self.norm, _NORM_EPS)
        return ops.linear(x, self.up)


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """One layer's attention."""

    sizes: LatentSizes
    queries: _Queries
    latent: Linear  # rank + rotary rows
    latent_norm: "Tensor"
    to_latent: "Tensor"  # (heads, plain, rank)
    to_value: "Tensor"  # (heads, rank, value)
    output: Linear

    @classmethod
    def read(
        cls, weights: "Weights", prefix: str, sizes: LatentSizes, *, bias: bool
    ) -> "LatentAttention":
        heads, rank = sizes.n_heads, sizes.rank
        latent = read_linear(
            weights, {f"{prefix}.kv_a_proj_with_mqa": rank + sizes.rotary}, sizes.hidden, bias=bias
        )
        rows = heads * (sizes.plain + sizes.value)
        both = weights.take(f"{prefix}.kv_b_proj.weight", (rows, rank)).view(heads, -1, rank)
        return cls(
            sizes=sizes,
            queries=_read_queries(weights, prefix, sizes, bias=bias),
            latent=_halved(latent, 1, rank, sizes.rotary),
            latent_norm=weights.take(f"{prefix}.kv_a_layernorm.weight", (rank,)),
            to_latent=both[:, : sizes.plain].contiguous(),
            to_value=both[:, sizes.plain :].transpose(1, 2).contiguous(),
            output=read_linear(
                weights, {f"{prefix}.o_proj": sizes.hidden}, heads * sizes.value, bias=bias
            ),
        )

    def __call__(
        self, ops: "Ops", layer: int, x: "Tensor", rotary: "Rotary", attention: "AttentionBackend"
    ) -> "Tensor":
        """(n, hidden) -> (n, hidden)."""
        sizes, n = self.sizes, len(x)
        row = ops.linear(x, self.latent).view(n, 1, -1)
        latent = ops.rms_norm(row[..., : sizes.rank], self.latent_norm, _NORM_EPS)
        attention.write(layer, ops.join(latent, ops.rotate(row[..., sizes.rank :], *rotary)))
        q = self.queries(ops, x).view(n, sizes.n_heads, sizes.query)
        plain, turned = q[..., : sizes.plain], ops.rotate(q[..., sizes.plain :], *rotary)
        query = ops.join(ops.per_head(plain, self.to_latent), turned)
        scale = sizes.query**-0.5 * sizes.sharpness
        attended = attention.read(layer, query, scale)
        return ops.linear(ops.per_head(attended, self.to_value).reshape(n, -1), self.output)


def _read_queries(weights: "Weights", prefix: str, sizes: LatentSizes, *, bias: bool) -> _Queries:
    rows = sizes.n_heads * sizes.query
    if sizes.query_rank is None:
        down = norm = None
        up = read_linear(weights, {f"{prefix}.q_proj": rows}, sizes.hidden)
    else:
        names = {f"{prefix}.q_a_proj": sizes.query_rank}
        down = read_linear(weights, names, sizes.hidden, bias=bias)
        norm = weights.take(f"{prefix}.q_a_layernorm.weight", (sizes.query_rank,))
        up = read_linear(weights, {f"{prefix}.q_b_proj": rows}, sizes.query_rank)
    return _Queries(down, norm, _halved(up, sizes.n_heads, sizes.plain, sizes.rotary))


def _halved(linear: Linear, heads: int, plain: int, rotary: int) -> Linear:
    """Rows of rotary features in halves, as `Ops.rotate` turns them; folders have pairs.

    Queries and keys are changed alike, so their products stay what they were.
    """
    order = list(range(plain + rotary))
    order[plain:] = [*order[plain::2], *order[plain + 1 :: 2]]

    def reordered(rows: "Tensor") -> "Tensor":
        by_head = rows.view(heads, plain + rotary, *rows.shape[1:])
        return by_head[:, order].reshape(rows.shape)

    return Linear(reordered(linear.weight), None if linear.bias is None else reordered(linear.bias))
