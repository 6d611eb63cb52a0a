"""Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Llama, Mistral and Qwen2 differ in where they have biases; MQA is a single K and V head.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.families.family import Family, Model, ModelConfig
from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.layers.decoder import Decoder, FeedForward, LayerAttention
from radixroute.worker.model.layers.grouped import GroupedAttention, HeadSizes, read_head_sizes
from radixroute.worker.model.layers.mlp import GatedMlp
from radixroute.worker.model.layers.rope import Rope, read_rope
from radixroute.worker.model.layers.window import must_have_no_window, read_window

if TYPE_CHECKING:
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights

# Qwen2 has biases on q, k and v without saying so in its configuration.
_WITH_QKV_BIAS = ("Qwen2ForCausalLM",)
# Llama has no windows, whatever its configuration says.
_WITH_WINDOW = ("MistralForCausalLM", "Qwen2ForCausalLM")


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig(ModelConfig):
    """Sizes of one model of the family."""

    heads: HeadSizes
    intermediate: int
    rms_norm_eps: float
    rope: Rope
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    window: int | None = None

    @property
    def layout(self) -> KVLayout:
        heads = self.heads
        return KVLayout.keys_and_values(
            self.n_layers, heads.n_kv_heads, heads.head_dim, window=self.window
        )

    def build(self, weights: "Weights", ops: "Ops") -> Model:
        def parts(_: int, prefix: str) -> tuple[LayerAttention, FeedForward]:
            attention = GroupedAttention.read(
                weights,
                f"{prefix}.self_attn",
                self.heads,
                qkv_bias=self.qkv_bias,
                output_bias=self.output_bias,
            )
            mlp = GatedMlp.read(
                weights, f"{prefix}.mlp", self.hidden, self.intermediate, bias=self.mlp_bias
            )
            return attention, mlp

        return Decoder(
            self, weights, ops, rope=self.rope, rms_norm_eps=self.rms_norm_eps, parts=parts
        )


def _read(fields: Fields, architecture: str) -> LlamaConfig:
    if architecture not in _WITH_WINDOW:
        must_have_no_window(fields)
    fields.must_be("hidden_act", "silu", default="silu")
    heads = read_head_sizes(fields)
    attention_bias = fields.switch("attention_bias")
    return LlamaConfig(
        n_layers=fields.count("num_hidden_layers"),
        hidden=heads.hidden,
        intermediate=fields.count("intermediate_size"),
        heads=heads,
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("max_position_embeddings"),
        rms_norm_eps=fields.positive("rms_norm_eps"),
        rope=read_rope(fields, heads.head_dim),
        tied_embeddings=fields.switch("tie_word_embeddings"),
        qkv_bias=attention_bias or architecture in _WITH_QKV_BIAS,
        output_bias=attention_bias,
        mlp_bias=fields.switch("mlp_bias"),
        window=read_window(fields) if architecture in _WITH_WINDOW else None,
    )


FAMILY = Family(("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"), _read)
