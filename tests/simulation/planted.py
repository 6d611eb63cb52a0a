"""Planted bugs: each patch in `bugs/` is a bug that some router had; how many seeds find it?

`python -m tests.simulation.planted [NAME ...]` prints a table. The tree is not touched: the files
that a patch changes are copied to a folder, patched there, and imported from there instead by a
process of its own. So compiled kernels are shared, and a bug costs what its seeds cost.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUGS = Path(__file__).resolve().parent / "bugs"
MOST_SEEDS = 2000
_TOUCHED = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one bug."""

    name: str
    says: str
    seeds: int  # until it was found, that one included
    claim: str  # the invariant that broke first; empty: none did
    text: str
    took_s: float


class Overlay(MetaPathFinder):
    """Imports some modules from another folder."""

    def __init__(self, folder: Path) -> None:
        self._paths = {
            ".".join(("radixroute", *path.relative_to(folder).with_suffix("").parts)): path
            for path in folder.rglob("*.py")
        }

    def find_spec(self, fullname, path=None, target=None):
        patched = self._paths.get(fullname)
        return None if patched is None else spec_from_file_location(fullname, patched)


def names() -> list[str]:
    return sorted(path.stem for path in BUGS.glob("*.patch"))


def says(name: str) -> str:
    """The first line of a patch."""
    return (BUGS / f"{name}.patch").read_text().splitlines()[0]


def patched(name: str, folder: Path) -> None:
    """The files it changes, changed. Raises `CalledProcessError` if the patch does not fit."""
    patch = BUGS / f"{name}.patch"
    for touched in _TOUCHED.findall(patch.read_text()):
        copy = folder / touched
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / touched).read_text())
    command = ["git", "apply", "--whitespace=nowarn", str(patch)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def find(name: str, most_seeds: int = MOST_SEEDS) -> Found:
    """Runs seeds over the bug until one breaks an invariant."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        patched(name, Path(folder))
        command = [sys.executable, "-m", __spec__.name, "--in", folder, "--seeds", str(most_seeds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    return Found(name, says(name), **result, took_s=time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("names", nargs="*", help="all of them, if none is named")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="at most, for each")
    parser.add_argument("--in", dest="folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        _search(Path(options.folder), options.seeds)
        return 0
    n_missed = 0
    print("| bug | seeds to find it | first broken invariant | s | what it is |")
    print("| --- | ---: | --- | ---: | --- |")
    for name in options.names or names():
        found = find(name, options.seeds)
        n_missed += not found.claim
        what = found.claim or "none"
        print(
            f"| {name} | {found.seeds} | {what} | {found.took_s:.0f} | {found.says} |", flush=True
        )
    return 1 if n_missed else 0


def _search(folder: Path, most_seeds: int) -> None:
    sys.meta_path.insert(0, Overlay(folder))
    from tests.simulation.seeds import run_seeds  # here: it imports what is patched

    tally = run_seeds(range(most_seeds))
    failure = tally.failure
    claim, text = ("", "") if failure is None else (failure.claim, failure.text)
    print(json.dumps({"seeds": tally.seeds, "claim": claim, "text": text}))


if __name__ == "__main__":
    sys.exit(main())
