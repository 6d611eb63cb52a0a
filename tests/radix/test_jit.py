"""The compile cache: an edited kernel is never served from it, and nobody else can fill it."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radixroute.radix import jit

ROOM = Path(jit.__file__).resolve().parent

_CALLER = """
from part import triple
from radixroute.radix.jit import kernel

@kernel("int64(int64)")
def scaled(x):
    return triple(x) + 1
"""
_CALLEE = """
from numba import njit

@njit
def triple(x):
    return 3 * x
"""
_ASK = """
import sys
from pathlib import Path
from radixroute.radix import jit
jit._HERE = Path(sys.argv[1])
jit.KERNEL_SOURCES = ("caller.py", "part.py")
sys.path.insert(0, sys.argv[1])
from caller import scaled
print(sum(scaled.stats.cache_hits.values()), scaled(10))
"""


def run_kernels(folder: Path) -> tuple[int, int]:
    env = {
        **os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(folder)],
        capture_output=True, text=True, check=True, env=env,
    )  # fmt: skip
    hits, value = done.stdout.split()
    return int(hits), int(value)


def test_a_kernel_whose_callee_in_another_file_was_edited_is_compiled_anew(tmp_path):
    (tmp_path / "caller.py").write_text(_CALLER)
    callee = tmp_path / "part.py"
    callee.write_text(_CALLEE)
    assert run_kernels(tmp_path) == (0, 31)
    assert run_kernels(tmp_path) == (1, 31)
    callee.write_text(_CALLEE.replace("3 * x", "4 * x"))
    # numba alone would look at the caller's file only, and answer 31.
    assert run_kernels(tmp_path) == (0, 41)


def test_many_processes_may_compile_at_once_and_all_are_right(tmp_path):
    (tmp_path / "caller.py").write_text(_CALLER)
    (tmp_path / "part.py").write_text(_CALLEE)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: run_kernels(tmp_path)[1], range(6)))
    assert answers == [31] * 6
    assert run_kernels(tmp_path) == (1, 31)  # and what they left is sound


def test_every_file_that_numba_compiles_is_a_kernel_source():
    compiled = re.compile(r"^@(kernel|helper|rare_helper)\b", re.MULTILINE)
    found = {path.name for path in ROOM.glob("*.py") if compiled.search(path.read_text())}
    # Constants and options are compiled in as well, and a formula by the simulated fleet.
    assert found | {"jit.py", "layout.py", "prefetch.py", "eviction.py"} == set(jit.KERNEL_SOURCES)


def test_the_package_comes_first_and_the_users_cache_next(monkeypatch, tmp_path):
    monkeypatch.setattr(jit._config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jit._candidates() == [ROOM / "__pycache__", tmp_path / "radixroute"]
    monkeypatch.setattr(jit._config, "CACHE_DIR", str(tmp_path / "numba"))
    assert jit._candidates() == [tmp_path / "numba" / "radixroute"]


def test_a_user_without_a_home_has_no_cache_there(monkeypatch):
    monkeypatch.setattr(jit._config, "CACHE_DIR", "")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a number without a name
    assert jit._candidates() == [ROOM / "__pycache__"]


def test_a_read_only_folder_is_passed_over(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")  # a folder cannot be made below a file, even by root
    usable = tmp_path / "usable"
    folder = jit.cache_folder([blocked, usable])
    assert folder is not None
    assert folder.parent == usable
    assert jit.cache_folder([blocked]) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_is_refused(tmp_path, mode):
    folder = jit.cache_folder([tmp_path])
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(mode)
    assert jit.cache_folder([tmp_path]) is None


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert jit.cache_folder([tmp_path]) is None


def test_without_any_folder_kernels_still_compile(monkeypatch):
    monkeypatch.setattr(jit, "_candidates", list)

    @jit.kernel("int64(int64)")
    def twice(x: int) -> int:
        return 2 * x

    assert twice(21) == 42
