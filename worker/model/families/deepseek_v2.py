"""DeepSeek-V2: latent attention (MLA) and, after the first layers, shared and routed experts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.families.family import Family, Model, ModelConfig
from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.layers.decoder import Decoder, FeedForward, LayerAttention
from radixroute.worker.model.layers.experts import Experts, read_router
from radixroute.worker.model.layers.latent import LatentAttention, LatentSizes
from radixroute.worker.model.layers.mlp import GatedMlp
from radixroute.worker.model.layers.rope import Rope, Yarn, read_rope
from radixroute.worker.model.layers.window import must_have_no_window

if TYPE_CHECKING:
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepseekV2Config(ModelConfig):
    """Sizes of one model of the family."""

    attention: LatentSizes
    rms_norm_eps: float
    rope: Rope
    attention_bias: bool
    mlp_bias: bool
    intermediate: int  # of a dense layer
    n_dense: int  # layers, from the first, that have no experts
    n_experts: int
    n_shared: int  # experts that see every token; they are one matrix
    expert_width: int
    top_k: int  # routed experts of a token
    routed_scale: float

    @property
    def layout(self) -> KVLayout:
        return KVLayout.latent(self.n_layers, self.attention.rank, self.attention.rotary)

    def build(self, weights: "Weights", ops: "Ops") -> Model:
        def parts(index: int, prefix: str) -> tuple[LayerAttention, FeedForward]:
            attention = LatentAttention.read(
                weights, f"{prefix}.self_attn", self.attention, bias=self.attention_bias
            )
            if index < self.n_dense:
                return attention, self._mlp(weights, f"{prefix}.mlp", self.intermediate)
            return attention, self._experts(weights, f"{prefix}.mlp")

        return Decoder(
            self, weights, ops, rope=self.rope, rms_norm_eps=self.rms_norm_eps, parts=parts
        )

    def _mlp(self, weights: "Weights", prefix: str, width: int) -> GatedMlp:
        return GatedMlp.read(weights, prefix, self.hidden, width, bias=self.mlp_bias)

    def _experts(self, weights: "Weights", prefix: str) -> Experts:
        experts = (
            GatedMlp.read(weights, f"{prefix}.experts.{i}", self.hidden, self.expert_width)
            for i in range(self.n_experts)
        )
        return Experts(
            router=read_router(weights, f"{prefix}.gate", self.n_experts, self.hidden),
            experts=tuple(experts),
            top_k=self.top_k,
            normalised=False,
            scale=self.routed_scale,
            shared=self._mlp(
                weights, f"{prefix}.shared_experts", self.n_shared * self.expert_width
            ),
        )


def _read(fields: Fields, _: str) -> DeepseekV2Config:
    _must_be_plain(fields)
    hidden, n_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    fields.must_be("num_key_value_heads", n_heads, default=n_heads)
    has_query_rank = fields.get("q_lora_rank") is not None
    rotary = fields.count("qk_rope_head_dim")
    if rotary % 2:
        raise fields.refusal("qk_rope_head_dim", "even, as rotary positions need it")
    rope = read_rope(fields, rotary)
    attention = LatentSizes(
        hidden=hidden,
        n_heads=n_heads,
        query_rank=fields.count("q_lora_rank") if has_query_rank else None,
        rank=fields.count("kv_lora_rank"),
        plain=fields.count("qk_nope_head_dim"),
        rotary=rotary,
        value=fields.count("v_head_dim"),
        sharpness=rope.scaling.sharpness if isinstance(rope.scaling, Yarn) else 1.0,
    )
    n_layers, n_experts = fields.count("num_hidden_layers"), fields.count("n_routed_experts")
    return DeepseekV2Config(
        n_layers=n_layers,
        hidden=hidden,
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("max_position_embeddings"),
        tied_embeddings=fields.switch("tie_word_embeddings"),
        attention=attention,
        rms_norm_eps=fields.positive("rms_norm_eps"),
        rope=rope,
        attention_bias=fields.switch("attention_bias"),
        mlp_bias=fields.switch("mlp_bias"),
        intermediate=fields.count("intermediate_size"),
        n_dense=fields.count("first_k_dense_replace", default=0, least=0),
        n_experts=n_experts,
        n_shared=fields.count("n_shared_experts"),
        expert_width=fields.count("moe_intermediate_size"),
        top_k=fields.count("num_experts_per_tok", most=n_experts),
        routed_scale=fields.positive("routed_scaling_factor", default=1.0),
    )


def _must_be_plain(fields: Fields) -> None:
    """Raises `ModelError` for other ways to route tokens, and for windows."""
    must_have_no_window(fields)
    fields.must_be("hidden_act", "silu", default="silu")
    fields.must_be("topk_method", "greedy", default="greedy")
    fields.must_be("scoring_func", "softmax", default="softmax")
    fields.must_be("norm_topk_prob", False, default=False)
    fields.must_be("moe_layer_freq", 1, default=1)


FAMILY = Family(("DeepseekV2ForCausalLM",), _read)
