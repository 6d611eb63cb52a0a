"""Lines on stderr while kernels compile."""

from radixroute.cli.compile_progress import compilation_shown
from radixroute.radix.jit_progress import progress


def test_a_command_that_compiles_says_so_at_once_and_then_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "n_compiled", 0)
    monkeypatch.setattr(progress, "seconds", 0.0)
    with compilation_shown():
        for _ in range(8):
            progress.compiled(2.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("compiling kernels for this machine")
    assert [line.strip() for line in lines[1:]] == ["3 kernels compiled", "6 kernels compiled"]


def test_a_command_that_loads_everything_says_nothing(capsys):
    with compilation_shown():
        pass
    assert capsys.readouterr().err == ""
