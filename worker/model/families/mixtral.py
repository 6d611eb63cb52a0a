"""Mixtral: a Llama whose feed-forward parts are mixtures of experts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixroute.worker.model.families.family import Family, Model, ModelConfig
from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.layers.decoder import Decoder, FeedForward, LayerAttention
from radixroute.worker.model.layers.experts import Experts, read_router
from radixroute.worker.model.layers.grouped import GroupedAttention, HeadSizes, read_head_sizes
from radixroute.worker.model.layers.mlp import GatedMlp
from radixroute.worker.model.layers.rope import Rope, read_rope
from radixroute.worker.model.layers.window import must_have_no_window

if TYPE_CHECKING:
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights

_THETA = 1e6  # where a configuration names none


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtralConfig(ModelConfig):
    """Sizes of one model of the family."""

    heads: HeadSizes
    intermediate: int  # of one expert
    n_experts: int
    top_k: int  # experts of a token
    rms_norm_eps: float
    rope: Rope

    @property
    def layout(self) -> KVLayout:
        return KVLayout.keys_and_values(self.n_layers, self.heads.n_kv_heads, self.heads.head_dim)

    def build(self, weights: "Weights", ops: "Ops") -> Model:
        def expert(prefix: str) -> GatedMlp:
            names = ("w1", "w3", "w2")
            return GatedMlp.read(weights, prefix, self.hidden, self.intermediate, names=names)

        def parts(_: int, prefix: str) -> tuple[LayerAttention, FeedForward]:
            name = f"{prefix}.block_sparse_moe"
            experts = Experts(
                router=read_router(weights, f"{name}.gate", self.n_experts, self.hidden),
                experts=tuple(expert(f"{name}.experts.{i}") for i in range(self.n_experts)),
                top_k=self.top_k,
                normalised=True,
            )
            return GroupedAttention.read(weights, f"{prefix}.self_attn", self.heads), experts

        return Decoder(
            self, weights, ops, rope=self.rope, rms_norm_eps=self.rms_norm_eps, parts=parts
        )


def _read(fields: Fields, _: str) -> MixtralConfig:
    must_have_no_window(fields)
    fields.must_be("hidden_act", "silu", default="silu")
    heads, n_experts = read_head_sizes(fields), fields.count("num_local_experts")
    return MixtralConfig(
        n_layers=fields.count("num_hidden_layers"),
        hidden=heads.hidden,
        intermediate=fields.count("intermediate_size"),
        heads=heads,
        n_experts=n_experts,
        top_k=fields.count("num_experts_per_tok", most=n_experts),
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("max_position_embeddings"),
        rms_norm_eps=fields.positive("rms_norm_eps"),
        rope=read_rope(fields, heads.head_dim, theta=_THETA),
        tied_embeddings=fields.switch("tie_word_embeddings"),
    )


FAMILY = Family(("MixtralForCausalLM",), _read)
