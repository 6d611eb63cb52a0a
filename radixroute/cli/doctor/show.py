"""Findings on a terminal and as JSON. Decides nothing about what is found."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from radixroute.cli.console import cell, complain, show_whole
from radixroute.deploy.serving.story import with_flags
from radixroute.doctor.check import Finding, Level
from radixroute.doctor.gather.gathering import Gathered
from radixroute.doctor.kinds.attaching.weights import roots_alike

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow"}


def as_values(gathered: Gathered, found: Sequence[Finding]) -> dict[str, Any]:
    """As JSON has them."""
    router = gathered.evidence.router
    return {
        "findings": [
            {
                "code": one.code,
                "level": one.level.value,
                "where": one.where,
                "seen": one.seen,
                "why": one.why,
                "fix": with_flags(one.fix),
            }
            for one in found
        ],
        "looked_at": {
            "router": None if router is None else router.address,
            "workers": [] if router is None else [one.worker_id for one in router.now.workers],
            "engines": [engine.url for engine in gathered.evidence.engines],
            "believed": _believed(gathered),
            "roots": [f"{url}: {what}" for url, what in roots_alike(gathered.evidence)],
        },
        "not_seen": list(gathered.not_seen),
    }


def show_findings(gathered: Gathered, found: Sequence[Finding]) -> None:
    """What was seen of each, why it matters and what mends it, which is said once where it is the
    same; then what was looked at."""
    for _, alike in groupby(found, key=lambda one: (one.code, one.fix)):
        group = list(alike)
        for one in group:
            level = f"[{_COLOURS[one.level]}]{one.level.value}[/]"
            show_whole(f"{level} [bold]{cell(one.code)}[/] {cell(one.where)}: {cell(one.seen)}")
        show_whole(f"  why: {cell(group[0].why)}")
        show_whole(f"  fix: {cell(with_flags(group[0].fix))}")
    for url in _believed(gathered):
        show_whole(f"{cell(url)}: its cache is believed, as nothing tells of it")
    for url, what in roots_alike(gathered.evidence):
        show_whole(f"{cell(url)}: {cell(what)}")
    for sentence in gathered.not_seen:
        complain(sentence)
    show_whole(f"{_counted(found)} in {cell(_looked_at(gathered))}")


def _believed(gathered: Gathered) -> list[str]:
    """Engines that may join without a word of their caches; that is no fault."""
    engines = gathered.evidence.engines
    return [engine.url for engine in engines if engine.examination.is_believed]


def _counted(found: Sequence[Finding]) -> str:
    if not found:
        return "nothing found"
    counts = Counter(one.level for one in found)
    parts = [_number(n, level.value) for level in Level if (n := counts[level])]
    return " and ".join(parts)


def _looked_at(gathered: Gathered) -> str:
    evidence = gathered.evidence
    parts = []
    if (router := evidence.router) is not None:
        workers = _number(len(router.now.workers), "worker")
        parts.append(f"the router at {router.address} with {workers}")
    if evidence.engines:
        parts.append(_number(len(evidence.engines), "engine"))
    return ", ".join([*parts, "this machine"])


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
