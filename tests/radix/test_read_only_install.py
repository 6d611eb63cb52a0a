"""Kernels where the package cannot be written: in a fresh process, from a copy mounted read-only.

Root ignores modes, so the copy is a read-only mount in a mount namespace of the child's own; a
user who is not root gets modes.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTHING_IS_KEPT = "no folder to keep compiled kernels in"

# For `sh -c`: $0 is the folder, the rest the command that sees it read-only.
_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
_START = """
import logging, sys
logging.basicConfig(format="%(message)s")
sys.path.insert(0, sys.argv[1])
import numpy as np
from radixroute.radix import jit
assert jit.__file__.startswith(sys.argv[1]), jit.__file__
"""
_HASH = """
from radixroute.radix.keys import kernels
from radixroute.radix.keys import block_keys as keys
keys.warm()
print("right", sum(kernels.chain.stats.cache_hits.values()))
"""
_MATCH = """
from radixroute.radix.ids import Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
keys = block_keys(np.arange(640, dtype=np.uint32), 16, Scope("model", 16).seed)
index, holder = PrefixIndex(), Holder(WorkerId("w"))
index.join(holder)
index.store(holder, None, keys[:30], Tier.DEVICE)
print("right" if index.overlaps(keys).blocks.tolist() == [30] else "wrong", 0)
"""


@cache
def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True)
    return tried.returncode == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An installed package, and a user's folder in which nothing can be made either."""
    folder = tmp_path_factory.mktemp("site-packages")
    without = shutil.ignore_patterns("__pycache__", "*.pyi", "*.proto")
    shutil.copytree(ROOT / "radixroute", folder / "radixroute", ignore=without)
    (folder / "home").mkdir()
    if not _can_mount():
        if os.geteuid() == 0:
            pytest.skip("root ignores modes, and this root may not mount: nothing is read-only")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode & 0o555)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def run(site: Path, what: str, cache_home: Path) -> tuple[str, int, str]:
    """What it prints, cache hits, and what it logs."""
    command = [sys.executable, "-c", _START + what, str(site)]
    if _can_mount():
        command = ["unshare", "-m", "sh", "-c", _MOUNT, str(site), *command]
    dropped = {"NUMBA_CACHE_DIR", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"XDG_CACHE_HOME": str(cache_home), "HOME": str(site / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    verdict, hits = done.stdout.split()
    return verdict, int(hits), done.stderr


def test_kernels_are_kept_in_the_users_cache_when_the_package_cannot_be_written(site, tmp_path):
    first, again = (run(site, _HASH, tmp_path) for _ in range(2))
    assert (first, again) == (("right", 0, ""), ("right", 1, ""))
    assert not list(site.rglob("*.nbi"))
    (kept,) = (tmp_path / "radixroute").iterdir()
    assert list(kept.rglob("*.nbi"))


def test_with_nothing_to_write_to_kernels_compile_in_memory_and_one_line_says_so(site):
    for _ in range(2):
        verdict, hits, log = run(site, _HASH, site / "home")
        assert (verdict, hits, log.count("\n")) == ("right", 0, 1)
        assert log.startswith(NOTHING_IS_KEPT)


@pytest.mark.deep
def test_a_match_is_right_with_nothing_to_write_to(site):
    """All kernels of the index: one line all the same."""
    verdict, _, log = run(site, _MATCH, site / "home")
    assert verdict == "right"
    assert log.startswith(NOTHING_IS_KEPT)
    assert log.count("\n") == 1
