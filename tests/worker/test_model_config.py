"""config.json as folders of different years write it: the same model gives the same sizes."""

import json
import math

import pytest

from radixroute.worker.errors import ModelError
from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.layers.rope import GGUF_ROPE, RopeScaling
from radixroute.worker.model.registry import load_config

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
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64}
MIXED = ["sliding_attention", "full_attention", "full_attention"]
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
    assert (config.heads.n_kv_heads, config.heads.head_dim) == (4, 16)
    assert (config.rope.theta, config.rope.scaling) == (10000.0, None)
    switches = (config.tied_embeddings, config.qkv_bias, config.output_bias, config.mlp_bias)
    assert switches == (False,) * 4
    assert config.layout.bytes_per_token(FORMATS["float32"]) == 2 * 3 * 4 * 16 * 4


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
    assert (config.rope.theta, config.rope.scaling) == (5e5, SCALING)


def test_biases_are_where_each_kind_has_them(load):
    qwen = load(architectures=["Qwen2ForCausalLM"])
    assert (qwen.qkv_bias, qwen.output_bias) == (True, False)
    llama = load(attention_bias=True)
    assert (llama.qkv_bias, llama.output_bias) == (True, True)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM"),
        ({"architectures": None}, "none"),
        ({"sliding_window": 4096}, "sliding-window"),
        (QWEN2 | {"use_sliding_window": True}, "sliding-window"),
        (QWEN2 | {"use_sliding_window": True, "layer_types": MIXED}, "sliding-window"),
        ({"use_sliding_window": True, "sliding_window": 64}, "sliding-window"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
        ({"hidden_size": "many"}, "many"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(load, changes, word):
    with pytest.raises(ModelError, match=word):
        load(**changes)


WRONG = [
    ("quantization_config", {"quant_method": "gptq", "bits": 4}),
    ("partial_rotary_factor", 0.5),
    ("rope_theta", 0),
    ("rope_theta", "many"),
    ("rope_parameters", [1]),
    ("rope_scaling", "llama3"),
    ("hidden_size", 64.5),
    ("hidden_size", 66),
    ("hidden_size", True),
    ("num_key_value_heads", 3),
    ("num_key_value_heads", 0),
    ("head_dim", 15),
    ("num_attention_heads", -4),
    ("num_hidden_layers", 10**30),
    ("max_position_embeddings", 10**12),
    ("rms_norm_eps", math.nan),
    ("rms_norm_eps", 10**400),
    ("tie_word_embeddings", "false"),
    ("attention_bias", 1),
    ("eos_token_id", {"id": 3}),
    ("eos_token_id", [2, None]),
    ("eos_token_id", True),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=str)
def test_a_value_that_no_model_has_is_refused_by_name(load, key, value):
    with pytest.raises(ModelError, match=key):
        load(**{key: value})


@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("factor", 0),
        ("factor", None),
        ("low_freq_factor", 4.0),
        ("high_freq_factor", math.inf),
        ("original_max_position_embeddings", 0),
    ],
)
def test_a_stretch_of_the_frequencies_that_divides_by_nothing_is_refused(load, where, key, value):
    with pytest.raises(ModelError, match=key):
        load(**{where: {"rope_type": "llama3", **LLAMA3, key: value}})
    if key == "factor":
        with pytest.raises(ModelError, match=key):
            load(**{where: {"rope_type": "linear", key: value}})


YARN = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("factor", None),
        ("original_max_position_embeddings", None),
        ("beta_slow", 32),
        ("mscale", "x"),
        ("attention_factor", -1),
        ("truncate", 1),
    ],
)
def test_a_yarn_that_does_not_add_up_is_refused(load, key, value):
    with pytest.raises(ModelError, match=key):
        load(rope_scaling={**YARN, key: value})


def test_the_yarn_of_deepseek_sharpens_attention(load):
    scaling = load(rope_scaling={**YARN, "mscale": 0.707, "mscale_all_dim": 0.707}).rope.scaling
    assert scaling.amplitude == 1.0
    assert scaling.sharpness == pytest.approx(1.5896, abs=1e-4)
    plain = load(rope_scaling=YARN).rope.scaling
    assert (plain.amplitude, plain.sharpness) == (pytest.approx(1.3689, abs=1e-4), 1.0)


def test_a_linear_stretch_divides_every_frequency(load):
    assert load(rope_scaling={"type": "linear", "factor": 4}).rope.divisors == (4.0,) * 8
    given = {"rope_type": GGUF_ROPE, "divisors": [1.0] * 7 + [2.0]}
    assert load(rope_scaling=given).rope.divisors == (*[1.0] * 7, 2.0)
    for wrong in ([1.0] * 7, [1.0] * 7 + [0.0], [1.0] * 7 + ["x"], 3):
        with pytest.raises(ModelError, match="divisors"):
            load(rope_scaling={**given, "divisors": wrong})


def test_every_value_of_any_type_gives_a_configuration_or_one_kind_of_error(load):
    keys = [*LLAMA, "rope_scaling", "rope_parameters", "num_key_value_heads", "sliding_window"]
    keys += ["head_dim", "hidden_act", "tie_word_embeddings", "use_sliding_window", "layer_types"]
    values: list[object] = [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        math.nan,
        "",
        "x",
        [],
        [[]],
        {},
        {"type": []},
    ]
    for key in keys:
        for value in values:
            try:
                load(**{key: value})
            except ModelError:
                continue


def test_a_window_that_is_switched_off_is_no_window(load):
    assert load(use_sliding_window=False, sliding_window=4096).n_layers == 3
    assert load(architectures=["MistralForCausalLM"], sliding_window=None).n_layers == 3
    with pytest.raises(ModelError, match="sliding"):
        load(use_sliding_window=False, sliding_window=64, layer_types=["sliding_attention"])


def test_a_window_of_every_layer_is_computed(load):
    assert load(architectures=["MistralForCausalLM"], sliding_window=64).layout.window == 64
    every = {"use_sliding_window": True, "layer_types": ["sliding_attention"] * 3}
    assert load(**QWEN2, **every).layout.window == 64


REQUIRED = [key for key in LLAMA if key not in ("architectures", "eos_token_id")]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_size_is_named(load, key):
    with pytest.raises(ModelError, match=key):
        load(without=[key])


@pytest.mark.parametrize(("eos", "ids"), [(None, ()), (7, (7,)), ([7, 9], (7, 9))])
def test_end_tokens_may_be_none_one_or_several(load, eos, ids):
    assert load(eos_token_id=eos).eos_token_ids == ids


def test_an_end_that_the_generation_configuration_leaves_open_is_the_configurations(load, tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert load(eos_token_id=[7, 9]).eos_token_ids == (7, 9)
