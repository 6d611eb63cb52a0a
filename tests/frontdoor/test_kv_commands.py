"""`kv plan`: what it prints agrees with the plan, and what it cannot read is said in one line."""

import json

import pytest

LLAMA_7B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_7B))
    return path


def test_the_plan_of_llama_7b_is_the_known_one(cli, config):
    told = json.loads(cli("kv", "plan", config, "--json", "--users", 10).stdout)
    assert told["bytes_per_token"] == 512 * 1024
    assert told["bytes_per_token_by_dtype"]["fp8_e4m3"] == 256 * 1024
    assert {"tokens": 2048, "bytes": 2**30, "fit": 24} in told["sequences"]
    assert told["tokens"] == 24 * 2048
    assert told["sharing"] == {
        "users": 10,
        "tokens": 2048,
        "prefix": 1024,
        "bytes_apart": 10 * 2**30,
        "bytes_together": 10 * 2**30 - 9 * 2**29,
        "bytes_saved": 9 * 2**29,
    }


def test_a_folder_and_a_short_dtype_will_do(cli, config):
    shown = cli("kv", "plan", config.parent, "--dtype", "fp8", "--memory", "16 GiB").stdout
    assert "32 heads x 128 x 1 = 262,144 bytes" in shown
    assert "16 GiB hold 4,096 blocks of 16 tokens: 65,536 tokens" in shown
    assert "MHA (this model)" in shown
    assert "32 users of 2,048 tokens, 1,024 of them shared: 8.25 GiB instead of 16 GiB" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dtype", "int4"), "--dtype is not known: use auto, float32"),
        (("--memory", "much"), '--memory takes a size such as "512MiB"'),
        (("--memory", "1MiB"), "--memory holds not one block of 8,388,608 bytes"),
        (("--length", "9000"), "--length 9000 must hold the --prefix and be within"),
        (("--length", "100", "--prefix", "101"), "--length 100 must hold the --prefix"),
    ],
)
def test_what_cannot_be_planned_is_said(cli, config, options, words):
    result = cli("kv", "plan", config, *options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_an_unknown_model_is_named(cli, config):
    config.write_text(json.dumps(LLAMA_7B | {"model_type": "mamba"}))
    result = cli("kv", "plan", config)
    assert result.exit_code == 2
    assert "model_type is 'mamba'" in result.stderr
    missing = cli("kv", "plan", config.parent / "nowhere")
    assert missing.exit_code == 2


def test_its_help_has_an_example(cli):
    assert "radixroute kv plan" in cli("kv", "plan", "--help").stdout
