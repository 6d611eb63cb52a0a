"""Model config: what a Llama-family model is, its sizes read from `config.json` and checked.

Owns `ModelConfig` and the list of architectures that can run. No torch. Called by the loaders; what
the forward cannot compute is refused by name, never guessed.
"""

from dataclasses import dataclass
from pathlib import Path

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields, read_fields

# Architectures whose forward is the one in `llama.py`.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
# Qwen2 has biases on q, k and v without saying so in its configuration.
_WITH_QKV_BIAS = ("Qwen2ForCausalLM",)
# The rotary divisors that a GGUF file carries, in the folders our conversion writes.
GGUF_ROPE = "gguf_divisors"


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's stretch of the rotary frequencies; lengths in tokens."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of one model. Lengths in tokens, widths in features."""

    n_layers: int
    hidden: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    rope_divisors: tuple[float, ...]  # one for each rotary frequency; (): none
    tied_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    eos_token_ids: tuple[int, ...]

    def kv_bytes_per_token(self, itemsize: int) -> int:
        """Bytes of K and V of one token over all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * itemsize


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json` (and `generation_config.json` for the end tokens) of a model folder."""
    fields = read_fields(folder / "config.json")
    architecture = _architecture(fields, folder)
    eos = None
    generation = folder / "generation_config.json"
    if generation.exists():
        eos = read_fields(generation).ids("eos_token_id")
    if eos is None:
        eos = fields.ids("eos_token_id") or ()
    return _from_fields(fields, architecture, eos)


def _from_fields(fields: Fields, architecture: str, eos: tuple[int, ...]) -> ModelConfig:
    n_heads, hidden = fields.count("num_attention_heads"), fields.count("hidden_size")
    n_kv_heads = fields.count("num_key_value_heads", default=n_heads)
    if n_heads % n_kv_heads:
        raise fields.refusal("num_key_value_heads", f"a divisor of the {n_heads} attention heads")
    if fields.get("head_dim") is None and hidden % n_heads:
        raise fields.refusal("hidden_size", f"a multiple of the {n_heads} attention heads")
    head_dim = fields.count("head_dim", default=hidden // n_heads)
    if head_dim % 2:
        raise fields.refusal("head_dim", "even, as rotary positions need it")
    rope = fields.record("rope_parameters")
    scaling = fields.record("rope_scaling") if fields.get("rope_scaling") else rope
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    attention_bias = fields.switch("attention_bias")
    theta = fields.positive("rope_theta", default=10000.0)
    return ModelConfig(
        n_layers=fields.count("num_hidden_layers"),
        hidden=hidden,
        intermediate=fields.count("intermediate_size"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        max_position=fields.count("max_position_embeddings"),
        rms_norm_eps=fields.positive("rms_norm_eps"),
        rope_theta=rope.positive("rope_theta", default=theta),
        rope_scaling=_llama3(scaling) if kind == "llama3" else None,
        rope_divisors=_divisors(scaling, kind, head_dim // 2),
        tied_embeddings=fields.switch("tie_word_embeddings"),
        qkv_bias=attention_bias or architecture in _WITH_QKV_BIAS,
        output_bias=attention_bias,
        mlp_bias=fields.switch("mlp_bias"),
        eos_token_ids=eos,
    )


def _architecture(fields: Fields, folder: Path) -> str:
    named = fields.get("architectures") or ["none"]
    architecture = str(named[0]) if isinstance(named, list) else str(named)
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{folder} holds a {architecture}; this engine runs {', '.join(ARCHITECTURES)}"
        )
    if fields.get("quantization_config") is not None:
        raise ModelError(
            f"{folder} is quantised (quantization_config), which this engine does not undo: "
            "use the folder of the model it was made from, or a .gguf file"
        )
    if fields.get("use_sliding_window") or _has_window(fields):
        raise ModelError(f"{folder} needs sliding-window attention, which this engine lacks")
    if (activation := fields.get("hidden_act") or "silu") != "silu":
        raise ModelError(f"{folder} has activation {activation!r}; this engine runs silu")
    rope = fields.record("rope_parameters")
    for record in (fields, rope):
        if record.positive("partial_rotary_factor", default=1.0) != 1.0:
            raise ModelError(f"{folder} has partial_rotary_factor, which this engine lacks")
    return architecture


def _has_window(fields: Fields) -> bool:
    # Qwen2 writes a window it does not use; Mistral's null means none.
    if fields.get("sliding_window") is None:
        return False
    layers = fields.get("layer_types")
    is_used = isinstance(layers, list) and "sliding_attention" in layers
    return is_used or fields.get("use_sliding_window") is None


def _llama3(scaling: Fields) -> RopeScaling:
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    if low >= high:
        raise scaling.refusal("low_freq_factor", f"below high_freq_factor, {high:g}")
    return RopeScaling(
        factor=scaling.positive("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position=scaling.count("original_max_position_embeddings"),
    )


def _divisors(scaling: Fields, kind: object, n: int) -> tuple[float, ...]:
    if kind in ("default", "llama3"):
        return ()
    if kind == "linear":
        return (scaling.positive("factor"),) * n
    if kind != GGUF_ROPE:
        raise ModelError(f"rope scaling {kind!r} is not supported: use default, linear or llama3")
    given = scaling.get("divisors")
    if not isinstance(given, list) or len(given) != n:
        raise scaling.refusal("divisors", f"a list of {n} numbers")
    if not all(isinstance(one, float) and 0 < one < float("inf") for one in given):
        raise scaling.refusal("divisors", "of numbers above 0")
    return tuple(given)
