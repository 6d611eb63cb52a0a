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
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file

from radixroute.worker.errors import ModelError
from radixroute.worker.model.gguf_tokenizer import write_tokenizer

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


def convert(path: Path, folder: Path, progress: Progress) -> None:
    """Fill `folder` with config.json, model.safetensors and the tokenizer's files."""
    reader = _open(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(f"{path} holds a {architecture}: only Llama-family GGUF files load")
    config = _config(
        path, metadata, has_head=any(t.name == "output.weight" for t in reader.tensors)
    )
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, NDArray[np.float32]] = {}
    for n, tensor in enumerate(reader.tensors):
        if n % 30 == 0:
            progress(f"dequantising tensor {n + 1} of {len(reader.tensors)}")
        name, part = _name(path, str(tensor.name))
        values = _values(path, tensor)
        tensors[name] = _unpermuted(values, heads[part]) if part in heads else values
    progress("writing the model folder")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_tokenizer(path, metadata, folder)


def _open(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: point `model` at a .gguf file or a folder") from None
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise ModelError(f"{path} is torn or no GGUF file: fetch it again") from error


def _config(path: Path, metadata: Mapping[str, Any], *, has_head: bool) -> dict[str, Any]:
    scaling = metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ModelError(f"{path} has rope scaling {scaling}: use its Hugging Face folder")
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
            "head_dim": metadata.get("llama.attention.key_length", hidden // heads),
            "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
            "max_position_embeddings": metadata["llama.context_length"],
            "rms_norm_eps": _short(metadata["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": _short(metadata.get("llama.rope.freq_base", 10000.0)),
            "tie_word_embeddings": not has_head,
            "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        }
    except KeyError as error:
        raise ModelError(f"{path} lacks {error}: fetch it again") from error


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
