"""`radixroute replay plan`: a table, an answer in words, and JSON."""

import json
from pathlib import Path

import pytest

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}


@pytest.fixture
def trace(cli):
    assert cli("replay", "synth", "chats", "-o", "t.jsonl", "--requests", 60).exit_code == 0
    return "t.jsonl"


SMALL = ("--kv-tokens", "64k,0.125m", "--policy", "radix,round_robin", "--max-workers", 8)


def test_the_least_fleets_are_shown_and_told(cli, trace):
    Path("config.json").write_text(json.dumps(CONFIG))
    shown = cli("replay", "plan", trace, "--ttft-ms", 200, *SMALL, "--model", "config.json")
    assert shown.exit_code == 0, shown.stderr
    assert "60 requests" in shown.stdout
    assert "TTFT p90 <= 200 ms" in shown.stdout
    assert "Fewest workers: " in shown.stdout
    assert "KV tokens (32.0 GiB) with " in shown.stdout
    told = cli("replay", "plan", trace, "--ttft-ms", 200, *SMALL, "--json")
    found = json.loads(told.stdout)
    assert [(one["policy"], one["kv_tokens"]) for one in found["fleets"]] == [
        ("radix", 65536), ("radix", 131072), ("round_robin", 65536), ("round_robin", 131072),
    ]  # fmt: skip
    assert all(one["meets"] == (one["ttft_ms"] <= 200) for one in found["fleets"])
    assert any(one["is_on_frontier"] for one in found["fleets"])
    assert found["trace"]["requests"] == 60


def test_goals_that_no_fleet_meets_are_told(cli, trace):
    shown = cli("replay", "plan", trace, "--ttft-ms", 1, *SMALL)
    assert shown.exit_code == 0, shown.stderr
    assert "No fleet of 8 workers or fewer keeps to TTFT p90 <= 1 ms" in shown.stdout
    assert "> 8" in shown.stdout


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((), "a plan needs a goal: --ttft-ms, --itl-ms or both"),
        (("--ttft-ms", "5", "--ttft-at", "p95"), "cannot be of p95"),
        (("--ttft-ms", "5", "--policy", "best"), "--policy: unknown policy"),
        (("--ttft-ms", "5", "--kv-tokens", "much"), "--kv-tokens much: write numbers"),
        (("--ttft-ms", "5", "--kv-tokens", "0k"), "write numbers of tokens above 0"),
        (("--ttft-ms", "5", "--kv-tokens", "10"), "no memory of 10 tokens"),
        (("--ttft-ms", "5", "--block-size", "48"), "must divide that"),
        (("--ttft-ms", "5", "--model", "none"), "none"),
        (("--ttft-ms", "5", "--timing", "magic"), "unknown timing"),
    ],
    ids=str,
)
def test_what_makes_no_plan_is_one_line_and_exit_code_2(cli, trace, args, reason):
    result = cli("replay", "plan", trace, *args)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
