"""A small GGUF file of a Llama: what llama.cpp's converter would write, built independently."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIALS = ["<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "Ġ w", "1 2"]
TOKENS = [*ALPHABET, *(m.replace(" ", "") for m in MERGES), *SPECIALS]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path, model, *, quant=None, architecture="llama", pre="smollm", extra=None, more=None
):
    """`quant`: a GGMLQuantizationType for the matrices; float32 without. `more`: writes as well."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    kinds = [gguf.TokenType.NORMAL] * (len(TOKENS) - 2) + [gguf.TokenType.CONTROL] * 2
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(len(TOKENS) - 2)
    writer.add_eos_token_id(len(TOKENS) - 1)
    writer.add_chat_template(TEMPLATE)
    if more is not None:
        more(writer)
    for name, tensor in [*model.state_dict().items(), *(extra or {}).items()]:
        _add(writer, name, tensor, config, quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer, name, tensor, config, quant):
    if name == "lm_head.weight" and config.tie_word_embeddings:
        return
    values = tensor.detach().to(torch.float32).numpy().copy()
    if name.endswith("q_proj.weight"):
        values = _interleaved(values, config.num_attention_heads)
    elif name.endswith("k_proj.weight"):
        values = _interleaved(values, config.num_key_value_heads)
    target = _gguf_name(name)
    if quant is None or values.ndim == 1:
        writer.add_tensor(target, values)
    else:
        writer.add_tensor(target, gguf.quants.quantize(values, quant), raw_dtype=quant)


def _gguf_name(name):
    if not name.startswith("model.") and name not in _TOP:
        return name
    if name in _TOP:
        return _TOP[name]
    _, _, layer, *part, kind = name.split(".")
    return f"blk.{layer}.{_PARTS.get('.'.join(part), '.'.join(part))}.{kind}"


def _interleaved(rows, heads):
    """Row i of a head's first half and row i of its second half become neighbours."""
    out = np.empty_like(rows)
    head_dim = len(rows) // heads
    for row in range(len(rows)):
        head, within = divmod(row, head_dim)
        half, pair = divmod(within, head_dim // 2)
        out[head * head_dim + 2 * pair + half] = rows[row]
    return out
