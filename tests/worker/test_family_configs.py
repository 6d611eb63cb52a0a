"""What each family's configuration may ask for: defaults, and refusals that name the field."""

import json
import math
from typing import Any

import pytest

from radixroute.worker.errors import ModelError
from radixroute.worker.model.registry import FAMILIES, load_config

COMMON = {
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "architectures": ["LlamaForCausalLM"]},
    "qwen3": {**COMMON, "architectures": ["Qwen3ForCausalLM"]},
    "mixtral": {
        **COMMON,
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": 3,
        "n_embd": 64,
        "n_head": 4,
        "n_positions": 512,
        "vocab_size": 100,
        "layer_norm_epsilon": 1e-5,
    },
    "deepseek_v2": {
        **COMMON,
        "architectures": ["DeepseekV2ForCausalLM"],
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "moe_intermediate_size": 24,
        "num_experts_per_tok": 2,
    },
}
# Numbers that one token of three layers keeps.
FEATURES = {
    "llama": 3 * 2 * 64,
    "qwen3": 3 * 2 * 4 * 128,
    "mixtral": 3 * 2 * 64,
    "gpt2": 3 * 2 * 64,
    "deepseek_v2": 3 * (32 + 8),
}


@pytest.fixture
def load(tmp_path):
    def write_and_load(family, **changes):
        (tmp_path / "config.json").write_text(json.dumps({**CONFIGS[family], **changes}))
        return load_config(tmp_path)

    return write_and_load


def test_every_family_is_here():
    named = {config["architectures"][0] for config in CONFIGS.values()}
    assert all(named & {*family.architectures} for family in FAMILIES)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_small_configuration_says_what_a_token_keeps(load, family):
    config = load(family)
    assert config.layout.features_per_token == FEATURES[family]
    assert (config.n_layers, config.vocab_size, config.max_position) == (3, 100, 512)
    assert config.tied_embeddings == (family == "gpt2")


def test_defaults_are_each_familys_own(load):
    assert load("mixtral").rope.theta == 1e6
    assert load("mixtral", rope_theta=5e5).rope.theta == 5e5
    assert load("qwen3", head_dim=32).layout.planes[0].width == 32
    assert load("gpt2", n_inner=None).intermediate == 256
    assert load("deepseek_v2").n_dense == 0
    assert load("deepseek_v2", q_lora_rank=24).attention.query_rank == 24


REFUSED = [
    ("qwen3", "use_sliding_window", True),
    ("qwen3", "hidden_act", "gelu"),
    ("qwen3", "head_dim", 15),
    ("mixtral", "sliding_window", 4096),
    ("mixtral", "num_local_experts", 0),
    ("mixtral", "num_experts_per_tok", 9),
    ("gpt2", "activation_function", "relu"),
    ("gpt2", "scale_attn_weights", False),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ("gpt2", "reorder_and_upcast_attn", True),
    ("gpt2", "add_cross_attention", True),
    ("gpt2", "n_embd", 66),
    ("gpt2", "n_positions", None),
    ("deepseek_v2", "topk_method", "group_limited_greedy"),
    ("deepseek_v2", "scoring_func", "sigmoid"),
    ("deepseek_v2", "norm_topk_prob", True),
    ("deepseek_v2", "moe_layer_freq", 2),
    ("deepseek_v2", "num_key_value_heads", 2),
    ("deepseek_v2", "qk_rope_head_dim", 7),
    ("deepseek_v2", "kv_lora_rank", None),
    ("deepseek_v2", "first_k_dense_replace", -1),
    ("deepseek_v2", "num_experts_per_tok", 9),
    ("deepseek_v2", "routed_scaling_factor", math.nan),
]


@pytest.mark.parametrize(("family", "key", "value"), REFUSED)
def test_what_a_family_does_not_compute_is_refused_by_name(load, family, key, value):
    with pytest.raises(ModelError, match="sliding" if "sliding" in key else key):
        load(family, **{key: value})


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("key", ["quantization_config", "quantization", "compression_config"])
def test_quantised_folders_are_refused_by_name(load, family, key):
    with pytest.raises(ModelError, match=f"{key}.*quantised"):
        load(family, **{key: {"bits": 4}})


@pytest.mark.parametrize("family", CONFIGS)
def test_every_value_of_any_type_gives_a_configuration_or_one_kind_of_error(load, family):
    keys = [*CONFIGS[family], "rope_parameters", "head_dim", "hidden_act", "topk_method"]
    values: list[object] = [None, True, 0, -1, 2**70, 1.5, math.nan, "x", [], [[]], {"type": []}]
    for key in keys:
        for value in values:
            try:
                load(family, **{key: value})
            except ModelError:
                continue
