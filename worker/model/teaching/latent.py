"""Latent attention (MLA, as in DeepSeek-V2): one small vector a token is kept, and no K or V.

K and V of a token are two matrices times one latent vector c of a few hundred numbers. Since

    q . (W_k c) = (W_k^T q) . c      and      sum of shares * (W_v c) = W_v (sum of shares * c)

the matrices can be applied to the query and to the result instead: K and V are never made,
attention reads the latents themselves, as one head that all query heads share. Positions cannot go
through W_k, so a second small key carries them, kept beside the latent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.worker.model.teaching.attention import attend, rotate
from radixroute.worker.model.teaching.planes import Cache, Plane
from radixroute.worker.model.teaching.work import Work


@dataclass(frozen=True, slots=True)
class LatentHeads:
    """Sizes of latent attention in one layer."""

    n_heads: int
    head_dim: int
    rank: int  # numbers of the latent
    rotary_dim: int  # of the key that carries positions

    @property
    def planes(self) -> tuple[Plane, ...]:
        return (Plane(1, self.rank + self.rotary_dim),)


@dataclass(frozen=True, slots=True)
class LatentWeights:
    """Weights of one layer."""

    query: Tensor  # (n_heads * (head_dim + rotary_dim), hidden)
    down: Tensor  # (rank + rotary_dim, hidden)
    key_up: Tensor  # (n_heads, head_dim, rank)
    value_up: Tensor  # (n_heads, head_dim, rank)
    output: Tensor  # (hidden, n_heads * head_dim)


class LatentAttentionLayer:
    """One layer of latent attention. The same call as `AttentionLayer`."""

    def __init__(
        self,
        heads: LatentHeads,
        weights: LatentWeights,
        work: Work,
        rotary: tuple[Tensor, Tensor],
    ) -> None:
        self.heads, self.work = heads, work
        self._weights, self._rotary = weights, rotary

    @property
    def planes(self) -> tuple[Plane, ...]:
        return self.heads.planes

    @property
    def weight_elements(self) -> int:
        w = self._weights
        return sum(m.numel() for m in (w.query, w.down, w.key_up, w.value_up, w.output))

    def __call__(self, x: Tensor, cache: Cache) -> Tensor:
        """New tokens (n, hidden) -> (n, hidden); the cache holds those before them."""
        heads, w, n, start = self.heads, self._weights, len(x), cache.length
        q = (x @ w.query.T).view(n, heads.n_heads, -1)
        row = (x @ w.down.T).view(n, 1, -1)
        latent, key = row[..., : heads.rank], row[..., heads.rank :]
        key = rotate(key, self._rotary, start)
        (rows,) = cache.extend(torch.cat((latent, key), dim=-1))
        # W_k goes to the query: (n, heads, rank), beside its own rotated part.
        plain, turned = q[..., : heads.head_dim], q[..., heads.head_dim :]
        asked = torch.einsum("nhd,hdr->nhr", plain, w.key_up)
        asked = torch.cat((asked, rotate(turned, self._rotary, start)), dim=-1)
        scale = (heads.head_dim + heads.rotary_dim) ** -0.5
        mixed = attend(asked, rows, rows[..., : heads.rank], scale=scale)
        out = torch.einsum("nhr,hdr->nhd", mixed, w.value_up).reshape(n, -1)
        self._count(n, len(rows), x.element_size())
        return out @ w.output.T

    def _count(self, n: int, context: int, itemsize: int) -> None:
        heads = self.heads
        self.work.matrix(n, self.weight_elements, itemsize)
        width = heads.rank + heads.rotary_dim
        self.work.attention(n * context * heads.n_heads, width, heads.rank)
