"""Commands look whether there is anything to do before they compile a kernel: that takes long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of their own, one after the other: in this one kernels are loaded already.
_RUN = """
import json, sys
from typer.testing import CliRunner
from radixroute.cli.app import app
for command in json.load(sys.stdin):
    result = CliRunner().invoke(app, command)
    loaded = [name for name in sys.modules if name.startswith("radixroute.") and "kernels" in name]
    print(json.dumps((result.exit_code, loaded, result.stderr or result.output)))
"""
_TRACE = str(Path(__file__).resolve().parents[2] / "bench/data/conversation_trace.jsonl.gz")
_NOBODY = "127.0.0.1:1"  # nobody listens there


_CASES = [
    (("events", "record", "{tmp}/new.rrev", "--router", _NOBODY), "no router answers"),
    (("events", "record", "{tmp}/new.rrev", "--worker", _NOBODY), "127.0.0.1:1"),
    (("events", "show", "{tmp}/none.rrev"), "cannot read"),
    (("replay", "run", "{tmp}/none.jsonl"), "cannot be read"),
    (("replay", "run", _TRACE, "--live", _NOBODY), "no router answers"),
    (("replay", "run", _TRACE, "--policy", "best"), "unknown policy"),
    (("submit", "hello", "--router", _NOBODY), "no router answers"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Exit code, modules of kernels loaded so far and what was said, of each command."""
    folder = tmp_path_factory.mktemp("commands")
    commands = [[one.format(tmp=folder) for one in arguments] for arguments, _ in _CASES]
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("RADIXROUTE_")},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(_CASES)), ids=lambda n: " ".join(_CASES[n][0][:2]))
def test_what_cannot_be_done_is_said_before_anything_compiles(told, number):
    exit_code, loaded, said = told[number]
    assert exit_code in (1, 2), said
    assert loaded == []
    assert _CASES[number][1] in said
