"""Qwen3: a Llama whose queries and keys are normed head by head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.families.family import Family, Model, ModelConfig
from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.layers.decoder import Decoder, FeedForward, LayerAttention
from radixroute.worker.model.layers.grouped import (
    GroupedAttention,
    HeadSizes,
    QkNorm,
    read_head_sizes,
)
from radixroute.worker.model.layers.mlp import GatedMlp
from radixroute.worker.model.layers.rope import Rope, read_rope
from radixroute.worker.model.layers.window import must_have_no_window

if TYPE_CHECKING:
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights

# Where a configuration names none: not an even share of the width.
_HEAD_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3Config(ModelConfig):
    """Sizes of one model of the family."""

    heads: HeadSizes
    intermediate: int
    rms_norm_eps: float
    rope: Rope
    attention_bias: bool

    @property
    def layout(self) -> KVLayout:
        return KVLayout.keys_and_values(self.n_layers, self.heads.n_kv_heads, self.heads.head_dim)

    def build(self, weights: "Weights", ops: "Ops") -> Model:
        def parts(_: int, prefix: str) -> tuple[LayerAttention, FeedForward]:
            name = f"{prefix}.self_attn"
            attention = GroupedAttention.read(
                weights,
                name,
                self.heads,
                qkv_bias=self.attention_bias,
                output_bias=self.attention_bias,
                norm=QkNorm.read(weights, name, self.heads, self.rms_norm_eps),
            )
            return attention, GatedMlp.read(
                weights, f"{prefix}.mlp", self.hidden, self.intermediate
            )

        return Decoder(
            self, weights, ops, rope=self.rope, rms_norm_eps=self.rms_norm_eps, parts=parts
        )


def _read(fields: Fields, _: str) -> Qwen3Config:
    must_have_no_window(fields)
    fields.must_be("hidden_act", "silu", default="silu")
    heads = read_head_sizes(fields, head_dim=_HEAD_DIM)
    return Qwen3Config(
        n_layers=fields.count("num_hidden_layers"),
        hidden=heads.hidden,
        intermediate=fields.count("intermediate_size"),
        heads=heads,
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("max_position_embeddings"),
        rms_norm_eps=fields.positive("rms_norm_eps"),
        rope=read_rope(fields, heads.head_dim),
        tied_embeddings=fields.switch("tie_word_embeddings"),
        attention_bias=fields.switch("attention_bias"),
    )


FAMILY = Family(("Qwen3ForCausalLM",), _read)
