"""The rule about skipped e2e tests, tried on a suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest

@pytest.mark.e2e
def test_whole_path():
    pytest.skip("no sshd here")

def test_piece():
    pytest.skip("not today")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="the rule holds for root")
@pytest.mark.parametrize(("ci", "failed", "skipped"), [("true", 1, 1), ("", 0, 2)])
def test_a_skipped_e2e_test_fails_in_ci_and_only_there(
    tmp_path: Path, ci: str, failed: int, skipped: int
):
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.e2e.skips import pytest_runtest_makereport\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = e2e: whole path\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (f"{failed} failed" in result.stdout) == bool(failed), result.stdout
    assert f"{skipped} skipped" in result.stdout, result.stdout
