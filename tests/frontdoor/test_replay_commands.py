"""The group `replay`: workloads written to files, and its rule for a default command."""

import gzip
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from radixroute.cli.replay.command import ReplayGroup
from radixroute.replay.synth.workloads import KINDS, shape_of, synthesize
from radixroute.replay.traces.files import read_trace


def test_the_group_and_its_command_show_what_they_do(cli):
    assert re.search(r"\breplay\b", cli("--help").stdout)
    shown = cli("replay", "synth", "--help")
    assert shown.exit_code == 0
    assert "Example: radixroute replay synth" in shown.stdout
    assert all(kind in shown.stdout for kind in KINDS)


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_a_workload_is_written_as_asked(cli, name):
    result = cli(
        *("replay", "synth", "chats", "-o", name, "--seed", 3, "--requests", 50),
        *("--set", "think_s=5", "--set", "turns = 2"),
    )
    assert result.exit_code == 0, result.stderr
    shape = shape_of("chats", {"requests": "50", "think_s": "5", "turns": "2"})
    trace = synthesize("chats", 3, shape)
    assert read_trace(Path(name)).trace.digest == trace.digest
    assert f"50 requests, {trace.prompt_tokens:,} prompt tokens, digest {trace.digest}" in (
        result.stdout
    )
    assert name in result.stdout


def test_compressed_files_of_equal_workloads_are_equal(cli):
    for name in ("a.gz", "b.gz"):
        cli("replay", "synth", "rag", "-o", name, "--requests", 20)
    assert Path("a.gz").read_bytes() == Path("b.gz").read_bytes()
    assert Path("a.gz").read_bytes()[4:8] == bytes(4)  # no time of writing
    cli("replay", "synth", "rag", "-o", "plain", "--requests", 20)
    assert gzip.decompress(Path("a.gz").read_bytes()) == Path("plain").read_bytes()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("chat",), "no workload is called chat"),
        (("chats", "--set", "think"), "--set think: write NAME=VALUE"),
        (("chats", "--set", "think=1"), "did you mean think_s?"),
        (("chats", "--requests", "0"), "requests: a number above 0"),
        (("chats", "--seed", "-1"), "a seed is 0 or more"),
        (("chats", "-o", "no/where"), "no/where cannot be written: No such file"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_one_line_and_exit_code_2(cli, args, reason):
    result = cli("replay", "synth", "-o", "x", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("radixroute: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def group(*names):
    """A group like ours, whose commands say that they ran."""
    app = typer.Typer(cls=ReplayGroup, no_args_is_help=True)

    def add(name):
        @app.command(name)
        def command(words: list[str], speed: float = 1.0) -> None:
            typer.echo(f"{name} {words} {speed}")

    app.callback()(lambda: None)
    for name in names:
        add(name)
    return lambda *args: CliRunner().invoke(app, args)


def test_words_that_name_no_command_go_to_the_default_one():
    call = group("run", "synth")
    assert call("t.jsonl").stdout == "run ['t.jsonl'] 1.0\n"
    assert call("--speed", "2", "t.jsonl").stdout == "run ['t.jsonl'] 2.0\n"
    assert call("run", "t.jsonl").stdout == "run ['t.jsonl'] 1.0\n"
    assert call("synth", "chats").stdout == "synth ['chats'] 1.0\n"
    assert "Commands" in call("--help").stdout


def test_without_a_default_command_an_unknown_word_is_refused():
    result = group("synth")("t.jsonl")
    assert result.exit_code == 2
    assert "No such command 't.jsonl'" in result.stderr


def test_a_mistyped_command_of_replay_is_told_as_one(cli, tmp_path):
    result = cli("replay", "sytnh", "chats", "-o", "x.jsonl")
    assert result.exit_code == 2
    assert "there is no file sytnh and no command; did you mean `replay synth`?" in result.stderr
    (tmp_path / "sytnh").write_text("{}")  # a file of that name is a trace
    assert "did you mean" not in cli("replay", "sytnh").stderr
    assert "did you mean" not in cli("replay", "trace.jsonl").stderr


def test_the_help_of_replay_shows_that_a_trace_needs_no_command(cli):
    shown = " ".join(cli("replay", "--help").stdout.split())
    assert "replay TRACE [OPTIONS] | COMMAND [ARGS]..." in shown
    assert "`radixroute replay TRACE` is `radixroute replay run TRACE`" in shown


@pytest.fixture
def trace_file(cli):
    cli("replay", "synth", "chats", "-o", "t.jsonl", "--requests", 40)
    return "t.jsonl"


def test_a_fleet_is_disturbed_and_shared_by_several_routers(cli, trace_file):
    result = cli(
        *("replay", trace_file, "--workers", 3, "--policy", "round_robin"),
        *("--disturb", "0:x3@5,1:die@10,1:join@20", "--routers", 2, "--routers-by", "hash"),
    )
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--disturb", "0:slow@5"), "write WORKER:WHAT@SECONDS"),
        (("--disturb", "9:die@5"), "there is no worker 9 at 5 s"),
        (("--routers", "0"), "at least 1 router"),
        (("--routers", "2", "--routers-by", "luck"), "round_robin or hash"),
    ],
    ids=str,
)
def test_fleets_that_cannot_be_are_one_line_and_exit_code_2(cli, trace_file, args, reason):
    result = cli("replay", trace_file, *args)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
