"""Runs of the grid: made by several processes, each once, and kept in a file by what made it.

Owns that file. A line of it is a run and a digest of all code that decides how it comes out: a
rival's runs outlive changes of the default policy, and the other way round. Lines of other code are
left alone, since who goes back finds them again.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from bench.policy.grid import FORMS, Outcome, Task, outcome
from bench.policy.variants import MARK
from bench.policy.workloads import TRACE

KEPT = Path(".cache/bench-policy/runs.jsonl")
_ROOT = Path(__file__).resolve().parents[2]
_RADIX = "router/policy/radix"
# Whoever is in these folders is a policy of its own; the second one may not be there.
_RIVALS = ("router/policy/baselines", "router/policy/lab_only")
_PR_SET_PDEATHSIG = 1
_DETECTORS = "replay/analysis/detectors"
# What decides how a run comes out, whichever policy it is of; some of it where a run has it.
_SHARED = (
    *("radix", "request", "router/core", "router/messages", "router/policy", "router/workers"),
    *("replay/fleet", "replay/routers", "replay/traces", "replay/synth"),
    *("replay/simulate.py", "replay/scenario.py", "replay/results.py"),
    *("replay/analysis/capacity.py", "replay/analysis/bounds.py"),
    *("replay/analysis/bounds_kernels.py", "bench/policy/grid.py", "bench/policy/workloads.py"),
)

Tell = Callable[[int, int], None]  # runs done, runs in all


class Runs:
    """Outcomes of tasks: those that are kept, and those that have to be made."""

    def __init__(self, processes: int, kept: Path | None) -> None:
        """`kept`: the file; None: nothing is kept."""
        self._processes, self._path = processes, kept
        self._kept: dict[str, list[Any]] = {}  # of other code, too: its outcomes may be others
        self.n_made = 0
        if kept is not None and kept.exists():
            for line in kept.read_text().splitlines():
                key, found = json.loads(line)
                self._kept[key] = found

    def of(self, tasks: Iterable[Task], tell: Tell) -> Mapping[Task, Outcome]:
        """Each task's. Raises what a run raises."""
        wanted = sorted(set(tasks), key=lambda task: (task.setting.workload, task.draw, task))
        todo = [task for task in wanted if key_of(task) not in self._kept]
        self.n_made += len(todo)
        # Fresh interpreters: each loads the compiled kernels, and none is forked with threads.
        context = multiprocessing.get_context("spawn")
        if todo:
            n = min(self._processes, len(todo))
            with ProcessPoolExecutor(n, context, _end_with, (os.getpid(),)) as pool:
                for done, (task, found) in enumerate(
                    zip(todo, pool.map(outcome, todo), strict=True), 1
                ):
                    self._keep(task, found)
                    tell(done, len(todo))
        return {task: Outcome(*self._kept[key_of(task)]) for task in wanted}

    def _keep(self, task: Task, found: Outcome) -> None:
        key = key_of(task)
        self._kept[key] = list(found)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:  # one short write: others may append, too
                file.write(json.dumps([key, list(found)]) + "\n")


def _end_with(parent: int) -> None:
    """This process ends when the one that asks does, even if that was killed."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        raise SystemExit


def key_of(task: Task) -> str:
    """The task, and the code that decides how it comes out."""
    return (
        f"{task.setting.name} {task.draw} {task.policy} {_digest(task.policy.partition(MARK)[0])}"
    )


@cache
def _digest(policy: str) -> str:
    """16 hexadecimal digits over the trace and every source that counts for runs of this policy."""
    state = hashlib.blake2b((_ROOT / TRACE).read_bytes(), digest_size=8)
    for path in _sources(policy):
        state.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def _sources(policy: str) -> list[Path]:
    shared = [
        path
        for place in _SHARED
        for path in ([_ROOT / place] if place.endswith(".py") else (_ROOT / place).rglob("*.py"))
    ]
    aside = [_ROOT / folder for folder in (*_RIVALS, _RADIX)]
    shared = [path for path in shared if not any(folder in path.parents for folder in aside)]
    own = _files_of(policy)
    if policy in FORMS:
        own = {*(_ROOT / _RADIX).glob("*.py"), *(_ROOT / _DETECTORS).glob("*.py")}
    return sorted({*shared, *own})


def _files_of(policy: str) -> set[Path]:
    """The file that a rival is in, and those that it takes something from."""
    files = {path.stem: path for folder in _RIVALS for path in (_ROOT / folder).rglob("*.py")}
    texts = {stem: path.read_text() for stem, path in files.items()}
    wanted = [stem for stem, text in texts.items() if f'"{policy}"' in text]
    if not wanted:  # named some other way: any of them may be it
        return set(files.values())
    found = set[str]()
    while wanted:
        stem = wanted.pop()
        found.add(stem)
        wanted += [
            other for other in texts if other not in found and f".{other} import" in texts[stem]
        ]
    return {files[stem] for stem in found}
