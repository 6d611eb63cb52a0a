"""Folder of a report: the names of its files, and what an earlier report left there.

A run owns the folder it writes into, as far as it holds reports: requests of policies that this
run did not have would be taken for its own. What an earlier report wrote is known from its own
results, and removed; every other file is somebody else's, and stays.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

RESULTS, FIRST_REQUESTS = "results.json", "requests.jsonl"
_SIMULATED = "simulated"
_REPORT_KEYS = {"runs", "bounds", "trace_hash", "config_hash"}
# Nothing but such a name is ever removed, whatever a file of results says.
_REQUESTS = re.compile(r"requests(-[\w.+-]+)?\.jsonl")
_FIRST_ROW = b'{"index":0,'


def requests_file(policy: str, source: str, workers: int, speed: float) -> str:
    """Name of the file that holds one run's requests."""
    live = "" if source == _SIMULATED else f"-{source}"
    return f"requests-{policy}{live}-w{workers}-x{speed:g}.jsonl"


def remove_stale(folder: Path, kept: Collection[str]) -> list[str]:
    """Removes what an earlier report wrote and this one does not write again; their names."""
    removed = []
    for name in sorted(_written(folder) - set(kept)):
        path = folder / name
        if _is_ours(path):
            path.unlink()
            removed.append(name)
    return removed


def _written(folder: Path) -> set[str]:
    """Files of requests that the report in a folder has, by its results; none without one."""
    try:
        found = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(found, dict) or not found.keys() >= _REPORT_KEYS:
        return set()
    try:
        return {FIRST_REQUESTS, *(_of_run(run) for run in found["runs"])}
    except (KeyError, TypeError, ValueError):
        return set()


def _of_run(run: dict[str, Any]) -> str:
    source = str(run.get("source", _SIMULATED))
    return requests_file(str(run["policy"]), source, int(run["workers"]), float(run["speed"]))


def _is_ours(path: Path) -> bool:
    if not _REQUESTS.fullmatch(path.name) or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_FIRST_ROW)) == _FIRST_ROW
