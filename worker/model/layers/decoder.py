"""Decoder: embedding, pre-norm layers and head, as Llama and its kin stack them.

Owns what stands around each layer's attention and feed-forward part; which parts those are is the
family's choice. One call computes one step's tokens of all sequences, packed in one row after the
other. Pure but for the pool that the attention backend writes. Called by `torch_runner`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from radixroute.worker.model.layers.linear import Linear

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.attention.backend import AttentionBackend
    from radixroute.worker.model.families.family import ModelConfig
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.layers.rope import Rope
    from radixroute.worker.model.weights import Weights

Rotary: TypeAlias = "tuple[Tensor, Tensor]"  # cos and sin of a step's rows, each (n, 1, width / 2)


class LayerAttention(Protocol):
    """A layer's attention: (n, hidden) -> (n, hidden)."""

    def __call__(
        self, ops: "Ops", layer: int, x: "Tensor", rotary: Rotary, attention: "AttentionBackend"
    ) -> "Tensor": ...


class FeedForward(Protocol):
    """A layer's part that looks at one token alone: (n, hidden) -> (n, hidden)."""

    def __call__(self, ops: "Ops", x: "Tensor") -> "Tensor": ...


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer."""

    input_norm: "Tensor"
    attention: LayerAttention
    post_norm: "Tensor"
    feed_forward: FeedForward


# A layer's parts from its index and the prefix of its tensors' names.
ReadParts: TypeAlias = Callable[[int, str], tuple[LayerAttention, FeedForward]]


class Decoder:
    """A loaded model. `forward` is deterministic for a batch on one machine."""

    def __init__(
        self,
        config: "ModelConfig",
        weights: "Weights",
        ops: "Ops",
        *,
        rope: "Rope",
        rms_norm_eps: float,
        parts: ReadParts,
    ) -> None:
        self._ops, self._eps = ops, rms_norm_eps
        norm, shape = (config.hidden,), (config.vocab_size, config.hidden)
        self._embedding = weights.take("model.embed_tokens.weight", shape)

        def layer(index: int) -> DecoderLayer:
            prefix = f"model.layers.{index}"
            attention, feed_forward = parts(index, prefix)
            return DecoderLayer(
                input_norm=weights.take(f"{prefix}.input_layernorm.weight", norm),
                attention=attention,
                post_norm=weights.take(f"{prefix}.post_attention_layernorm.weight", norm),
                feed_forward=feed_forward,
            )

        self._layers = [layer(index) for index in range(config.n_layers)]
        self._norm = weights.take("model.norm.weight", norm)
        # Without a head a model that is not tied is incomplete: the embedding is another matrix.
        tied = config.tied_embeddings
        self._head = Linear(self._embedding if tied else weights.take("lm_head.weight", shape))
        # A tied model may carry its head a second time.
        weights.must_be_used_up("lm_head.weight")
        self._cos, self._sin = ops.rotary_table(rope, config.max_position, self._embedding)

    def forward(
        self, token_ids: "Tensor", positions: "Tensor", attention: "AttentionBackend"
    ) -> "Tensor":
        """Hidden states after the last layer. Shapes: (n,), (n,) -> (n, hidden)."""
        ops, eps = self._ops, self._eps
        rotary = self._cos[positions], self._sin[positions]
        x = ops.embed(token_ids, self._embedding)
        normed = ops.rms_norm(x, self._layers[0].input_norm, eps)
        for i, layer in enumerate(self._layers):
            attended = layer.attention(ops, i, normed, rotary, attention)
            normed = ops.add_norm(x, attended, layer.post_norm, eps)
            fed = layer.feed_forward(ops, normed)
            if i + 1 < len(self._layers):
                normed = ops.add_norm(x, fed, self._layers[i + 1].input_norm, eps)
            else:
                x += fed
        return x

    def logits(self, hidden: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, vocab), float32."""
        normed = self._ops.rms_norm(hidden, self._norm, self._eps)
        return self._ops.linear(normed, self._head).float()
