"""House rules that a machine can hold: file length, bans, packaging, docs that name real files."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("protos", "request", "radix", "events", "worker", "router", "replay", "deploy", "demo")
MAX_LINES = 400
GENERATED = "_pb2"
_FILE_NAME = re.compile(rf"`((?:{'|'.join(ROOMS)}|radixroute|bench)/[\w/-]+\.(?:py|proto|yaml))`")


def _is_linked(path: Path) -> bool:
    """Whether the front door's folder only links to it."""
    return any(parent.is_symlink() for parent in path.parents if parent != ROOT)


SOURCES = sorted(
    path
    for folder in (*ROOMS, "radixroute", "bench", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if GENERATED not in path.name and not _is_linked(path)
)
ASIDE = {"tests", "bench", "examples"}
PRODUCT = [path for path in SOURCES if path.relative_to(ROOT).parts[0] not in ASIDE]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_file_is_longer_than_its_idea(path):
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{_name(path)} has {lines} lines: split it by nouns"


@pytest.mark.parametrize("path", PRODUCT, ids=_name)
def test_every_module_says_what_it_owns(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{_name(path)} has no module docstring"


def test_no_room_unpickles_or_evaluates():
    banned = re.compile(
        r"^\s*(import|from) (pickle|cloudpickle|dill|marshal)\b|\brecv_pyobj\b", re.M
    )
    guilty = [_name(path) for path in PRODUCT if banned.search(path.read_text())]
    assert guilty == []


def test_links_let_tools_find_every_room():
    for room in ROOMS:
        link = ROOT / "radixroute" / room
        assert link.is_symlink(), f"radixroute/{room} is missing: use a checkout that keeps links"
        assert link.resolve() == ROOT / room


def test_the_package_list_names_every_folder():
    listed = set(_pyproject()["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(("radixroute", *path.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    folders |= {
        f"radixroute.{path.parent.name}" for path in (ROOT / "radixroute").glob("*/__init__.py")
    }
    assert listed == folders | {"radixroute"}


def test_every_room_maps_to_its_top_level_folder():
    mapping = _pyproject()["tool"]["setuptools"]["package-dir"]
    assert mapping == {"radixroute": "radixroute", **{f"radixroute.{r}": r for r in ROOMS}}


_WITHOUT_EXTRAS = """
import sys
for banned in ("torch", "ray", "safetensors", "gguf", "transformers"):
    sys.modules[banned] = None
import importlib, pkgutil
names = [
    module.name
    for room in ("protos", "request", "radix", "events", "router", "replay")
    for module in pkgutil.walk_packages(
        importlib.import_module("radixroute." + room).__path__, "radixroute." + room + "."
    )
]
assert len(names) > 30, names
for name in [*names, "radixroute.cli.app", "radixroute.config", "radixroute.client"]:
    importlib.import_module(name)
"""


def test_the_base_install_imports_without_torch_and_ray():
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRAS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_structure_page_names_every_module_and_only_real_files():
    page = (ROOT / "docs" / "structure.md").read_text()
    named = set(_FILE_NAME.findall(page))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == [], "docs/structure.md names files that do not exist"
    modules = {_name(path) for path in PRODUCT if path.name != "__init__.py"}
    assert sorted(modules - named) == [], "docs/structure.md does not name these modules"


def test_structure_page_names_only_real_classes():
    page = (ROOT / "docs" / "structure.md").read_text()
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z0-9]+)+)`", page))
    defined = {
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    proto = (ROOT / "protos" / "radixroute.proto").read_text()
    defined |= set(re.findall(r"^\s*(?:rpc|message|service|enum) (\w+)", proto, re.M))
    assert sorted(named - defined) == [], "docs/structure.md names classes that do not exist"


def _pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
