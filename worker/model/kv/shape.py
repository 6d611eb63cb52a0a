"""KV shape: what a model keeps of a token, read from its `config.json` alone.

Owns which families' configurations are understood and how each says its heads and windows; more
families than the engine runs. No torch, no weights. A configuration whose KV would be guessed is
refused by name. Called by the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields, read_fields
from radixroute.worker.model.kv.formats import BFLOAT16, KVFormat, format_named
from radixroute.worker.model.kv.layout import KVLayout


@dataclass(frozen=True, slots=True)
class KVShape:
    """One model's KV. Lengths in tokens."""

    family: str  # `model_type` of its configuration
    layouts: tuple[KVLayout, ...]  # one for the layers of each window: together all layers
    n_heads: int  # of queries
    # Features of K and of V of one head, if each head kept its own: what MHA would cost.
    head_features: tuple[int, int]
    max_position: int
    dtype: KVFormat  # what the model is published in

    @property
    def variant(self) -> str:
        """MHA, GQA, MQA or MLA."""
        if len(self.layouts[0].planes) == 1:
            return "MLA"
        kv_heads = self.layouts[0].kv_heads
        return "MHA" if kv_heads == self.n_heads else "MQA" if kv_heads == 1 else "GQA"

    @property
    def n_layers(self) -> int:
        return sum(layout.n_layers for layout in self.layouts)


def read_shape(path: Path) -> KVShape:
    """Of a model folder or a `config.json`. Raises `ModelError` for one that is not understood."""
    fields = read_fields(path / "config.json" if path.is_dir() else path)
    inner = fields.record("text_config")
    if inner.get("model_type") is not None:
        fields = inner
    family = fields.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise ModelError(
            f"{path}: model_type is {str(family)[:40]!r}, whose KV this plan does not know; "
            f"it knows {known}"
        )
    return _FAMILIES[family](fields, family)


def _standard(fields: Fields, family: str) -> KVShape:
    """K and V for each KV head, of all layers or by windows."""
    n_layers, n_heads = fields.count("num_hidden_layers"), fields.count("num_attention_heads")
    kv_heads = fields.count("num_key_value_heads", default=n_heads)
    head_dim = _head_dim(fields, n_heads, "hidden_size")
    window = _window(fields, family)
    n_windowed = _windowed_layers(fields, family, n_layers) if window else 0
    parts = ((n_layers - n_windowed, None), (n_windowed, window))
    layouts = tuple(
        KVLayout.keys_and_values(count, kv_heads, head_dim, window=width)
        for count, width in parts
        if count
    )
    return _shape(fields, family, layouts, n_heads, (head_dim, head_dim))


def _multi_head(fields: Fields, family: str) -> KVShape:
    """GPT-NeoX: every head keeps its own, and no field says so."""
    n_layers, n_heads = fields.count("num_hidden_layers"), fields.count("num_attention_heads")
    head_dim = _head_dim(fields, n_heads, "hidden_size")
    layouts = (KVLayout.keys_and_values(n_layers, n_heads, head_dim),)
    return _shape(fields, family, layouts, n_heads, (head_dim, head_dim))


def _gpt2(fields: Fields, family: str) -> KVShape:
    """The older names of sizes; GPT-BigCode says with a switch that all heads share one K and V."""
    n_heads = fields.count("n_head")
    head_dim = _head_dim(fields, n_heads, "n_embd")
    shares = family == "gpt_bigcode" and fields.get("multi_query") is not False
    layout = KVLayout.keys_and_values(fields.count("n_layer"), 1 if shares else n_heads, head_dim)
    return _shape(fields, family, (layout,), n_heads, (head_dim, head_dim), "n_positions")


def _latent(fields: Fields, family: str) -> KVShape:
    """MLA: the latent and the rotary key, once for all heads."""
    rotary, plain = fields.count("qk_rope_head_dim"), fields.count("qk_nope_head_dim")
    layout = KVLayout.latent(
        fields.count("num_hidden_layers"), fields.count("kv_lora_rank"), rotary
    )
    n_heads = fields.count("num_attention_heads")
    features = (rotary + plain, fields.count("v_head_dim"))
    return _shape(fields, family, (layout,), n_heads, features)


def _shape(
    fields: Fields,
    family: str,
    layouts: tuple[KVLayout, ...],
    n_heads: int,
    head_features: tuple[int, int],
    length: str = "max_position_embeddings",
) -> KVShape:
    named = fields.get("dtype") or fields.get("torch_dtype")
    published = format_named(named) if isinstance(named, str) else None
    longest = fields.count(length)
    return KVShape(family, layouts, n_heads, head_features, longest, published or BFLOAT16)


def _head_dim(fields: Fields, n_heads: int, width: str) -> int:
    hidden = fields.count(width)
    if fields.get("head_dim") is None and hidden % n_heads:
        raise fields.refusal(width, f"a multiple of the {n_heads} attention heads")
    return fields.count("head_dim", default=hidden // n_heads)


def _window(fields: Fields, family: str) -> int | None:
    # Qwen writes a window that it uses only where a switch says so.
    switched_off = family.startswith("qwen") and not fields.switch("use_sliding_window")
    if switched_off or fields.get("sliding_window") is None:
        return None
    return fields.count("sliding_window")


def _windowed_layers(fields: Fields, family: str, n_layers: int) -> int:
    """How many layers have the window."""
    kinds = fields.get("layer_types")
    if isinstance(kinds, list):
        if len(kinds) != n_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
            raise fields.refusal(
                "layer_types", f"{n_layers} times full_attention or sliding_attention"
            )
        return kinds.count("sliding_attention")
    if family.startswith("qwen"):  # the first layers see everything
        return n_layers - min(n_layers, fields.count("max_window_layers", default=n_layers))
    every = _FULL_EVERY.get(family)
    if every is None:
        return n_layers
    return n_layers - n_layers // fields.count("sliding_window_pattern", default=every)


# Families in which one layer of so many sees everything, where their file does not say which.
_FULL_EVERY = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2}

_FAMILIES: dict[str, Callable[[Fields, str], KVShape]] = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe"),
            *("gemma", "gemma2", "gemma3_text", "phi", "phi3", "olmo2", "granite", "smollm3"),
            *("starcoder2", "cohere", "cohere2", "gpt_oss"),
        ),
        _standard,
    ),
    "gpt_neox": _multi_head,
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "deepseek_v2": _latent,
    "deepseek_v3": _latent,
}
