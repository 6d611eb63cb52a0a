"""GGUF files of the Llama family: read once into a Hugging Face folder of float32 safetensors.

Owns the mapping of names, the undoing of llama.cpp's row order and the tokenizer's rebuilding; the
tensors come out bit for bit as `gguf` dequantises them. Called by `folder`. Needs gguf and
safetensors, no torch.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file

from radixroute.worker.errors import ModelError
from radixroute.worker.model.gguf_tokenizer import end_tokens, write_tokenizer
from radixroute.worker.model.layers.rope import GGUF_ROPE
from radixroute.worker.model.registry import load_config

Progress = Callable[[str], None]

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# What changes the arithmetic and has no place in the configuration: refused unless it is 0.
_UNKNOWN = (
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
)
# A vocabulary of 256,000 tokens with its merges takes some two million.
_MAX_READS = 5_000_000


class _StrictReader(GGUFReader):
    """Reads nothing beyond the end of the file, where `GGUFReader` finds empty arrays.

    A length of 2^60 would otherwise be believed, and walked element by element.
    """

    _n_reads = 0

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        self._n_reads += 1
        n_bytes = int(count) * int(np.dtype(dtype).itemsize)
        if int(offset) + n_bytes > len(self.data) or self._n_reads > _MAX_READS:
            raise ValueError("the file ends before what it announces")
        return super()._get(offset, dtype, count, override_order)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == GGUFValueType.ARRAY:
            length = int(self._get(orig_offs + 4, np.uint64)[0])
            if length > min(len(self.data), _MAX_READS):
                raise ValueError("an array is longer than the file")
        return super()._get_field_parts(orig_offs, raw_type)


def convert(path: Path, folder: Path, progress: Progress) -> None:
    """Fill `folder` with config.json, model.safetensors and the tokenizer's files.

    Raises `ModelError` alone for whatever the file holds, `OSError` for a disk that takes no more.
    """
    try:
        _convert(path, folder, progress)
    except (ModelError, OSError):
        raise
    # Bytes of strangers go through three libraries: none of them says what it may raise.
    except Exception as error:
        raise ModelError(
            f"{path} is torn or garbled ({type(error).__name__}): fetch it again"
        ) from error


def _convert(path: Path, folder: Path, progress: Progress) -> None:
    reader = _open(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(f"{path} holds a {architecture}: only Llama-family GGUF files load")
    by_name = {str(tensor.name): tensor for tensor in reader.tensors}
    config = _config(path, metadata, has_head="output.weight" in by_name)
    frequencies = by_name.pop("rope_freqs.weight", None)
    factors = None if frequencies is None else _values(path, frequencies)
    config["rope_scaling"] = _rope_scaling(path, metadata, factors)
    _check(path, folder, config)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, NDArray[np.float32]] = {}
    for n, (known_as, tensor) in enumerate(by_name.items()):
        if n % 30 == 0:
            progress(f"dequantising tensor {n + 1} of {len(by_name)}")
        name, part = _name(path, known_as)
        values = _values(path, tensor)
        tensors[name] = _unpermuted(values, heads[part]) if part in heads else values
    progress("writing the model folder")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_tokenizer(path, metadata, folder)


def _open(path: Path) -> GGUFReader:
    try:
        return _StrictReader(path)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: point `model` at a .gguf file or a folder") from None
    except Exception as error:
        raise ModelError(f"{path} is torn or no GGUF file: fetch it again") from error


def _config(path: Path, metadata: Mapping[str, Any], *, has_head: bool) -> dict[str, Any]:
    for name in _UNKNOWN:
        if value := metadata.get(f"llama.{name}"):
            raise ModelError(
                f"{path} has {name} {value!r}, which this engine lacks: no other form will run"
            )
    try:
        heads, hidden = metadata["llama.attention.head_count"], metadata["llama.embedding_length"]
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "num_hidden_layers": metadata["llama.block_count"],
            "hidden_size": hidden,
            "intermediate_size": metadata["llama.feed_forward_length"],
            "num_attention_heads": heads,
            "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
            "head_dim": _head_dim(path, metadata, hidden // heads),
            "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
            "max_position_embeddings": metadata["llama.context_length"],
            "rms_norm_eps": _short(metadata["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": _short(metadata.get("llama.rope.freq_base", 10000.0)),
            "tie_word_embeddings": not has_head,
            "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": end_tokens(metadata) or None,
        }
    except KeyError as error:
        raise ModelError(f"{path} lacks {error}: fetch it again") from error


def _head_dim(path: Path, metadata: Mapping[str, Any], usual: int) -> int:
    head_dim: int = metadata.get("llama.attention.key_length", usual)
    for name in ("attention.value_length", "rope.dimension_count"):
        if (other := metadata.get(f"llama.{name}", head_dim)) != head_dim:
            raise ModelError(
                f"{path} has {name} {other} where a head's keys have {head_dim}: "
                "this engine runs models where all three are equal"
            )
    return head_dim


def _rope_scaling(
    path: Path, metadata: Mapping[str, Any], factors: NDArray[np.float32] | None
) -> dict[str, Any] | None:
    """As llama.cpp reads it: a factor without a type is linear, and beside it a tensor divides."""
    kind = metadata.get("llama.rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ModelError(f"{path} has rope scaling {kind}: use its Hugging Face folder")
    factor = metadata.get("llama.rope.scaling.factor") or metadata.get("llama.rope.scale_linear")
    stretch = 1.0 if kind == "none" or not factor else float(factor)
    if factors is not None:
        divisors = [one * stretch for one in factors.reshape(-1).tolist()]
        return {"rope_type": GGUF_ROPE, "divisors": divisors}
    return None if stretch == 1.0 else {"rope_type": "linear", "factor": stretch}


def _check(path: Path, folder: Path, config: dict[str, Any]) -> None:
    """Write config.json and read it as a start would: before gigabytes are dequantised."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    try:
        load_config(folder)
    except ModelError as error:
        reason = str(error).replace(str(folder / "config.json"), "its metadata")
        raise ModelError(f"{path} cannot be used: {reason}") from error


def _short(value: float) -> float:
    """GGUF keeps float32: 9.999999747378752e-06 was written as 1e-05."""
    return float(f"{value:.6g}") if math.isfinite(value) else value


def _name(path: Path, name: str) -> tuple[str, str]:
    """Hugging Face's name, and GGUF's name of the part."""
    if name in _TOP:
        return _TOP[name], name
    pieces = name.split(".")
    if len(pieces) == 4 and pieces[0] == "blk" and pieces[2] in _LAYER:
        return f"model.layers.{pieces[1]}.{_LAYER[pieces[2]]}.{pieces[3]}", pieces[2]
    raise ModelError(f"{path} has a tensor {name} that no Llama has: use its Hugging Face folder")


def _values(path: Path, tensor: Any) -> NDArray[np.float32]:
    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"{path}: {tensor.name} is torn or of an unknown type") from error
    return np.ascontiguousarray(values, dtype=np.float32)


def _unpermuted(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp interleaves the two rotary halves of each head's rows; Hugging Face stacks them."""
    rest = values.shape[1:]
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *rest)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
