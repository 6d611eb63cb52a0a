"""House rules that a machine can hold: file length, bans, packaging, docs that name real files."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = ("protos", "request", "metrics", "trust", "radix")
ROOMS = (*LEAVES, "events", "worker", "router", "replay", "insight", "deploy", "demo")
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


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _map_of(path: Path) -> str:
    return ast.get_docstring(_tree(path)) or ""


def test_no_file_is_longer_than_its_idea():
    lines = {_name(path): path.read_text().count("\n") for path in SOURCES}
    assert len(lines) > 500
    too_long = {name: n for name, n in lines.items() if n > MAX_LINES}
    assert too_long == {}, "split them by nouns"


def test_every_module_says_what_it_owns():
    assert len(PRODUCT) > 300
    silent = [_name(path) for path in PRODUCT if not _map_of(path)]
    assert silent == [], "they have no module docstring"


def test_only_the_folder_that_make_looks_into_marks_end_to_end_tests():
    marked = {path for path in SOURCES if re.search(r"\bmark\.e2e\b", path.read_text())}
    assert {path.parent for path in marked} == {ROOT / "tests" / "e2e"}


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
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "radixroute").rglob("__init__.py")
        if not _is_linked(path)
    }
    assert listed == folders


def test_every_room_maps_to_its_top_level_folder():
    mapping = _pyproject()["tool"]["setuptools"]["package-dir"]
    assert mapping == {"radixroute": "radixroute", **{f"radixroute.{r}": r for r in ROOMS}}


_WITHOUT_EXTRAS = """
import sys
for banned in ("torch", "ray", "safetensors", "gguf", "transformers", "pyarrow", "zstandard"):
    sys.modules[banned] = None
import importlib, pkgutil
names = [
    module.name
    for room in (
        *("protos", "request", "metrics", "trust", "radix", "events"),
        *("router", "replay", "insight"),
        *("worker.api", "worker.companions", "worker.engine"),
    )
    for module in pkgutil.walk_packages(
        importlib.import_module("radixroute." + room).__path__, "radixroute." + room + "."
    )
]
assert len(names) > 30, names
names += ["radixroute.cli.app", "radixroute.config", "radixroute.client"]
names += ["radixroute.deploy.serving.serve", "radixroute.worker.companion_process.__main__"]
names += ["radixroute.worker.service", "radixroute.doctor.gather.gathering"]
for name in names:
    importlib.import_module(name)
"""


def test_the_base_install_imports_without_torch_and_ray():
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRAS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


FOLDERS = sorted({path.parent for path in PRODUCT})
MAX_MODULES = 14  # in a folder; who looks for a noun should find its file in one guess


@pytest.mark.parametrize("folder", FOLDERS, ids=_name)
def test_a_folder_has_a_map_that_names_every_module_and_folder(folder):
    """And nothing else: a map that drifts is worse than none."""
    text = _map_of(folder / "__init__.py")
    lines = [re.match(r"\s*([\w/]+(?:\.\w+)?/?)  +\S", line) for line in text.splitlines()]
    named = {line.group(1) for line in lines if line and re.search(r"\.py$|/$", line.group(1))}
    modules = {path.name for path in folder.glob("*.py") if GENERATED not in path.name}
    inside = {
        f"{path.parent.name}/" for path in folder.glob("*/__init__.py") if not _is_linked(path)
    }
    wanted = (modules - {"__init__.py"}) | inside
    assert wanted - named == set(), f"{_name(folder)}/__init__.py does not name these"
    gone = {n for n in named if not (folder / n).exists()}
    assert gone == set(), f"{_name(folder)}/__init__.py names what is not there"


@pytest.mark.parametrize("folder", FOLDERS, ids=_name)
def test_no_folder_is_a_drawer(folder):
    modules = [path for path in folder.glob("*.py") if GENERATED not in path.name]
    assert len(modules) <= MAX_MODULES, f"{_name(folder)} has {len(modules)} modules: give it rooms"


def test_pages_name_only_real_files():
    """Paths in backquotes, in every page and every docstring."""
    texts = {path: path.read_text() for path in [*(ROOT / "docs").glob("*.md"), *PRODUCT]}
    texts |= {ROOT / name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
    missing = {
        f"{_name(path)}: {name}"
        for path, text in texts.items()
        for name in _FILE_NAME.findall(text)
        if not (ROOT / name).exists() and not (path.parent / name).exists()
    }
    assert missing == set()


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_CODE_NAME = re.compile(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`")
_CAMEL = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]*)+")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


def test_docstrings_and_pages_name_only_what_exists():
    """In backquotes: a class, a function, an argument, a setting or a word of the wire."""
    known = _words_of_the_code()
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    texts = {_name(path): path.read_text() for path in pages}
    for path in PRODUCT:
        for node in ast.walk(_tree(path)):
            if isinstance(node, _DOCUMENTED):
                where = f"{_name(path)}:{getattr(node, 'name', '')}"
                texts[where] = ast.get_docstring(node) or ""
    unknown = {
        f"{where}: {part}"
        for where, text in texts.items()
        for name in _CODE_NAME.findall(text)
        for part in name.split(".")
        if (_CAMEL.fullmatch(part) or _SNAKE.fullmatch(part)) and part not in known
    }
    assert unknown == set()


def _words_of_the_code() -> set[str]:
    words: set[str] = set()
    for path in SOURCES:
        words |= {path.stem, *path.relative_to(ROOT).parts}
        nodes = list(ast.walk(_tree(path)))
        docstrings = {
            id(node.body[0].value)
            for node in nodes
            if isinstance(node, _DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in nodes:
            for field in ("id", "attr", "arg", "name", "asname", "module"):
                value = getattr(node, field, None)
                if isinstance(value, str):
                    words |= set(value.split("."))
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in docstrings:
                words |= set(re.findall(r"\w+", text))
    for page in ("protos/radixroute.proto", "pyproject.toml", "Makefile"):
        words |= set(re.findall(r"\w+", (ROOT / page).read_text()))
    return words


def _pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
