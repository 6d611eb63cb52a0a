"""Reports of replays: what a report is made of, and its forms for programs.

Pure: values in, text out; whoever calls writes the files. The forms for people are `table`
(terminal), `page` and `diff` (two runs, request by request). All forms are
the same byte for byte for the same runs, but for `wall_s` in `results_json`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.arrays import Floats
from radixroute.replay.errors import InvalidShape
from radixroute.replay.findings import Finding
from radixroute.replay.report.figures import (
    RunFigures,
    idle_ms,
    lateness,
    request_itl_ns,
    run_figures,
)
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Trace

# Which bound "reachable" means, where none is given for a run: the lowest that no run can pass.
REACHABLE = ("pooled_belady", "infinite")


@dataclass(frozen=True, slots=True, eq=False)
class ReportedRun:
    """One run, and what is known about the prompt tokens it had to compute."""

    result: RunResult
    losses: Mapping[str, int] = field(default_factory=dict)  # tokens by class
    # Tokens by class, each of shape (requests,). Totals come from here where `losses` is empty.
    request_losses: Mapping[str, Numbers] = field(default_factory=dict)
    reachable: float | None = None  # reuse; for runs whose bound is not the report's
    findings: tuple[Finding, ...] = ()  # what somebody should know of this run, most telling first

    def __post_init__(self) -> None:
        for name, tokens in self.request_losses.items():
            if len(tokens) != len(self.result.trace):
                raise InvalidShape(
                    f"losses {name!r}: {len(tokens)} numbers for {len(self.result.trace)}"
                    " requests; give one for each"
                )

    @property
    def lost(self) -> dict[str, int]:
        """Tokens by class, in the order given."""
        if self.losses:
            return {name: int(tokens) for name, tokens in self.losses.items()}
        return {name: int(tokens.sum()) for name, tokens in self.request_losses.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Runs over one trace, and what to hold them against."""

    runs: tuple[ReportedRun, ...]
    bounds: Mapping[str, float] = field(default_factory=dict)  # reuse by name
    # Tokens that a bound would serve, by name, of shape (requests,): for bounds over time.
    bound_tokens: Mapping[str, Numbers] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)  # of bounds and loss classes
    command: str = ""
    config_hash: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # all the runs depended on, in words
    original: Trace | None = None  # before `speed`; otherwise the trace of the first run

    def __post_init__(self) -> None:
        trace = self.trace
        if trace is None:
            return
        for run in self.runs:
            if not np.array_equal(run.result.trace.input_tokens, trace.input_tokens):
                raise InvalidShape(
                    f"the runs are of different traces ({trace.name!r} and"
                    f" {run.result.trace.name!r}): report each trace by itself"
                )
        for name, tokens in self.bound_tokens.items():
            if len(tokens) != len(trace):
                raise InvalidShape(
                    f"bound {name!r}: {len(tokens)} numbers for {len(trace)} requests;"
                    " give one for each"
                )

    @property
    def trace(self) -> Trace | None:
        if self.original is not None:
            return self.original
        return self.runs[0].result.trace if self.runs else None

    @property
    def bound(self) -> str | None:
        """Name of the bound that counts as reachable."""
        return next((name for name in REACHABLE if name in self.bounds), None)

    def figures(self) -> list[RunFigures]:
        """Of each run, in order."""
        return [run_figures(run.result, self.reachable_of(run)) for run in self.runs]

    def reachable_of(self, run: ReportedRun) -> float | None:
        """The reuse that the bound of this run allows; None where none is known."""
        if run.reachable is None and self.bound is not None:
            return self.bounds[self.bound]
        return run.reachable


def results_json(report: Report) -> str:
    """Every number of a report but those of single requests."""
    record = {
        "trace": _trace_record(report.trace),
        "runs": [
            _run_record(run, figures)
            for run, figures in zip(report.runs, report.figures(), strict=True)
        ],
        "bounds": {name: _rounded(value, 6) for name, value in report.bounds.items()},
        "command": report.command,
        "config_hash": report.config_hash,
        "settings": dict(report.settings),
        "trace_hash": report.trace.digest if report.trace is not None else None,
    }
    return json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n"


def requests_jsonl(run: ReportedRun) -> str:
    """One line a request, in trace order; null: never. `losses` has only classes above 0."""
    result, trace = run.result, run.result.trace
    itl = request_itl_ns(result)
    columns = zip(
        _ms(result.arrival_ns, result.arrival_ns >= 0),
        np.where(result.worker >= 0, result.worker, -1).tolist(),
        _ms(result.decided_ns, result.decided_ns >= 0),
        _ms(result.first_ns - result.arrival_ns, result.first_ns >= 0),
        _ms(itl, ~np.isnan(itl)),
        trace.input_tokens.tolist(),
        trace.output_tokens.tolist(),
        result.cached_tokens.tolist(),
        result.predicted_tokens.tolist(),
        strict=True,
    )
    losses = {name: tokens.tolist() for name, tokens in sorted(run.request_losses.items())}
    lines = []
    for index, row in enumerate(columns):
        record = {
            "index": index,
            "arrival_ms": row[0],
            "worker": row[1] if row[1] >= 0 else None,
            "decided_ms": row[2],
            "ttft_ms": row[3],
            "itl_ms": row[4],
            "input_tokens": row[5],
            "output_tokens": row[6],
            "cached_tokens": row[7],
            "predicted_tokens": row[8],
            "losses": {
                name: int(tokens[index]) for name, tokens in losses.items() if tokens[index]
            },
        }
        lines.append(json.dumps(record, separators=(",", ":"), allow_nan=False))
    return "".join(line + "\n" for line in lines)


def _trace_record(trace: Trace | None) -> dict[str, object]:
    if trace is None:
        return {}
    return {
        "name": trace.name,
        "requests": len(trace),
        "block_size": trace.block_size,
        "input_tokens": trace.prompt_tokens,
        "output_tokens": int(trace.output_tokens.sum()),
        "duration_s": _rounded(trace.duration_ns / 1e9, 3),
    }


def _run_record(run: ReportedRun, figures: RunFigures) -> dict[str, object]:
    late, idle = lateness(run.result), idle_ms(run.result)
    return {
        "policy": figures.policy,
        "source": figures.source,
        "eviction_policy": run.result.eviction_policy,
        "workers": figures.workers,
        "speed": figures.speed,
        "seed": figures.seed,
        "unanswered": figures.unanswered,
        "reuse": _rounded(figures.reuse, 6),
        "of_reachable": _rounded(figures.of_reachable, 6),
        "ttft_ms": {
            "mean": _rounded(figures.ttft_mean_ms, 3),
            "p50": _rounded(figures.ttft_p50_ms, 3),
            "p90": _rounded(figures.ttft_p90_ms, 3),
            "p99": _rounded(figures.ttft_p99_ms, 3),
        },
        "itl_ms": {
            "mean": _rounded(figures.itl_mean_ms, 3),
            "p99": _rounded(figures.itl_p99_ms, 3),
        },
        "program_ms": {
            "mean": _rounded(figures.program_mean_ms, 3),
            "p50": _rounded(figures.program_p50_ms, 3),
            "p99": _rounded(figures.program_p99_ms, 3),
        },
        "load_max_over_mean": _rounded(figures.load_max_over_mean, 4),
        "lateness_ms": None
        if late is None
        else {
            "mean": _rounded(late.mean_ms, 3),
            "p99": _rounded(late.p99_ms, 3),
            "max": _rounded(late.max_ms, 3),
        },
        "idle_while_waiting_ms": None
        if idle is None
        else {kind: [_rounded(one, 3) for one in each] for kind, each in idle.items()},
        "loss": run.lost,
        "findings": [
            {
                "kind": one.kind,
                "title": one.title,
                "sentence": one.sentence,
                "share": _rounded(one.share, 4),
                "workers": list(one.workers),
            }
            for one in run.findings
        ],
        "wall_s": _rounded(run.result.wall_s, 3),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    """None for what is not known: JSON has no NaN."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits) + 0.0  # never "-0.0"


def _ms(ns: Numbers | Floats, known: NDArray[np.bool_]) -> list[float | None]:
    """Six digits: to the nanosecond."""
    found = np.round(np.where(known, ns, 0) / 1e6, 6).tolist()
    return [one if is_known else None for one, is_known in zip(found, known.tolist(), strict=True)]
