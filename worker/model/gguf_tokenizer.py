"""GGUF tokenizer: the one inside a GGUF file, written as `tokenizer.json` and its config.

Owns the list of known pre-tokenizers; any other is refused by name. Byte-level BPE only. Called
by `gguf_file`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from radixroute.worker.errors import ModelError

# GGUF's token_type values (llama.cpp's LLAMA_TOKEN_TYPE_*).
_CONTROL, _USER_DEFINED = 3, 4
# Llama 3's split, as its tokenizer.json has it.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Names of Llama 3's pre-tokenizer. With it llama.cpp takes a whole word that is a token before any
# merge, and begins a text with BOS unless the file says otherwise.
_LIKE_LLAMA3 = ("llama3", "llama-v3", "llama-bpe", "falcon3")
# Tokens that end an answer in llama.cpp by what they are called.
_ENDS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<EOT>",
    "_<EOT>",
)


def end_tokens(metadata: Mapping[str, Any]) -> list[int]:
    """What ends an answer: end of sequence, of a turn, of a message; stated or by name."""
    stated = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    tokens = metadata["tokenizer.ggml.tokens"]
    named = [i for i, token in enumerate(tokens) if token in _ENDS]
    return sorted({*(one for one in stated if one is not None), *named})


def write_tokenizer(path: Path, metadata: Mapping[str, Any], folder: Path) -> None:
    """Raises `ModelError` for a vocabulary that is not byte-level BPE."""
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        raise ModelError(
            f"{path} has a {metadata.get('tokenizer.ggml.model')} vocabulary, not byte-level BPE: "
            "use its Hugging Face folder"
        )
    if metadata.get("tokenizer.ggml.add_eos_token"):
        raise ModelError(
            f"{path} ends prompts with EOS (add_eos_token), which this engine does not"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    kinds = metadata.get("tokenizer.ggml.token_type") or [0] * len(tokens)
    if len(set(tokens)) != len(tokens) or len(kinds) != len(tokens):
        raise ModelError(f"{path} has a token twice, or one without a type: fetch it again")
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    ignores_merges = pre in _LIKE_LLAMA3
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignores_merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(path, pre)
    tokenizer.decoder = decoders.ByteLevel()
    ends = {tokens[i] for i in end_tokens(metadata)}
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL or t in ends]
    defined = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in defined])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(metadata, tokens, adds_bos=pre in _LIKE_LLAMA3)
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _pre_tokenizer(path: Path, name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        return byte_level
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in _LIKE_LLAMA3:
        split = pre_tokenizers.Split(Regex(_LLAMA3), behavior="isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([split, plain])
    # "default", or none at all, is llama.cpp's word for one that its converter did not know.
    raise ModelError(f"{path} has pre-tokenizer {name!r}: use its Hugging Face folder")


def _config(metadata: Mapping[str, Any], tokens: list[str], *, adds_bos: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(metadata.get("tokenizer.ggml.add_bos_token", adds_bos)),
        "model_max_length": metadata["llama.context_length"],
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            config[f"{name}_token"] = tokens[token_id]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    return config
