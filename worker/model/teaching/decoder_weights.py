"""Weights of a teaching decoder: random ones of any shape, or those of a Llama-family folder.

Random weights compute as long as real ones and mean nothing: good for time and memory, not for what
a model says. Reads files through `Weights`; the same seed gives the same numbers.
"""

from pathlib import Path

import torch
from torch import Tensor

from radixroute.worker.errors import ModelError
from radixroute.worker.model.config import ModelConfig, load_config
from radixroute.worker.model.teaching.attention import AttentionLayer, Heads, rotary_table
from radixroute.worker.model.teaching.decoder import Decoder, DecoderLayer, DecoderShape, Ends
from radixroute.worker.model.teaching.latent import (
    LatentAttentionLayer,
    LatentHeads,
    LatentWeights,
)
from radixroute.worker.model.teaching.work import Work
from radixroute.worker.model.weights import Weights

# Wide enough for a greedy answer to have clear winners; of time and memory it changes nothing.
SPREAD = 0.1


def random_decoder(
    shape: DecoderShape, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Decoder:
    """Random weights; the head is the embedding."""
    return _Drawn(shape, dtype, seed).decoder()


def read_decoder(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    max_tokens: int | None = None,
    window: int | None = None,
) -> Decoder:
    """A Llama-family folder as it stands. `max_tokens`: no longer than this.

    Raises `ModelError` for what these layers do not compute.
    """
    config = load_config(folder)
    if config.rope_scaling is not None or config.rope_divisors:
        raise ModelError(f"{folder}: the lab's decoder has no scaled rotary positions")
    if config.qkv_bias or config.output_bias or config.mlp_bias:
        raise ModelError(f"{folder}: the lab's decoder has no biases")
    heads = Heads(config.n_heads, config.n_kv_heads, config.head_dim, window)
    shape = DecoderShape(
        look="llama",
        n_layers=config.n_layers,
        hidden=config.hidden,
        intermediate=config.intermediate,
        heads=heads,
        vocab_size=config.vocab_size,
        max_tokens=min(max_tokens or config.max_position, config.max_position),
        rotary_theta=config.rope_theta,
        norm_eps=config.rms_norm_eps,
    )
    weights = Weights(folder, dtype=dtype, device=torch.device("cpu"))
    work = Work()
    table = _table(shape, config.head_dim, dtype)
    layers = [
        _read_layer(config, weights, index, heads, work, table) for index in range(shape.n_layers)
    ]
    size = (config.vocab_size, config.hidden)
    embedding = weights.take("model.embed_tokens.weight", size)
    head = embedding if config.tied_embeddings else weights.take("lm_head.weight", size)
    norm = weights.take("model.norm.weight", (config.hidden,))
    return Decoder(shape, layers, Ends(embedding, norm, head, None), work)


def _read_layer(
    config: ModelConfig,
    weights: Weights,
    index: int,
    heads: Heads,
    work: Work,
    table: tuple[Tensor, Tensor],
) -> DecoderLayer:
    wide, narrow = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    def taken(name: str, *size: int) -> Tensor:
        return weights.take(f"model.layers.{index}.{name}.weight", size)

    q_k_v = [
        taken(f"self_attn.{name}_proj", rows, config.hidden)
        for name, rows in (("q", wide), ("k", narrow), ("v", narrow))
    ]
    up = [taken(f"mlp.{n}_proj", config.intermediate, config.hidden) for n in ("gate", "up")]
    output = taken("self_attn.o_proj", config.hidden, wide)
    return DecoderLayer(
        AttentionLayer(heads, torch.cat(q_k_v), output, work, table),
        taken("input_layernorm", config.hidden),
        taken("post_attention_layernorm", config.hidden),
        torch.cat(up),
        taken("mlp.down_proj", config.hidden, config.intermediate),
    )


class _Drawn:
    """Weights drawn in one order from one generator."""

    def __init__(self, shape: DecoderShape, dtype: torch.dtype, seed: int) -> None:
        self._shape, self._dtype, self._work = shape, dtype, Work()
        self._generator = torch.Generator().manual_seed(seed)
        heads = shape.heads
        width = heads.head_dim if isinstance(heads, Heads) else heads.rotary_dim
        self._table = _table(shape, width, dtype)

    def decoder(self) -> Decoder:
        shape = self._shape
        layers = [self._layer() for _ in range(shape.n_layers)]
        is_learned = shape.look == "gpt2"
        positions = self._matrix(shape.max_tokens, shape.hidden) if is_learned else None
        embedding = self._matrix(shape.vocab_size, shape.hidden)
        return Decoder(
            shape, layers, Ends(embedding, self._ones(), embedding, positions), self._work
        )

    def _layer(self) -> DecoderLayer:
        shape = self._shape
        wide = shape.intermediate * (2 if shape.look == "llama" else 1)
        up, down = self._matrix(wide, shape.hidden), self._matrix(shape.hidden, shape.intermediate)
        return DecoderLayer(self._attention(), self._ones(), self._ones(), up, down)

    def _attention(self) -> AttentionLayer | LatentAttentionLayer:
        shape, heads = self._shape, self._shape.heads
        output = self._matrix(shape.hidden, heads.n_heads * heads.head_dim)
        if isinstance(heads, LatentHeads):
            query = self._matrix(heads.n_heads * (heads.head_dim + heads.rotary_dim), shape.hidden)
            down = self._matrix(heads.rank + heads.rotary_dim, shape.hidden)
            key_up, value_up = (
                self._matrix(heads.n_heads, heads.head_dim, heads.rank) for _ in range(2)
            )
            matrices = LatentWeights(query, down, key_up, value_up, output)
            return LatentAttentionLayer(heads, matrices, self._work, self._table)
        rows = (heads.n_heads + 2 * heads.n_kv_heads) * heads.head_dim
        table: tuple[Tensor, Tensor] | None = self._table if shape.look == "llama" else None
        return AttentionLayer(heads, self._matrix(rows, shape.hidden), output, self._work, table)

    def _matrix(self, *size: int) -> Tensor:
        drawn: Tensor = torch.empty(*size).normal_(0.0, SPREAD, generator=self._generator)
        return drawn.to(self._dtype)

    def _ones(self) -> Tensor:
        return torch.ones(self._shape.hidden, dtype=self._dtype)


def _table(shape: DecoderShape, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    cos, sin = rotary_table(shape.max_tokens, width, shape.rotary_theta)
    return cos.to(dtype), sin.to(dtype)
