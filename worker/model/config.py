"""Model config: what a Llama-family model is, its sizes read from `config.json` and checked.

Owns `ModelConfig` and the list of architectures that can run. No torch. Called by the loaders; what
the forward cannot compute is refused by name, never guessed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radixroute.worker.errors import ModelError

# Architectures whose forward is the one in `llama.py`.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
# Qwen2 has biases on q, k and v without saying so in its configuration.
_WITH_QKV_BIAS = ("Qwen2ForCausalLM",)


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
    raw = _read_json(folder / "config.json")
    architecture = _architecture(raw, folder)
    eos = raw.get("eos_token_id")
    generation = folder / "generation_config.json"
    if generation.exists():
        eos = _read_json(generation).get("eos_token_id", eos)
    try:
        return _from_json(raw, architecture, _ids(eos))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / 'config.json'} lacks or garbles {error}: use a complete model folder"
        ) from error


def _from_json(raw: Mapping[str, Any], architecture: str, eos: tuple[int, ...]) -> ModelConfig:
    n_heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
    rope = raw.get("rope_parameters") or {}
    attention_bias = bool(raw.get("attention_bias", False))
    return ModelConfig(
        n_layers=int(raw["num_hidden_layers"]),
        hidden=hidden,
        intermediate=int(raw["intermediate_size"]),
        n_heads=n_heads,
        n_kv_heads=int(raw.get("num_key_value_heads") or n_heads),
        head_dim=int(raw.get("head_dim") or hidden // n_heads),
        vocab_size=int(raw["vocab_size"]),
        max_position=int(raw["max_position_embeddings"]),
        rms_norm_eps=float(raw["rms_norm_eps"]),
        rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0),
        rope_scaling=_rope_scaling(raw.get("rope_scaling") or rope),
        tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=attention_bias or architecture in _WITH_QKV_BIAS,
        output_bias=attention_bias,
        mlp_bias=bool(raw.get("mlp_bias", False)),
        eos_token_ids=eos,
    )


def _architecture(raw: Mapping[str, Any], folder: Path) -> str:
    named = raw.get("architectures") or ["none"]
    architecture = str(named[0])
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{folder} holds a {architecture}; this engine runs {', '.join(ARCHITECTURES)}"
        )
    if raw.get("use_sliding_window") or _has_window(raw):
        raise ModelError(f"{folder} needs sliding-window attention, which this engine lacks")
    if raw.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{folder} has activation {raw['hidden_act']}; this engine runs silu")
    return architecture


def _has_window(raw: Mapping[str, Any]) -> bool:
    # Qwen2 writes a window it does not use; Mistral's null means none.
    return raw.get("sliding_window") is not None and "use_sliding_window" not in raw


def _rope_scaling(raw: Mapping[str, Any]) -> RopeScaling | None:
    kind = raw.get("rope_type") or raw.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(f"rope scaling {kind!r} is not supported: use default or llama3")
    return RopeScaling(
        factor=float(raw["factor"]),
        low_freq_factor=float(raw["low_freq_factor"]),
        high_freq_factor=float(raw["high_freq_factor"]),
        original_max_position=int(raw["original_max_position_embeddings"]),
    )


def _ids(eos: object) -> tuple[int, ...]:
    if eos is None:
        return ()
    return tuple(int(i) for i in eos) if isinstance(eos, list) else (int(str(eos)),)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: point `model` at a complete model folder") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read: fetch the model again") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} is not a JSON object: fetch the model again")
    return raw
