"""What was measured, as rows: fitted times beside steps, simulated first tokens beside live ones.

Pure. Errors are in per cent of what was measured; bars are those of the calibration's promise.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from bench.calibration.step_recording import TimedStep
from bench.rows import Row, alone
from radixroute.live.replay import LiveResult
from radixroute.protos import radixroute_pb2 as pb
from radixroute.replay.calibration.fitting import step_residuals
from radixroute.replay.calibration.rows import WayRow
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.results import RunResult

STEP_BAR = 3.0  # per cent, of every kind of step
TTFT_BARS = {0.3: 10.0, 0.6: 15.0}  # per cent by load, of the median run
KINDS = {"prefill": "prompts alone", "decode": "decoding alone", "beside": "prompts beside"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One live run and its simulation."""

    load: float
    seed: int
    requests: int
    live_ttft_ms: float
    simulated_ttft_ms: float
    live_itl_ms: float
    simulated_itl_ms: float
    live_reuse: float
    simulated_reuse: float
    late_ms: float  # that requests were sent late, in the mean
    crowding: float  # of its steps, together

    @property
    def error(self) -> float:
        """Per cent; below 0: the simulator is too fast."""
        return 100.0 * (self.simulated_ttft_ms / self.live_ttft_ms - 1.0)

    def record(self) -> dict[str, object]:
        return {**asdict(self), "ttft_error_per_cent": self.error}


def pair(load: float, live: LiveResult, simulated: RunResult, steps: Sequence[TimedStep]) -> Pair:
    """Raises `SystemExit` for a run in which not every request was answered."""
    if live.failures or live.short_outputs:
        raise SystemExit(f"a live run lost answers: {live.failures or live.short_outputs}")
    late = live.result.lateness_ns
    return Pair(
        load,
        live.result.seed,
        len(live.result.trace),
        float(live.result.ttft_ms.mean()),
        float(simulated.ttft_ms.mean()),
        live.result.mean_itl_ms,
        simulated.mean_itl_ms,
        live.result.reuse,
        simulated.reuse,
        0.0 if late is None else float(late.mean() / 1e6),
        crowding(steps),
    )


def crowding(steps: Sequence[TimedStep]) -> float:
    """Time that steps took / time of the processor that they had: 1 on a quiet machine."""
    took = sum(step.ended_ns - step.began_ns for step in steps)
    had = sum((step.ended_ns - step.began_ns) / step.crowding for step in steps)
    return took / had if had else 1.0


def ways(
    live: LiveResult, steps: Sequence[TimedStep], log: Sequence[pb.EndedRequest]
) -> list[WayRow]:
    """Of each request that found its engine idle: with one worker that can be told, and where all
    processes have one clock. `log`: the router's."""
    began = np.array([step.began_ns for step in steps])
    ended = np.array([step.ended_ns for step in steps])
    free = np.array([step.began_ns + round(step.row.ms * 1e6) for step in steps])
    sent_on = _sent_on(live, log)
    found = []
    for request, (sent, first) in enumerate(
        zip(live.result.arrival_ns.tolist(), live.result.first_ns.tolist(), strict=True)
    ):
        sent_ns, first_ns = sent + live.start_ns, first + live.start_ns
        next_step = int(np.searchsorted(began, sent_ns))
        told = int(np.searchsorted(ended, first_ns)) - 1  # the last step that was over by then
        is_idle = next_step == 0 or free[next_step - 1] <= sent_ns
        if is_idle and next_step <= told and request in sent_on:
            to_engine_ns = int(began[next_step]) - sent_on[request]
            to_client_ns = sent_on[request] - sent_ns + first_ns - int(free[told])
            found.append(WayRow(to_engine_ns / 1e6, to_client_ns / 1e6))
    return found


def _sent_on(live: LiveResult, log: Sequence[pb.EndedRequest]) -> dict[int, int]:
    """When the router sent each request on, of those that were alone on the way to it."""
    arrived = sorted((entry.arrival_ns, entry.dispatched_ns) for entry in log)
    sent = live.result.arrival_ns + live.start_ns
    order = np.argsort(sent, kind="stable")
    if len(arrived) != len(order):
        return {}  # some are missing, so nobody's place is known
    found = {}
    for place, request in enumerate(order.tolist()):
        arrived_ns, dispatched_ns = arrived[place]
        is_last = place + 1 == len(order)
        is_first = not place or arrived[place - 1][0] <= sent[request]
        if is_first and (is_last or arrived_ns <= sent[order[place + 1]]):
            found[request] = dispatched_ns
    return found


def step_rows(timing: Timing, steps: Sequence[TimedStep]) -> list[Row]:
    """Of steps that nothing was fitted to."""
    rows = []
    for kind, told in step_residuals(timing, [step.row for step in steps]).items():
        rows += [
            alone(f"step.{kind}.mean_time_error", abs(100.0 * told.bias), "%", STEP_BAR),
            alone(f"step.{kind}.error_of_each", 100.0 * told.mean, "%"),
            alone(f"step.{kind}.steps", float(told.rows), "steps"),
        ]
    return rows


def load_rows(load: float, pairs: Sequence[Pair]) -> list[Row]:
    """Of the runs at one load."""
    name = f"load{load:g}"
    return [
        alone(f"{name}.ttft.live", median(one.live_ttft_ms for one in pairs), "ms"),
        alone(f"{name}.ttft.simulated", median(one.simulated_ttft_ms for one in pairs), "ms"),
        alone(f"{name}.ttft.error", abs(median(one.error for one in pairs)), "%",
              TTFT_BARS.get(load)),
        alone(f"{name}.ttft.worst_error", max(abs(one.error) for one in pairs), "%"),
        alone(f"{name}.itl.live", median(one.live_itl_ms for one in pairs), "ms"),
        alone(f"{name}.itl.simulated", median(one.simulated_itl_ms for one in pairs), "ms"),
        alone(f"{name}.reuse.live", median(one.live_reuse for one in pairs), "share"),
        alone(f"{name}.reuse.simulated", median(one.simulated_reuse for one in pairs), "share"),
    ]  # fmt: skip
