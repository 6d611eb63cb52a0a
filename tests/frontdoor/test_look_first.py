"""Commands look whether there is anything to do before they compile a kernel: that takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: in this one kernels are loaded already. The address is nobody's.
_RUN = """
import sys
from typer.testing import CliRunner
from radixroute.cli.app import app
result = CliRunner().invoke(app, sys.argv[1:])
assert result.exit_code in (1, 2), (result.exit_code, result.output)
loaded = [name for name in sys.modules if name.startswith("radixroute.") and "kernels" in name]
assert loaded == [], loaded
print(result.stderr or result.output)
"""
_TRACE = str(Path(__file__).resolve().parents[2] / "bench/data/conversation_trace.jsonl.gz")
_NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("events", "record", "{tmp}/new.rrev", "--router", _NOBODY), "no router answers"),
        (("events", "record", "{tmp}/new.rrev", "--worker", _NOBODY), "127.0.0.1:1"),
        (("events", "show", "{tmp}/none.rrev"), "cannot read"),
        (("replay", "run", "{tmp}/none.jsonl"), "cannot be read"),
        (("replay", "run", _TRACE, "--live", _NOBODY), "no router answers"),
        (("replay", "run", _TRACE, "--policy", "best"), "unknown policy"),
        (("submit", "hello", "--router", _NOBODY), "no router answers"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_before_anything_compiles(arguments, answer, tmp_path):
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout
