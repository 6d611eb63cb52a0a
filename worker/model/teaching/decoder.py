"""A whole decoder made of teaching layers: tokens in, logits of the last token out.

Two looks, as in the two families that most models descend from: `gpt2` (learned positions, GELU)
and `llama` (rotary positions, gated SiLU); biases are left out, scales of norms are kept. One
sequence a call. Owns its weights; what is remembered between calls is in the caches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from radixroute.worker.model.teaching.attention import AttentionLayer, Heads
from radixroute.worker.model.teaching.latent import LatentAttentionLayer, LatentHeads
from radixroute.worker.model.teaching.planes import Cache, Plane
from radixroute.worker.model.teaching.work import Work

ROTARY_THETA = 10000.0


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of a decoder. Lengths in tokens, widths in numbers."""

    look: Literal["gpt2", "llama"]
    n_layers: int
    hidden: int
    intermediate: int
    heads: Heads | LatentHeads
    vocab_size: int
    max_tokens: int
    rotary_theta: float = ROTARY_THETA
    norm_eps: float = 1e-5

    @property
    def planes(self) -> tuple[Plane, ...]:
        """What one layer keeps of one token."""
        return self.heads.planes

    def kv_bytes_per_token(self, itemsize: int) -> int:
        return self.n_layers * sum(p.heads * p.width for p in self.planes) * itemsize

    def windowed(self, window: int | None) -> "DecoderShape":
        """The same with a sliding window in every layer."""
        if isinstance(self.heads, LatentHeads):
            raise ValueError("latent attention has no window here")
        return replace(self, heads=replace(self.heads, window=window))


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer. `up` of a llama look: rows of the gate, then of what it gates."""

    attention: AttentionLayer | LatentAttentionLayer
    first_norm: Tensor
    second_norm: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class Ends:
    """What stands before the layers and behind them."""

    embedding: Tensor  # (vocab, hidden)
    norm: Tensor  # (hidden,)
    head: Tensor  # (vocab, hidden); may be the embedding itself
    positions: Tensor | None  # (max_tokens, hidden), learned; None: layers rotate


class Decoder:
    """A model for study. Deterministic for the same calls."""

    def __init__(
        self,
        shape: DecoderShape,
        layers: Sequence[DecoderLayer],
        ends: Ends,
        work: Work,
    ) -> None:
        self.shape, self.layers, self.work = shape, tuple(layers), work
        self._ends = ends

    @property
    def dtype(self) -> torch.dtype:
        return self._ends.head.dtype

    @property
    def weight_elements(self) -> int:
        """Numbers that a step multiplies with: all but norms and positions."""
        layers = sum(
            layer.attention.weight_elements + layer.up.numel() + layer.down.numel()
            for layer in self.layers
        )
        return layers + self._ends.head.numel()

    def windowed(self, window: int | None) -> "Decoder":
        """The same weights with a sliding window in every layer. Raises `ValueError` for MLA."""
        layers = []
        for layer in self.layers:
            if isinstance(layer.attention, LatentAttentionLayer):
                raise ValueError("latent attention has no window here")
            layers.append(replace(layer, attention=layer.attention.windowed(window)))
        shape = self.shape.windowed(window)
        return Decoder(shape, layers, self._ends, self.work)

    @torch.inference_mode()
    def last_logits(self, token_ids: Tensor, caches: Sequence[Cache]) -> Tensor:
        """Logits after the last of the new tokens, (vocab,), float32. One cache a layer."""
        return self._logits(self._hidden(token_ids, caches)[-1:])[0]

    @torch.inference_mode()
    def all_logits(self, token_ids: Tensor, caches: Sequence[Cache]) -> Tensor:
        """Logits after each new token, (n, vocab), float32."""
        return self._logits(self._hidden(token_ids, caches))

    def _hidden(self, token_ids: Tensor, caches: Sequence[Cache]) -> Tensor:
        start = caches[0].length
        x = functional.embedding(token_ids, self._ends.embedding)
        if self._ends.positions is not None:
            x = x + self._ends.positions[start : start + len(x)]
        for layer, cache in zip(self.layers, caches, strict=True):
            x = x + layer.attention(self._normed(x, layer.first_norm), cache)
            x = x + self._mlp(self._normed(x, layer.second_norm), layer)
        return x

    def _mlp(self, x: Tensor, layer: DecoderLayer) -> Tensor:
        wide = x @ layer.up.T
        if self.shape.look == "llama":
            gate, wide = wide.chunk(2, dim=-1)
            wide = functional.silu(gate) * wide
        else:
            wide = functional.gelu(wide, approximate="tanh")
        for matrix in (layer.up, layer.down):
            self.work.matrix(len(x), matrix.numel(), x.element_size())
        return wide @ layer.down.T

    def _logits(self, x: Tensor) -> Tensor:
        self.work.matrix(len(x), self._ends.head.numel(), x.element_size())
        return (self._normed(x, self._ends.norm) @ self._ends.head.T).float()

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        if self.shape.look == "llama":
            return functional.rms_norm(x, scale.shape, scale, self.shape.norm_eps)
        return functional.layer_norm(x, scale.shape, scale, None, self.shape.norm_eps)
