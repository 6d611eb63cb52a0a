"""Llama-family forward: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Owns the weights and the arithmetic between attention calls; K, V and who sees what belong to the
`AttentionBackend`. One call computes one step's tokens of all sequences, packed in one row after
the other. Pure but for the pool the backend writes. Called by `torch_runner` only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from radixroute.worker.model.attention import AttentionBackend
from radixroute.worker.model.config import ModelConfig, RopeScaling
from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x W^T + b; weight of shape (out, in)."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one decoder layer; projections that read the same input are fused."""

    input_norm: Tensor
    qkv: Linear  # (heads + 2 kv heads) * head_dim rows: q, then k, then v
    output: Linear
    post_norm: Tensor
    gate_up: Linear  # 2 * intermediate rows: gate, then up
    down: Linear


class Llama:
    """A loaded model. `forward` is deterministic for a batch on one machine."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        shape = (config.vocab_size, config.hidden)
        self._embedding = weights.take("model.embed_tokens.weight", shape)
        self._layers = [_layer(config, weights, i) for i in range(config.n_layers)]
        self._norm = weights.take("model.norm.weight", (config.hidden,))
        # Without a head a model that is not tied is incomplete: the embedding is another matrix.
        tied = config.tied_embeddings
        self._head = self._embedding if tied else weights.take("lm_head.weight", shape)
        # A tied model may carry its head a second time.
        weights.must_be_used_up("lm_head.weight")
        self._cos, self._sin = _rope_table(config, self._embedding)

    def forward(self, token_ids: Tensor, positions: Tensor, attention: AttentionBackend) -> Tensor:
        """Hidden states after the last layer. Shapes: (n,), (n,) -> (n, hidden)."""
        config = self.config
        cos, sin = self._cos[positions], self._sin[positions]
        x = functional.embedding(token_ids, self._embedding)
        rotated = config.n_heads + config.n_kv_heads
        for i, layer in enumerate(self._layers):
            qkv = layer.qkv(self._rms(x, layer.input_norm)).view(len(x), -1, config.head_dim)
            qk = _rotate(qkv[:, :rotated], cos, sin)
            attention.write(i, qk[:, config.n_heads :], qkv[:, rotated:])
            attended = attention.read(i, qk[:, : config.n_heads])
            x += layer.output(attended.view(len(x), -1))
            gate, up = layer.gate_up(self._rms(x, layer.post_norm)).chunk(2, dim=-1)
            x += layer.down(functional.silu(gate).mul_(up))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden) -> (n, vocab), float32."""
        return functional.linear(self._rms(hidden, self._norm), self._head).float()

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)


def _layer(config: ModelConfig, weights: Weights, index: int) -> Layer:
    def linear(parts: dict[str, int], columns: int, *, bias: bool) -> Linear:
        names = [f"model.layers.{index}.{name}" for name in parts]
        rows = list(parts.values())
        matrices = [
            weights.take(f"{n}.weight", (r, columns)) for n, r in zip(names, rows, strict=True)
        ]
        biases = [weights.take(f"{n}.bias", (r,)) for n, r in zip(names, rows, strict=True) if bias]
        return Linear(torch.cat(matrices), torch.cat(biases) if bias else None)

    def norm(name: str) -> Tensor:
        return weights.take(f"model.layers.{index}.{name}.weight", (config.hidden,))

    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    qkv = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
    gate_up = {"mlp.gate_proj": config.intermediate, "mlp.up_proj": config.intermediate}
    output, down = {"self_attn.o_proj": config.hidden}, {"mlp.down_proj": config.hidden}
    return Layer(
        input_norm=norm("input_layernorm"),
        qkv=linear(qkv, config.hidden, bias=config.qkv_bias),
        output=linear(output, queries, bias=config.output_bias),
        post_norm=norm("post_attention_layernorm"),
        gate_up=linear(gate_up, config.hidden, bias=config.mlp_bias),
        down=linear(down, config.intermediate, bias=config.mlp_bias),
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding; halves, not pairs, rotate together (the Hugging Face layout)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _rope_table(config: ModelConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin by position, each of shape (max_position, 1, head_dim / 2)."""
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**steps
    if config.rope_divisors:
        frequencies = frequencies / torch.tensor(config.rope_divisors)
    if config.rope_scaling is not None:
        frequencies = _scaled(frequencies, config.rope_scaling)
    angles = torch.outer(torch.arange(config.max_position, dtype=torch.float32), frequencies)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return cos.to(like.device, like.dtype), sin.to(like.device, like.dtype)


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, between them a ramp."""
    wavelengths = 2 * math.pi / frequencies
    low = scaling.original_max_position / scaling.low_freq_factor
    high = scaling.original_max_position / scaling.high_freq_factor
    ramp = (scaling.original_max_position / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - ramp) * frequencies / scaling.factor + ramp * frequencies
    scaled = torch.where(wavelengths > low, frequencies / scaling.factor, between)
    return torch.where(wavelengths < high, frequencies, scaled)
