"""The wheel, built once for every test that installs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Built from a copy: setuptools leaves `build/` and `*.egg-info` beside the sources, and a stale
# `build/lib` would put removed files into the wheel.
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "bench", "docs"
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the wheel of this checkout."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=_LEFT_OUT)
    dist = source.parent / "dist"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, source],
        check=True,
        capture_output=True,
    )
    (built,) = dist.glob("radixroute-*.whl")
    return built
