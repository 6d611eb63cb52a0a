"""Replays of traces, simulated: what each policy, and any router at all, could reach on them.

Owns traces and workloads, the simulated fleet, the bounds, the attribution of misses, and reports.
The router in a replay is the real `RouterCore`, in virtual time: no wall clock, no socket, no
model. Never prints and never opens a cluster: `radixroute.cli` and `radixroute.live` do.

The way in: `replay_all` in `lab.py`; below it `simulate` in `simulate.py`. From Python:

    from radixroute.replay import LabSettings, read_trace, replay_all

    trace = read_trace(Path("trace.jsonl.gz")).trace
    settings = LabSettings(policies=("radix", "round_robin"), workers=(8,), speeds=(1.0, 4.0))
    for run in replay_all(trace, settings).figures():
        print(run.policy, run.speed, run.reuse, run.ttft_mean_ms)

    arrays.py        types of arrays
    changes.py       workers that slow down, recover, come, leave and die in mid-run
    errors.py        errors, cut by what the caller can do
    findings.py      a finding: what a run's means do not show
    lab.py           one trace under many settings, into one report
    plan.py          the least workers and memory that meet goals, by search
    results.py       results of one run, in columns
    scenario.py      the fleet that a trace meets, and how
    simulate.py      one policy over one trace
    stream.py        one policy over requests that become known while it goes on
    warm.py          every kernel of the room, loaded
    world.py         the fleet and its routers while time passes
    analysis/        bounds, the infinite cache, miss attribution
    calibration/     the timing model fitted to measured steps, and its file
    fleet/           the simulated fleet: queues, batches, prefix caches
    report/          reports: figures, table, page, diff
    routers/         one or several routers over the fleet, and what they hear
    synth/           synthetic workloads
    traces/          traces and their files

Imports point one way: `lab`, `plan` > `simulate`, `stream`, `calibration`, `analysis`, `report`,
`synth` > `world` > `routers` > `scenario` > `changes`, `fleet` > `results`, `findings` >
`traces` > `arrays`, `errors`. Of those on one level none imports another.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radixroute.replay.errors import ReplayError
    from radixroute.replay.fleet.timing import Timing
    from radixroute.replay.lab import LabSettings, replay_all
    from radixroute.replay.report.page.html import index_html
    from radixroute.replay.report.report import Report, requests_jsonl, results_json
    from radixroute.replay.results import RunResult
    from radixroute.replay.scenario import Conditions
    from radixroute.replay.synth.workloads import synthesize
    from radixroute.replay.traces.files import read_trace
    from radixroute.replay.traces.trace import Trace

__all__ = [
    "Conditions",
    "LabSettings",
    "ReplayError",
    "Report",
    "RunResult",
    "Timing",
    "Trace",
    "index_html",
    "read_trace",
    "replay_all",
    "requests_jsonl",
    "results_json",
    "synthesize",
]

# Where each name lives. Imported when it is first used: `import radixroute.replay` alone loads
# neither the router nor numpy.
_MODULE_BY_NAME = {
    "Conditions": "scenario",
    "LabSettings": "lab",
    "ReplayError": "errors",
    "Report": "report.report",
    "RunResult": "results",
    "Timing": "fleet.timing",
    "Trace": "traces.trace",
    "index_html": "report.page.html",
    "read_trace": "traces.files",
    "replay_all": "lab",
    "requests_jsonl": "report.report",
    "results_json": "report.report",
    "synthesize": "synth.workloads",
}


if not TYPE_CHECKING:  # type checkers would let any name pass

    def __getattr__(name: str) -> object:
        if name not in _MODULE_BY_NAME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_BY_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
