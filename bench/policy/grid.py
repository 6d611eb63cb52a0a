"""The grid: settings, draws, and what one run gives.

Owns the fleet that every workload meets and how a load becomes a speed of arrivals. All values are
named by text and numbers alone, so that any process can make a run and any file can keep it.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.policy.variants import DEFAULT, MARK, make_known
from bench.policy.workloads import KV_BLOCKS, WORKLOADS
from radixroute.replay.analysis.capacity import Work, work_of
from radixroute.replay.analysis.detectors.detect import detect
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import POLYNOMIAL
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes, sessions

WORKERS = (4, 8, 16)
LOADS = (0.3, 0.6, 0.9)  # of the capacity
BLOCK_SIZE = 64
OURS = DEFAULT
# The default in another form: no rival of its own.
FORMS = ("radix", "radix_at_once", "prefix_approx")
# Arrivals of each draw come so many times faster: 0.2 % alone move a mean by up to 1 %.
DRAW_SPEEDS = (1.0, 0.998, 1.002, 0.999, 1.001, 0.997, 1.003, 0.996, 1.004, 0.995, 1.005)


def is_ours(policy: str) -> bool:
    """Whether it is a form of the default, whatever its constants."""
    return policy.partition(MARK)[0] in FORMS


class Setting(NamedTuple):
    """A workload, a fleet and a load."""

    workload: str
    workers: int
    load: float

    @property
    def name(self) -> str:
        return f"{self.workload}.w{self.workers}.l{self.load:g}"


class Task(NamedTuple):
    """One run. Of one setting and draw every policy meets the same requests at the same times."""

    setting: Setting
    draw: int
    policy: str


class Outcome(NamedTuple):
    """What a run gives. Milliseconds."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    itl_ms: float  # mean over all tokens but the first of each request
    session_ms: float  # mean from a session's first arrival to its last token; 0: there are none
    reuse: float
    speed: float  # of arrivals
    capacity: float  # the speed that is load 1
    cpu_s: float
    findings: str  # kinds of `detectors`, with spaces; of forms of the default only


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A trace, and what is worked out once for all who meet it."""

    trace: Trace
    numbered: Prefixes


def outcome(task: Task) -> Outcome:
    """Makes the run. Raises `ReplayError` for a trace that the fleet cannot hold."""
    workload, workers, load = task.setting
    drawn, shape = _drawn(workload, task.draw), _shape(workload, task.draw, workers)
    capacity = _work(workload, task.draw, workers).capacity
    speed = load * capacity * DRAW_SPEEDS[task.draw]
    make_known(task.policy)
    scenario = Scenario(shape, POLYNOMIAL, speed=speed, seed=task.draw)
    started = time.process_time()
    run = simulate(drawn.trace, task.policy, scenario, drawn.numbered)
    cpu_s = time.process_time() - started
    p50_ms, p99_ms = np.percentile(run.ttft_ms, (50, 99))
    return Outcome(
        mean_ms=float(run.ttft_ms.mean()),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        itl_ms=run.mean_itl_ms,
        session_ms=_session_ms(run),
        reuse=run.reuse,
        speed=speed,
        capacity=capacity,
        cpu_s=cpu_s,
        findings=_findings(run, drawn.numbered) if is_ours(task.policy) else "",
    )


# Runs come sorted by workload and draw: few traces are wanted at a time.
@lru_cache(maxsize=4)
def _drawn(workload: str, draw: int) -> _Drawn:
    trace = WORKLOADS[workload].make(draw)
    return _Drawn(trace, prefixes(trace, BLOCK_SIZE))


def _shape(workload: str, draw: int, workers: int) -> FleetShape:
    share, kv_blocks = WORKLOADS[workload].cache_share, KV_BLOCKS
    if share is not None:
        drawn = _drawn(workload, draw)
        most = drawn.trace.input_tokens + drawn.trace.output_tokens - 1
        least = int((-(-most // BLOCK_SIZE)).max())  # a worker must hold the longest
        kv_blocks = max(least, round(share * drawn.numbered.n_nodes / workers))
    return FleetShape(workers, kv_blocks, BLOCK_SIZE)


@lru_cache(maxsize=64)
def _work(workload: str, draw: int, workers: int) -> Work:
    drawn = _drawn(workload, draw)
    return work_of(drawn.trace, drawn.numbered, _shape(workload, draw, workers), POLYNOMIAL)


def _findings(run: RunResult, numbered: Prefixes) -> str:
    return " ".join(one.kind for one in detect(run, numbered))


def forget() -> None:
    """Traces are made anew."""
    _drawn.cache_clear()
    _work.cache_clear()


def _session_ms(run: RunResult) -> float:
    session = sessions(run.trace)
    inside = session >= 0
    if not inside.any():
        return 0.0
    last_ns = np.zeros(len(run.trace), np.int64)
    np.maximum.at(last_ns, session[inside], run.finish_ns[inside])
    roots = np.unique(session[inside])
    return float((last_ns[roots] - run.arrival_ns[roots]).mean()) / 1e6
