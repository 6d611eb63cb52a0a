"""Small random models of every family, and the ids that `transformers` gives with each.

Untied, `initializer_range` 0.1: with less, attention is nearly uniform and hides a wrong cache.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

VOCAB, N_NEW, PROMPT_LEN = 1000, 64, 30
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
}

# As DeepSeek-V2's own, but for lengths.
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.9,
    "mscale_all_dim": 0.5,
    "original_max_position_embeddings": 32,
}
MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 48,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "first_k_dense_replace": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 40,
    "routed_scaling_factor": 1.5,
}


@dataclass(frozen=True)
class Row:
    """One model of a family, as `transformers` makes it."""

    name: str
    architecture: str
    changes: dict[str, object]
    drops: tuple[str, ...] = ()  # of the common sizes, those that it does not have


ROWS = (
    Row("llama", "LlamaForCausalLM", {}),
    Row("mqa", "LlamaForCausalLM", {"num_key_value_heads": 1}),
    Row("mistral", "MistralForCausalLM", {"sliding_window": None}),
    Row("qwen2", "Qwen2ForCausalLM", {}),
    Row("qwen3", "Qwen3ForCausalLM", {"head_dim": 24}),
    Row(
        "gpt2",
        "GPT2LMHeadModel",
        {"hidden_size": 192},
        drops=("intermediate_size", "num_key_value_heads"),
    ),
    Row("mixtral", "MixtralForCausalLM", {"num_local_experts": 5, "intermediate_size": 96}),
    Row("deepseek_v2", "DeepseekV2ForCausalLM", {**MLA, "q_lora_rank": None}),
    Row(
        "deepseek_v2_full",
        "DeepseekV2ForCausalLM",
        {
            **MLA,
            "q_lora_rank": 56,
            "attention_bias": True,
            "rope_parameters": YARN,
            "hidden_size": 160,
        },
    ),
)


def random_model(folder: Path, row: Row) -> Any:
    """Saves it too. Norms, biases and routers are random as well: else they would not be missed."""
    made = getattr(transformers, row.architecture)
    sizes = {name: value for name, value in SIZES.items() if name not in row.drops}
    torch.manual_seed(3)
    model = made(made.config_class(**{**sizes, **row.changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            elif parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("gate.weight"):
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    return model


def prompts() -> list[list[int]]:
    """Two pairs that share more than half of their tokens."""
    rng = np.random.default_rng(8)
    trunks = rng.integers(0, VOCAB, (2, 17)).tolist()
    tails = rng.integers(0, VOCAB, (4, PROMPT_LEN - 17)).tolist()
    return [trunks[i // 2] + tail for i, tail in enumerate(tails)]


@torch.no_grad()
def greedy(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The next `N_NEW` ids after each."""
    ids = torch.tensor(prompts)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=N_NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return found
