"""The compile cache: an edited kernel is never served from it, and nobody else can fill it."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radixroute.radix import jit, jit_cache, jit_progress, jit_sources

ROOM = Path(jit.__file__).resolve().parent

# A package of rooms with subfolders: a kernel, what it calls and what that calls lie far apart.
_PACKAGE = {
    "toy/__init__.py": "",
    "toy/front/__init__.py": "",
    "toy/front/deep/__init__.py": "",
    "toy/front/deep/asked.py": """
from radixroute.radix.jit import kernel
from toy.back import triple

@kernel("int64(int64)")
def scaled(x):
    return triple(x) + 1
""",
    "toy/back/__init__.py": "from toy.back.parts.multiples import triple",
    "toy/back/parts/__init__.py": "",
    "toy/back/parts/multiples.py": """
from radixroute.radix.jit import helper
from .. import sizes as at

@helper
def triple(x):
    return at.THREE * x
""",
    "toy/back/sizes.py": "THREE = 3",
    "toy/back/unrelated.py": "THREE = 3",
}
_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from toy.front.deep.asked import scaled
print(sum(scaled.stats.cache_hits.values()), scaled(10))
"""


@pytest.fixture
def package(tmp_path):
    for name, text in _PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def run_kernels(folder: Path, **more: str) -> tuple[int, int]:
    """How many kernels a new process loaded, and what its kernel answers."""
    env = {
        **os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(folder)],
        capture_output=True, text=True, check=True, env=env,
    )  # fmt: skip
    hits, value = done.stdout.split()
    return int(hits), int(value)


def test_an_edit_anywhere_below_a_kernel_is_compiled_and_elsewhere_costs_nothing(package):
    back = package / "toy" / "back"
    assert run_kernels(package) == (0, 31)
    assert run_kernels(package) == (1, 31)
    # A helper in a subfolder of another room: numba looks at the kernel's file, and would say 31.
    edit(back / "parts" / "multiples.py", "at.THREE * x", "at.THREE * x + 20")
    assert run_kernels(package) == (0, 51)
    edit(back / "sizes.py", "3", "4")  # a constant of the helper's
    assert run_kernels(package) == (0, 61)
    edit(back / "unrelated.py", "3", "4")
    assert run_kernels(package) == (1, 61)
    edit(back / "sizes.py", "4", "3")  # what was compiled before is still there
    assert run_kernels(package) == (1, 51)


def test_processes_that_start_together_compile_once_and_all_are_right(package):
    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(lambda _: run_kernels(package), range(4)))
    assert answers == [(0, 31)] + [(1, 31)] * 3, "one compiled, three waited and loaded"
    assert run_kernels(package) == (1, 31)  # and what they left is sound


def test_who_dies_while_it_compiles_leaves_the_lock(package):
    """The lock goes with its process: nobody waits for the dead."""
    folder = package / "cache"
    folder.mkdir()
    hold = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from radixroute.radix.jit_cache import compiling_alone\n"
        "with compiling_alone(Path(sys.argv[1]), 'scaled'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with jit_cache.compiling_alone(folder, "scaled"):
        pass


def test_whoever_listens_hears_of_what_was_compiled_and_not_of_what_was_loaded():
    heard = []
    progress = jit_progress.CompileProgress()
    progress.compiled(0.5)
    with progress.told_to(lambda n, seconds: heard.append((n, seconds))):
        progress.compiled(1.0)
        progress.compiled(0.25)
    progress.compiled(1.0)
    assert heard == [(2, 1.5), (3, 1.75)]


def test_what_the_kernels_of_other_rooms_call_here_is_found():
    """Not a list: two of each room that a mistake in reading imports would lose."""
    for module, needed in (
        (
            "radixroute.radix.index.kernels",
            {"radix.index.table", "radix.index.layout", "radix.jit"},
        ),
        (
            "radixroute.router.policy.radix.cost_kernels",
            {"router.policy.columns_layout", "router.policy.forecast_kernels", "radix.jit"},
        ),
    ):
        (file,) = jit_sources.file_of(module)
        found = {name for name, _ in jit_sources.sources(file, module)}
        assert {f"radixroute.{name}" for name in needed} < found


def test_the_package_comes_first_and_the_users_cache_next(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    beside = ROOM / "__pycache__"
    assert jit_cache.candidates(beside, "") == [beside, tmp_path / "radixroute"]
    numba = tmp_path / "numba"
    assert jit_cache.candidates(beside, str(numba)) == [numba / "radixroute"]


def test_a_user_without_a_home_has_no_cache_there(monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a number without a name
    assert jit_cache.candidates(ROOM, "") == [ROOM]


def test_a_read_only_folder_is_passed_over(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")  # a folder cannot be made below a file, even by root
    usable = tmp_path / "usable"
    folder = jit_cache.cache_folder([blocked, usable], "0")
    assert folder is not None
    assert folder.parent == usable
    assert jit_cache.cache_folder([blocked], "0") is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_is_refused(tmp_path, mode):
    folder = jit_cache.cache_folder([tmp_path], "0")
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(mode)
    assert jit_cache.cache_folder([tmp_path], "0") is None


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert jit_cache.cache_folder([tmp_path], "0") is None


def test_what_nobody_used_for_days_goes_once_there_is_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(jit_cache, "_KEPT", 2)
    other = tmp_path / "not-ours-to-remove"
    other.mkdir()
    made = [jit_cache.cache_folder([tmp_path], str(number)) for number in range(5)]
    folders = [folder for folder in made if folder is not None]
    for days, folder in enumerate(folders):
        (folder / "file").write_text("")
        os.utime(folder, (time.time() - days * 86400 - 60,) * 2)
    jit_cache.drop_unused(tmp_path)
    assert [folder.exists() for folder in folders] == [True, True, True, False, False]
    assert other.exists()
    assert jit_cache.cache_folder([tmp_path], "4") == folders[4]  # and is made again when asked for


def test_without_any_folder_kernels_still_compile(monkeypatch):
    monkeypatch.setattr(jit, "candidates", lambda *_: [])

    @jit.kernel("int64(int64)")
    def twice(x: int) -> int:
        return 2 * x

    assert twice(21) == 42
