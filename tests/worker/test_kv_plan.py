"""The plan of KV memory: known models to the byte, windows, sharing, and files it refuses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.worker.errors import ModelError
from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.kv.plan import KVPlan, bytes_by_format, live_blocks, variants
from radixroute.worker.model.kv.shape import read_shape

GIB = 2**30
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}
LLAMA_70B = LLAMA | {
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_size": 8192,
}
SMOLLM2 = LLAMA | {
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "torch_dtype": "bfloat16",
}
MISTRAL = LLAMA | {"model_type": "mistral", "num_key_value_heads": 8, "sliding_window": 4096}
GPT2 = {
    "model_type": "gpt2",
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "n_positions": 1024,
}
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2",
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}
GEMMA2 = LLAMA | {
    "model_type": "gemma2",
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_size": 2304,
    "sliding_window": 4096,
}


@pytest.fixture
def shape_of(tmp_path):
    def read(config):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return read_shape(path)

    return read


@pytest.fixture
def plan_of(shape_of):
    def plan(config, kv_format="float16", *, block_size=16, memory=24 * GIB):
        return KVPlan(shape_of(config), FORMATS[kv_format], block_size, memory)

    return plan


def test_llama_7b_takes_512_kib_a_token_in_fp16(plan_of):
    plan = plan_of(LLAMA)
    assert plan.bytes_per_token == 512 * 1024
    assert plan.sequence_bytes(2048) == GIB
    assert plan.n_tokens == 24 * 2048
    assert plan.sequences(2048) == 24
    assert plan.formula() == "2 (K, V) x 32 layers x 32 heads x 128 x 2 = 524,288 bytes"


@pytest.mark.parametrize(
    ("n_tokens", "fp16_bytes"),
    [
        (1024, 335_544_320),
        (2048, 671_088_640),
        (4096, 1_342_177_280),  # 1.34 GB
        (8192, 2_684_354_560),
        (16384, 5_368_709_120),
    ],
)
def test_llama_70b_with_grouped_queries_from_1_k_to_16_k(plan_of, n_tokens, fp16_bytes):
    assert plan_of(LLAMA_70B).sequence_bytes(n_tokens) == fp16_bytes
    assert plan_of(LLAMA_70B, "fp8_e4m3").sequence_bytes(n_tokens) == fp16_bytes // 2


def test_llama_7b_in_fp8_takes_half(plan_of):
    plan = plan_of(LLAMA, "fp8_e4m3")
    assert plan.bytes_per_token == 256 * 1024
    assert plan.sequence_bytes(2048) == GIB // 2
    assert plan.sequences(2048) == 48


def test_int8_has_a_scale_for_each_token_and_head(plan_of):
    plan = plan_of(LLAMA, "int8")
    assert plan.bytes_per_token == 2 * 32 * 32 * (128 + 4)
    assert plan.formula().startswith("2 (K, V) x 32 layers x 32 heads x (128 x 1 + 4 of scale) =")


def test_known_models_say_their_variant_and_bytes(shape_of):
    told = {
        name: (shape.family, shape.variant, bytes_by_format(shape.layouts)[shape.dtype.name])
        for name, shape in (
            (name, shape_of(config))
            for name, config in {
                "7b": LLAMA,
                "70b": LLAMA_70B,
                "smollm2": SMOLLM2,
                "gpt2": GPT2,
                "starcoder": GPT2 | {"model_type": "gpt_bigcode"},
                "v2-lite": DEEPSEEK_V2_LITE,
            }.items()
        )
    }
    assert told == {
        "7b": ("llama", "MHA", 524_288),
        "70b": ("llama", "GQA", 327_680),
        "smollm2": ("llama", "GQA", 23_040),
        "gpt2": ("gpt2", "MHA", 36_864),
        "starcoder": ("gpt_bigcode", "MQA", 3_072),
        "v2-lite": ("deepseek_v2", "MLA", 27 * 576 * 2),
    }


def test_variants_of_one_model_at_its_width(shape_of):
    def fp16(config):
        return {
            name: bytes_by_format(layouts)["float16"]
            for name, layouts in variants(shape_of(config)).items()
        }

    assert fp16(LLAMA) == {"MHA": 524_288, "GQA": 131_072, "MQA": 16_384}
    assert fp16(LLAMA_70B) == {"MHA": 2_621_440, "GQA": 327_680, "MQA": 40_960}
    lite = fp16(DEEPSEEK_V2_LITE)
    assert lite["MLA"] == 31_104
    assert lite["MHA"] == 27 * 16 * (192 + 128) * 2


def test_of_a_window_only_its_blocks_are_held(plan_of):
    plan = plan_of(MISTRAL)
    per_token = 2 * 32 * 8 * 128 * 2
    assert plan.sequence_bytes(4096) == 4096 * per_token
    # The next token sees 4,095 before it: its window begins inside a block or at its first token.
    assert plan.sequence_bytes(100_000) == 4096 * per_token
    assert plan.sequence_bytes(100_007) == (4096 + 16) * per_token
    assert "(window 4,096)" in plan.formula()


def test_layers_with_and_without_a_window_are_counted_apart(plan_of):
    plan = plan_of(GEMMA2)
    half = 13 * 2 * 4 * 256 * 2
    assert plan.bytes_per_token == 2 * half
    assert plan.sequence_bytes(8192) == 8192 * half + 4096 * half


def test_a_window_that_is_switched_off_is_none(shape_of):
    qwen = LLAMA | {"model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": False}
    assert [layout.window for layout in shape_of(qwen).layouts] == [None]
    switched_on = qwen | {"use_sliding_window": True, "max_window_layers": 28}
    assert [(one.n_layers, one.window) for one in shape_of(switched_on).layouts] == [
        (28, None),
        (4, 32768),
    ]


def test_a_shared_prefix_is_held_once(plan_of):
    sharing = plan_of(LLAMA).sharing(10, 1000, 2048)
    shared = 62 * 16 * 512 * 1024  # full blocks of the prefix
    assert (sharing.apart, sharing.together) == (10 * GIB, 10 * GIB - 9 * shared)
    assert sharing.saved == 9 * shared


def test_of_a_prefix_that_left_the_window_nothing_is_saved(plan_of):
    assert plan_of(MISTRAL).sharing(10, 1000, 9000).saved == 0


@given(
    n_tokens=st.integers(0, 400),
    block_size=st.integers(1, 40),
    window=st.none() | st.integers(1, 100),
)
@settings(max_examples=100, deadline=None)
def test_live_blocks_are_those_that_the_next_token_sees(n_tokens, block_size, window):
    first_seen = 0 if window is None else max(0, n_tokens - window + 1)
    seen = {position // block_size for position in range(first_seen, n_tokens)}
    live = set(live_blocks(n_tokens, block_size, window))
    assert seen <= live
    # One more at most: the block of which the window has just left all but the token to come.
    assert len(live - seen) <= (window == 1 and n_tokens % block_size > 0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LLAMA | {"model_type": "mamba2"}, "model_type is 'mamba2'"),
        ({"architectures": ["X"]}, "model_type is 'None'"),
        (LLAMA | {"num_hidden_layers": None}, "num_hidden_layers is None"),
        (GEMMA2 | {"layer_types": ["linear_attention"] * 26}, "layer_types"),
    ],
)
def test_what_it_does_not_understand_is_refused_by_name(shape_of, config, words):
    with pytest.raises(ModelError, match=words):
        shape_of(config)


def test_the_text_part_of_a_larger_model_is_planned(shape_of):
    assert shape_of({"model_type": "gemma3", "text_config": LLAMA}).family == "llama"
