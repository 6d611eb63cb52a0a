"""`radixroute replay FILE` on files as people have them: what was understood is always said."""

import json
from pathlib import Path

import pytest

from tests.request.samples import CONFIG, byte_level_json

TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
QUICK = ("--policy", "round_robin", "--workers", 1)


def said(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "options", "in_stdout", "in_stderr"),
    [
        ("bailian.jsonl", (), "format bailian, times in seconds", ""),
        ("bailian.jsonl", (), "blocks of 16 tokens; ", ""),
        ("azure2023.csv", (), "format azure ", ""),
        ("epoch_s.jsonl", (), "times in milliseconds", "look: read as milliseconds the 5 requests"),
        ("epoch_s.jsonl", ("--time-unit", "s"), "within 2 s, 2 a second; format mooncake", ""),
        ("guidellm_seconds.jsonl", (), "2,000 a second", "is another unit meant? --time-unit s"),
        ("zero_output.jsonl", (), "repaired: 5 outputs of 0 tokens became 1", ""),
        ("unsorted.jsonl", (), "repaired: 4 rows came before one that stands above them", ""),
        ("session_empty.jsonl", (), "repaired: 3 rows name a session without a name", ""),
        ("azure_zero.csv", ("--skip-bad",), "repaired: 1 bad lines were skipped; the first: ", ""),
        ("burstgpt_fails.csv", ("--skip-bad",), "1 outputs of 0 tokens became 1", ""),
        ("no_output_length.jsonl", ("--default-output", 50), "250 output tokens (mean 50)", ""),
        ("partial_then_full.jsonl", (), "3 requests, within 2 s", ""),
        *((f"m.{name}", (), "prompt tokens can be reused", "") for name in
          ("jsonl.bz2", "jsonl.xz", "jsonl.zip", "jsonl.zst", "tar.gz")),
        ("bom.jsonl", (), "prompt tokens can be reused", ""),
    ],
)  # fmt: skip
def test_a_file_is_replayed_and_what_was_understood_is_said(
    cli, name, options, in_stdout, in_stderr
):
    run = cli("replay", TRACES / name, *QUICK, *options)
    assert run.exit_code == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line]
    assert in_stdout in said(run.stdout)
    assert "requests, " in lines[0]
    assert in_stderr in said(run.stderr)
    if not in_stderr:
        assert "look:" not in run.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BurstGPT_1_lfs.csv", "a Git LFS pointer, not the file itself of 52,283,111 bytes"),
        ("qwen_coder_blksz_16.jsonl", "run `git lfs pull`"),
        ("azure_zero.csv", "such a line is left out and counted with --skip-bad"),
        ("burstgpt_fails.csv", "and this one has none; such a line is left out"),
        ("no_output_length.jsonl", "none of 5 lines can be read; the first: output_length is"),
        ("no_output_length.jsonl", "--default-output N gives such rows N tokens"),
    ],
)
def test_a_file_that_is_none_is_one_line_with_the_way_on(cli, name, reason):
    result = cli("replay", TRACES / name, *QUICK)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"radixroute: {TRACES / name}")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_file_is_named_as_it_was_given(cli):
    result = cli("replay", "some/where/trace.jsonl")
    assert result.exit_code == 2
    assert "some/where/trace.jsonl: cannot be read: No such file" in result.stderr


def test_memory_is_given_in_tokens_whatever_the_block(cli):
    def reuse(*options):
        run = cli("replay", TRACES / "bom.jsonl", *QUICK, *options, "-o", "out")
        assert run.exit_code == 0, run.stderr
        return json.loads(Path("out/results.json").read_text())["runs"][0]["ttft_ms"]

    assert reuse("--kv-tokens", 65536) == reuse("--kv-blocks", 1024)
    assert reuse() == reuse("--kv-blocks", 16384) == reuse("--block-size", 64)
    assert reuse("--block-size", 32) == reuse("--block-size", 32, "--kv-blocks", 32768)
    both = cli("replay", TRACES / "bom.jsonl", "--kv-tokens", 5, "--kv-blocks", 5)
    assert both.exit_code == 2
    assert "--kv-tokens and --kv-blocks say the same" in both.stderr
    none = cli("replay", TRACES / "bom.jsonl", "--kv-tokens", 5)
    assert "a worker's memory of 5 tokens holds not one block of 64" in none.stderr


def test_rows_that_add_to_a_session_are_reused_and_said(cli):
    rows = [
        {"session_id": s, "timestamp": 1000 * n, "input_length": 600, "output_length": 5,
         "hash_ids": [100 * s + 10 * n, 100 * s + 10 * n + 1]}
        for n in range(3) for s in range(2)
    ]  # fmt: skip
    Path("t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    added = cli("replay", "t.jsonl", *QUICK)
    assert "taken: 4 later rows of sessions were taken as what they add" in added.stdout
    assert "0.0% of the prompt tokens can be reused" not in added.stdout
    whole = cli("replay", "t.jsonl", *QUICK, "--session-rows", "whole")
    assert "0.0% of the prompt tokens can be reused" in whole.stdout
    assert "look: 4 of 4 later rows of sessions" in whole.stderr
    assert "--session-rows increment" in whole.stderr


def test_a_log_of_chats_is_replayed_with_a_tokenizer(cli):
    said = [{"from": "human", "value": "hello " * 40}, {"from": "gpt", "value": "world"}]
    Path("chats.json").write_text(json.dumps([{"conversations": said}] * 5))
    without = cli("replay", "chats.json", *QUICK)
    assert "--tokenizer DIR" in without.stderr
    Path("model").mkdir()
    Path("model/tokenizer.json").write_bytes(byte_level_json())
    Path("model/tokenizer_config.json").write_text(json.dumps(CONFIG))
    run = cli("replay", "chats.json", *QUICK, "--tokenizer", "model", "--chat-rate", 2)
    assert run.exit_code == 0, run.stderr
    assert "format sharegpt" in run.stdout
    assert "taken: the log has no times: conversations come at random, 2 a second" in run.stdout
    assert "hello" not in run.stdout + run.stderr
    gone = cli("replay", "chats.json", "--tokenizer", "gone")
    assert gone.exit_code == 2
    assert "--tokenizer: gone is not a directory" in gone.stderr
