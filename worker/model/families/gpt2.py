"""GPT-2: attention with K and V of every head, learned positions, LayerNorm, GELU.

Its folders keep matrices the other way round, (in, out), and the oldest of them name tensors
without `transformer.` and carry each layer's causal mask.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.families.family import Family, Model, ModelConfig
from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.layers.linear import Linear

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.attention.backend import AttentionBackend
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt2Config(ModelConfig):
    """Sizes of one model of the family."""

    n_heads: int
    intermediate: int
    norm_eps: float

    @property
    def head_dim(self) -> int:
        return self.hidden // self.n_heads

    @property
    def layout(self) -> KVLayout:
        return KVLayout.keys_and_values(self.n_layers, self.n_heads, self.head_dim)

    def build(self, weights: "Weights", ops: "Ops") -> Model:
        return Gpt2(self, weights, ops)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: "Tensor"
    bias: "Tensor"


@dataclass(frozen=True, slots=True)
class _Layer:
    first_norm: _Norm
    qkv: Linear
    output: Linear
    second_norm: _Norm
    up: Linear
    down: Linear


class Gpt2:
    """A loaded model. `forward` is deterministic for a batch on one machine."""

    def __init__(self, config: Gpt2Config, weights: "Weights", ops: "Ops") -> None:
        self._config, self._ops = config, ops
        top = "transformer." if "transformer.wte.weight" in weights else ""
        width = config.hidden
        self._embedding = weights.take(f"{top}wte.weight", (config.vocab_size, width))
        self._positions = weights.take(f"{top}wpe.weight", (config.max_position, width))
        self._layers = [_layer(config, weights, f"{top}h.{i}") for i in range(config.n_layers)]
        self._norm = _norm(weights, f"{top}ln_f", width)
        tied, head = config.tied_embeddings, (config.vocab_size, width)
        self._head = Linear(self._embedding if tied else weights.take("lm_head.weight", head))
        masks = [f"{top}h.{i}.attn.{m}" for i in range(config.n_layers) for m in _MASKS]
        weights.must_be_used_up("lm_head.weight", *masks)

    def forward(
        self, token_ids: "Tensor", positions: "Tensor", attention: "AttentionBackend"
    ) -> "Tensor":
        """Hidden states after the last layer. Shapes: (n,), (n,) -> (n, hidden)."""
        ops, n = self._ops, len(token_ids)
        heads, head_dim = self._config.n_heads, self._config.head_dim
        x = ops.embed(token_ids, self._embedding)
        x += ops.embed(positions, self._positions)
        for i, layer in enumerate(self._layers):
            qkv = ops.linear(self._normed(x, layer.first_norm), layer.qkv)
            q, k, v = qkv.view(n, 3, heads, head_dim).unbind(1)
            attention.write(i, k, v)
            attended = attention.read(i, q, head_dim**-0.5)
            x += ops.linear(attended.view(n, -1), layer.output)
            inner = ops.gelu(ops.linear(self._normed(x, layer.second_norm), layer.up))
            x += ops.linear(inner, layer.down)
        return x

    def logits(self, hidden: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, vocab), float32."""
        return self._ops.linear(self._normed(hidden, self._norm), self._head).float()

    def _normed(self, x: "Tensor", norm: _Norm) -> "Tensor":
        return self._ops.layer_norm(x, norm.weight, norm.bias, self._config.norm_eps)


# Buffers of old folders, by the end of their names.
_MASKS = ("bias", "masked_bias")


def _layer(config: Gpt2Config, weights: "Weights", prefix: str) -> _Layer:
    width, inner = config.hidden, config.intermediate

    def linear(name: str, columns: int, rows: int) -> Linear:
        weight = weights.take(f"{prefix}.{name}.weight", (columns, rows)).t().contiguous()
        return Linear(weight, weights.take(f"{prefix}.{name}.bias", (rows,)))

    return _Layer(
        first_norm=_norm(weights, f"{prefix}.ln_1", width),
        qkv=linear("attn.c_attn", width, 3 * width),
        output=linear("attn.c_proj", width, width),
        second_norm=_norm(weights, f"{prefix}.ln_2", width),
        up=linear("mlp.c_fc", width, inner),
        down=linear("mlp.c_proj", inner, width),
    )


def _norm(weights: "Weights", name: str, width: int) -> _Norm:
    weight, bias = (weights.take(f"{name}.{part}", (width,)) for part in ("weight", "bias"))
    return _Norm(weight, bias)


def _read(fields: Fields, _: str) -> Gpt2Config:
    fields.must_be("activation_function", "gelu_new", default="gelu_new")
    fields.must_be("scale_attn_weights", True, default=True)
    for name in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        fields.must_be(name, False, default=False)
    fields.must_be("add_cross_attention", False, default=False)
    hidden, n_heads = fields.count("n_embd"), fields.count("n_head")
    if hidden % n_heads:
        raise fields.refusal("n_embd", f"a multiple of the {n_heads} attention heads")
    return Gpt2Config(
        n_layers=fields.count("n_layer"),
        hidden=hidden,
        n_heads=n_heads,
        intermediate=fields.count("n_inner", default=4 * hidden),
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("n_positions"),
        norm_eps=fields.positive("layer_norm_epsilon"),
        # Older folders say nothing of it, and are.
        tied_embeddings=fields.switch("tie_word_embeddings", default=True),
    )


FAMILY = Family(("GPT2LMHeadModel",), _read)
