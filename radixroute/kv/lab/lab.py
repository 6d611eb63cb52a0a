"""The lab: the experiments in their order, over the models that are asked for.

Owns the order and what is told of progress. Each experiment is a module with `NAME`, `TITLE` and
`run(bench)`. Raises `LabError` for a model that cannot be read.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch

from radixroute.kv.lab.bench import FULL, QUICK, Bench, Effort, Machine
from radixroute.kv.lab.experiments import (
    caches,
    crossover,
    dtypes,
    editing,
    engine,
    fragmentation,
    rooflines,
    sharing,
    variants,
    windows,
)
from radixroute.kv.lab.measuring import cpu_name, least_seconds
from radixroute.kv.lab.records import LabReport, Result, Skipped
from radixroute.kv.lab.subjects import Subject, folder_subject, gpt2_subject
from radixroute.worker.errors import ModelError

EXPERIMENTS: tuple[ModuleType, ...] = (
    caches,
    rooflines,
    fragmentation,
    variants,
    dtypes,
    windows,
    crossover,
    editing,
    sharing,
    engine,
)
NAMES = tuple(one.NAME for one in EXPERIMENTS)


class LabError(Exception):
    """What was asked for cannot be measured; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What to measure."""

    models: tuple[Path, ...] = ()  # folders, beside the random model
    only: tuple[str, ...] = ()  # names of experiments; empty: all
    is_quick: bool = False
    threads: int = 1  # of torch: two workers on two cores have one each
    vllm: str = ""  # folder of an environment with vLLM
    command: str = ""  # that the page names


Tell = Callable[[int, int, str], None]  # experiments done, in all, what was just measured


def run_lab(settings: LabSettings, tell: Tell) -> LabReport:
    """Everything, one after the other, in this process. Raises `LabError`."""
    chosen = _chosen(settings.only)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        return _run(chosen, settings, tell)
    finally:
        torch.set_num_threads(threads)


def _run(chosen: Sequence[ModuleType], settings: LabSettings, tell: Tell) -> LabReport:
    began = time.perf_counter()
    effort = QUICK if settings.is_quick else FULL
    tell(0, len(chosen), "reading models")
    subjects = _subjects(settings)
    tell(0, len(chosen), "measuring the machine")
    bench = Bench(subjects, _machine(effort), effort, lambda what: None, settings.vllm)
    results, skipped = [], []
    for done, experiment in enumerate(chosen):
        title = str(experiment.TITLE)
        tell(done, len(chosen), title)

        def told(what: str, done: int = done, title: str = title) -> None:
            tell(done, len(chosen), f"{title}: {what}")

        started = time.perf_counter()
        found: Result | Skipped = experiment.run(replace(bench, tell=told))
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            results.append(replace(found, seconds=time.perf_counter() - started))
    tell(len(chosen), len(chosen), "done")
    return LabReport(
        machine=bench.machine.name,
        models=tuple(one.name for one in subjects),
        results=tuple(results),
        skipped=tuple(skipped),
        command=settings.command,
        seconds=time.perf_counter() - began,
        is_quick=settings.is_quick,
    )


def _chosen(only: Sequence[str]) -> list[ModuleType]:
    if unknown := sorted(set(only) - set(NAMES)):
        raise LabError(f"no experiment is called {unknown[0]}: there are {', '.join(NAMES)}")
    return [one for one in EXPERIMENTS if not only or one.NAME in only]


def _subjects(settings: LabSettings) -> tuple[Subject, ...]:
    subjects = [gpt2_subject(is_quick=settings.is_quick)]
    for folder in settings.models:
        try:
            subjects.append(folder_subject(folder))
        except ModelError as error:
            raise LabError(str(error)) from error
    return tuple(subjects)


def _machine(effort: Effort) -> Machine:
    """Peak FLOPs by a large product, bandwidth by a sum over what no cache holds."""
    n = effort.matrix
    a, b = torch.randn(n, n), torch.randn(n, n)
    stream = torch.ones(effort.stream_bytes // 4)
    product_s = least_seconds(lambda: torch.mm(a, b), 8, enough_s=2.0)
    stream_s = least_seconds(stream.sum, 8, enough_s=2.0)
    return Machine(cpu_name(), 2 * n**3 / product_s, effort.stream_bytes / stream_s)
