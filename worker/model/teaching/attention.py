"""Attention of one layer: what Q, K and V are, and how a token looks at those before it.

Each token asks with its query q, is found by its key k and, found, gives its value v. The score of
a pair is q . k; softmax makes the scores of one query into shares of 1; the answer is the mix of
the values by these shares. A token sees itself and what came before it. Only q of the *new* tokens
is needed, but k and v of *all*: that is why a cache holds K and V, and no Q.

With fewer heads of K and V than of Q (grouped or multi query) query heads share one K and V.
Pure but for the cache that the caller gives.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from radixroute.worker.model.teaching.planes import Cache, Plane
from radixroute.worker.model.teaching.work import Work


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of attention in one layer."""

    n_heads: int
    n_kv_heads: int  # n_heads: MHA; fewer: GQA; 1: MQA
    head_dim: int
    window: int | None = None  # a token sees itself and the window - 1 tokens before it; None: all

    @property
    def planes(self) -> tuple[Plane, ...]:
        """K and V of one token."""
        plane = Plane(self.n_kv_heads, self.head_dim)
        return plane, plane


class AttentionLayer:
    """One attention layer. Weights of shape (out, in); `q_k_v`: rows of q, then of k, then of v."""

    def __init__(
        self,
        heads: Heads,
        q_k_v: Tensor,
        output: Tensor,
        work: Work,
        rotary: tuple[Tensor, Tensor] | None = None,  # of `rotary_table`; None: no positions here
    ) -> None:
        self.heads, self.work = heads, work
        self._q_k_v, self._output, self._rotary = q_k_v, output, rotary

    @property
    def planes(self) -> tuple[Plane, ...]:
        return self.heads.planes

    @property
    def weight_elements(self) -> int:
        return self._q_k_v.numel() + self._output.numel()

    def windowed(self, window: int | None) -> "AttentionLayer":
        """The same weights, seeing no further back than `window` tokens."""
        heads = replace(self.heads, window=window)
        return AttentionLayer(heads, self._q_k_v, self._output, self.work, self._rotary)

    def __call__(self, x: Tensor, cache: Cache) -> Tensor:
        """New tokens (n, hidden) -> (n, hidden); the cache holds those before them."""
        heads, n, start = self.heads, len(x), cache.length
        # 1. Project: three matrices in one. Work grows with the new tokens alone.
        rows = (x @ self._q_k_v.T).view(n, -1, heads.head_dim)
        q, k, v = rows.tensor_split((heads.n_heads, heads.n_heads + heads.n_kv_heads), dim=1)
        if self._rotary is not None:
            q, k = (rotate(y, self._rotary, start) for y in (q, k))
        # 2. Remember K and V of the new tokens, and get those of the whole context.
        keys, values = cache.extend(k, v)
        # 3. Look. Work grows with new tokens times context.
        mixed = attend(q, keys, values, window=heads.window)
        self.work.matrix(n, self._q_k_v.numel(), x.element_size())
        self.work.attention(n * len(keys) * heads.n_heads, heads.head_dim, heads.head_dim)
        self.work.matrix(n, self._output.numel(), x.element_size())
        return mixed.reshape(n, -1) @ self._output.T


def attend(
    q: Tensor, keys: Tensor, values: Tensor, *, window: int | None = None, scale: float = 0.0
) -> Tensor:
    """Queries of the last n of t positions: (n, heads, d), (t, kv_heads, d), (t, kv_heads, e) ->
    (n, heads, e). `scale` of the scores; 0: 1 / sqrt(d)."""
    n, n_heads, d = q.shape
    t, n_kv_heads, _ = keys.shape
    # Query heads of one group stand side by side, in front of the K and V they share.
    grouped = q.reshape(n, n_kv_heads, n_heads // n_kv_heads, d)
    by_head = grouped.permute(1, 2, 0, 3).reshape(n_kv_heads, -1, d)  # (kv_heads, group * n, d)
    scores = torch.bmm(by_head, keys.permute(1, 2, 0)) * (scale or d**-0.5)
    if n > 1 or (window is not None and t > window):
        hidden = _hidden(n, t, window)
        scores.view(-1, n, t).masked_fill_(hidden, float("-inf"))  # softmax makes this 0
    mixed = torch.bmm(scores.softmax(dim=-1), values.transpose(0, 1))
    return mixed.view(n_kv_heads, -1, n, values.shape[-1]).permute(2, 0, 1, 3).flatten(1, 2)


def _hidden(n: int, t: int, window: int | None) -> Tensor:
    """(n, t): what a query may not see: what comes later, and what left the window."""
    query, key = torch.arange(t - n, t)[:, None], torch.arange(t)[None]
    hidden = key > query
    return hidden if window is None else hidden | (key <= query - window)


def rotate(x: Tensor, table: tuple[Tensor, Tensor], start: int) -> Tensor:
    """Rotary positions of tokens start, start + 1, ...: (n, heads, d) -> the same shape."""
    cos, sin = (part[start : start + len(x)] for part in table)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotary_table(max_tokens: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin by position, each (max_tokens, 1, width / 2)."""
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(max_tokens, dtype=torch.float32), frequencies)[:, None]
    return angles.cos(), angles.sin()
