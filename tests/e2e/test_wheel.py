"""The wheel holds every package and nothing else, and its base imports without the extras."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e

# What a base install must be able to import: no torch and no Ray there.
BASE_MODULES = (
    "radixroute.cli.app",
    "radixroute.config",
    "radixroute.client",
    "radixroute.radix.index.prefix_index",
    "radixroute.radix.tree.radix_tree",
    "radixroute.request.tokenizer",
    "radixroute.events.publish.publisher",
    "radixroute.events.subscribe.subscriber",
    "radixroute.router.service",
    "radixroute.replay",
    "radixroute.worker.engine.scheduler",
    "radixroute.worker.engine.inference",
    "radixroute.worker.settings",
    "radixroute.deploy.settings",
    "radixroute.deploy.cluster.up_down",
    "radixroute.deploy.serving.serve",
    "radixroute.worker.companion_process.__main__",
)


def _project() -> dict[str, list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert isinstance(settings, dict)
    return settings


def test_the_wheel_holds_exactly_the_packages_named(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    found = {str(Path(name).parent).replace("/", ".") for name in names if name.endswith(".py")}
    assert found == set(_project()["packages"])


def test_every_module_and_data_file_of_the_checkout_is_in_the_wheel(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in _project()["packages"]:
        room = package.removeprefix("radixroute.").replace(".", "/")
        room = f"radixroute/{room}" if room.split("/")[0] in {"cli", "live"} else room
        for path in (ROOT / room).glob("*.py"):
            assert f"{package.replace('.', '/')}/{path.name}" in names
    assert {"radixroute/py.typed", "radixroute/deploy/onprem.yaml"} <= names
    assert "radixroute/protos/radixroute.proto" in names
    page = "radixroute/replay/report/page"
    assert {f"{page}/page.css", f"{page}/page.js", f"{page}/chart.umd.min.js"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "bench"))]


@pytest.mark.deep
def test_a_base_install_imports_without_torch_and_ray(wheel: Path, tmp_path: Path):
    environment = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run([*install, *constraints], check=True, cwd=tmp_path)
    script = (
        "import importlib, importlib.util as u, sys\n"
        "assert u.find_spec('torch') is None and u.find_spec('ray') is None\n"
        f"for name in {BASE_MODULES!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run(
        [python, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    command = environment / "bin" / "radixroute"
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert wheel.name.split("-")[1] in version.stdout


def test_up_without_ray_says_what_to_install(wheel: Path, tmp_path: Path):
    """Ray hidden rather than absent: a second clean environment would cost half a minute."""
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from radixroute.deploy.errors import RayMissing\n"
        "try:\n    import radixroute.deploy.cluster.local\n"
        "except RayMissing as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pip install 'radixroute[ray]'" in result.stdout
