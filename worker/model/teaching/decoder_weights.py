"""Weights of a teaching decoder: random ones of any shape, or those of a Llama-family folder.

Random weights compute as long as real ones and mean nothing: good for time and memory, not for what
a model says. Reads files through `Weights`; the same seed gives the same numbers.
"""

from pathlib import Path

import torch
from torch import Tensor

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields, read_fields
from radixroute.worker.model.teaching.attention import AttentionLayer, Heads, rotary_table
from radixroute.worker.model.teaching.decoder import (
    ROTARY_THETA,
    Decoder,
    DecoderLayer,
    DecoderShape,
    Ends,
)
from radixroute.worker.model.teaching.latent import (
    LatentAttentionLayer,
    LatentHeads,
    LatentWeights,
)
from radixroute.worker.model.teaching.work import Work
from radixroute.worker.model.weights import Weights

# Wide enough for a greedy answer to have clear winners; of time and memory it changes nothing.
SPREAD = 0.1
# Of folders; both are the same layers.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")


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
) -> Decoder:
    """A Llama-family folder as it stands. `max_tokens`: no longer than this.

    Raises `ModelError` for what these layers do not compute.
    """
    fields = read_fields(folder / "config.json")
    _must_be_plain(folder, fields)
    shape = _read_shape(fields, max_tokens)
    weights = Weights(folder, dtype=dtype, device=torch.device("cpu"))
    work = Work()
    table = _table(shape, shape.heads.head_dim, dtype)
    layers = [_read_layer(shape, weights, index, work, table) for index in range(shape.n_layers)]
    size = (shape.vocab_size, shape.hidden)
    embedding = weights.take("model.embed_tokens.weight", size)
    is_tied = fields.switch("tie_word_embeddings")
    head = embedding if is_tied else weights.take("lm_head.weight", size)
    norm = weights.take("model.norm.weight", (shape.hidden,))
    weights.must_be_used_up("lm_head.weight")
    return Decoder(shape, layers, Ends(embedding, norm, head, None), work)


def _must_be_plain(folder: Path, fields: Fields) -> None:
    """Raises `ModelError` for what these layers would compute wrong."""
    named = fields.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise ModelError(
            f"{folder} holds a {named[0]}; the lab's decoder reads {', '.join(ARCHITECTURES)}"
        )
    rope = fields.record("rope_parameters")
    scaling = fields.record("rope_scaling") if fields.get("rope_scaling") else rope
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind != "default":
        raise ModelError(f"{folder} has {kind} rotary positions; the lab's decoder has plain ones")
    for name in ("attention_bias", "mlp_bias", "quantization_config", "sliding_window"):
        if fields.get(name):
            raise ModelError(f"{folder} has {name}, which the lab's decoder lacks")
    if (activation := fields.get("hidden_act") or "silu") != "silu":
        raise ModelError(f"{folder} has activation {activation!r}; the lab's decoder has silu")


def _read_shape(fields: Fields, max_tokens: int | None) -> DecoderShape:
    n_heads, hidden = fields.count("num_attention_heads"), fields.count("hidden_size")
    n_kv_heads = fields.count("num_key_value_heads", default=n_heads)
    longest = fields.count("max_position_embeddings")
    theta = fields.positive("rope_theta", default=ROTARY_THETA)
    return DecoderShape(
        look="llama",
        n_layers=fields.count("num_hidden_layers"),
        hidden=hidden,
        intermediate=fields.count("intermediate_size"),
        heads=Heads(n_heads, n_kv_heads, fields.count("head_dim", default=hidden // n_heads)),
        vocab_size=fields.count("vocab_size"),
        max_tokens=min(max_tokens or longest, longest),
        rotary_theta=fields.record("rope_parameters").positive("rope_theta", default=theta),
        norm_eps=fields.positive("rms_norm_eps"),
    )


def _read_layer(
    shape: DecoderShape,
    weights: Weights,
    index: int,
    work: Work,
    table: tuple[Tensor, Tensor],
) -> DecoderLayer:
    heads = shape.heads
    if isinstance(heads, LatentHeads):
        raise TypeError("no folder is read with latent attention")
    wide, narrow = heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim

    def taken(name: str, *size: int) -> Tensor:
        return weights.take(f"model.layers.{index}.{name}.weight", size)

    q_k_v = [
        taken(f"self_attn.{name}_proj", rows, shape.hidden)
        for name, rows in (("q", wide), ("k", narrow), ("v", narrow))
    ]
    up = [taken(f"mlp.{n}_proj", shape.intermediate, shape.hidden) for n in ("gate", "up")]
    output = taken("self_attn.o_proj", shape.hidden, wide)
    return DecoderLayer(
        AttentionLayer(heads, torch.cat(q_k_v), output, work, table),
        taken("input_layernorm", shape.hidden),
        taken("post_attention_layernorm", shape.hidden),
        torch.cat(up),
        taken("mlp.down_proj", shape.hidden, shape.intermediate),
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
