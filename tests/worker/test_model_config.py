"""config.json as folders of different years write it: the same model gives the same sizes."""

import json

import pytest

from radixroute.worker.errors import ModelError
from radixroute.worker.model.config import RopeScaling, load_config

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 2,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
SCALING = RopeScaling(8.0, 1.0, 4.0, 256)


@pytest.fixture
def load(tmp_path):
    def write_and_load(without=(), **changes):
        raw = {key: value for key, value in {**LLAMA, **changes}.items() if key not in without}
        (tmp_path / "config.json").write_text(json.dumps(raw))
        return load_config(tmp_path)

    return write_and_load


def test_what_a_folder_leaves_out_follows_from_the_rest(load):
    config = load()
    assert (config.n_kv_heads, config.head_dim) == (4, 16)
    assert (config.rope_theta, config.rope_scaling) == (10000.0, None)
    switches = (config.tied_embeddings, config.qkv_bias, config.output_bias, config.mlp_bias)
    assert switches == (False,) * 4
    assert config.kv_bytes_per_token(itemsize=4) == 2 * 3 * 4 * 16 * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3}},
    ],
    ids=["beside the sizes", "older key", "in one record"],
)
def test_rope_settings_are_found_wherever_they_stand(load, changes):
    config = load(**changes)
    assert (config.rope_theta, config.rope_scaling) == (5e5, SCALING)


def test_biases_are_where_each_kind_has_them(load):
    qwen = load(architectures=["Qwen2ForCausalLM"])
    assert (qwen.qkv_bias, qwen.output_bias) == (True, False)
    llama = load(attention_bias=True)
    assert (llama.qkv_bias, llama.output_bias) == (True, True)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
        ({"architectures": None}, "none"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}, "sliding-window"),
        ({"use_sliding_window": True, "sliding_window": 64}, "sliding-window"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"),
        ({"hidden_size": "many"}, "many"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(load, changes, word):
    with pytest.raises(ModelError, match=word):
        load(**changes)


def test_a_window_that_is_switched_off_is_no_window(load):
    assert load(use_sliding_window=False, sliding_window=4096).n_layers == 3
    assert load(architectures=["MistralForCausalLM"], sliding_window=None).n_layers == 3


REQUIRED = [key for key in LLAMA if key not in ("architectures", "eos_token_id")]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_size_is_named(load, key):
    with pytest.raises(ModelError, match=key):
        load(without=[key])


@pytest.mark.parametrize(("eos", "ids"), [(None, ()), (7, (7,)), ([7, 9], (7, 9))])
def test_end_tokens_may_be_none_one_or_several(load, eos, ids):
    assert load(eos_token_id=eos).eos_token_ids == ids
