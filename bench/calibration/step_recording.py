"""The steps of an engine, noted where they are computed: a runner around the real one.

`load_runner` is what an engine process loads by name; it writes a line a step into the file that
the environment names. Lines have slices as [first block, start, tokens, samples]: with them each
step's work is known exactly, which what workers report does not say. Times are nanoseconds of the
machine's monotonic clock, as clients on it have them.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TextIO

import msgspec

from radixroute.replay.calibration.rows import StepRow
from radixroute.replay.fleet.timing import pairs_of
from radixroute.worker.engine.runner import ModelFacts, ModelRunner, StepPlan, StepResult
from radixroute.worker.settings import WorkerSettings

FILE_VARIABLE = "BENCH_CALIBRATION_STEPS"
RUNNER = "bench.calibration.step_recording:load_runner"

Slice = tuple[int, int, int, bool]
_Line = tuple[int, int, int, tuple[Slice, ...]]  # the fields of `Noted`


class RecordingRunner:
    """Implements `ModelRunner`."""

    def __init__(self, runner: ModelRunner, file: TextIO) -> None:
        self._runner = runner
        self._file = file

    @property
    def facts(self) -> ModelFacts:
        return self._runner.facts

    def execute(self, plan: StepPlan) -> StepResult:
        began_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        result = self._runner.execute(plan)
        spent_ns, ended_ns = time.thread_time_ns() - cpu_ns, time.monotonic_ns()
        slices = [
            (int(one.block_table[0]), one.start, len(one.token_ids), one.sampling is not None)
            for one in plan.slices
        ]
        self._file.write(json.dumps([began_ns, ended_ns, spent_ns, slices]) + "\n")
        return result


def load_runner(settings: WorkerSettings) -> RecordingRunner:
    from radixroute.worker.model.torch_runner import load_runner as load  # here: it imports torch

    # Its engine process lives as long as the file is written; by lines, so that it can be read.
    file = open(os.environ[FILE_VARIABLE], "w", buffering=1)  # noqa: SIM115
    return RecordingRunner(load(settings), file)


@dataclass(frozen=True, slots=True)
class Noted:
    """One step as it was noted."""

    began_ns: int
    ended_ns: int
    spent_ns: int  # of the processor: less than it took if others were served meanwhile
    slices: tuple[Slice, ...]

    def goes_on(self, after: "Noted") -> list[bool]:
        """Of each slice: whether it goes on with one of the step before."""
        ends = {(block, start + n) for block, start, n, _ in after.slices}
        return [(block, start) in ends for block, start, _, _ in self.slices]


@dataclass(frozen=True, slots=True)
class TimedStep:
    """One step's work and time, and when it was."""

    row: StepRow  # its time goes on until the next step can begin
    began_ns: int
    ended_ns: int  # of the computing
    crowding: float  # time it took / time of the processor that it had


def read_steps(file: Path) -> list[TimedStep]:
    """All whole lines of a file, in order."""
    lines = file.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    return timed([Noted(*msgspec.json.decode(line, type=_Line)) for line in whole])


def timed(steps: Sequence[Noted]) -> list[TimedStep]:
    """What each took until the next could begin: told by the next one where one of its requests
    goes on; after the others an engine does what it does between these in the median."""
    gaps = [after.began_ns - one.ended_ns for one, after in pairwise(steps)
            if any(after.goes_on(one))]  # fmt: skip
    usual_ns = round(median(gaps)) if gaps else 0
    found = []
    for number, step in enumerate(steps):
        before = steps[number - 1] if number else Noted(0, 0, 0, ())
        free_ns = step.ended_ns + usual_ns
        if number + 1 < len(steps) and any(steps[number + 1].goes_on(step)):
            free_ns = steps[number + 1].began_ns
        took_ns = step.ended_ns - step.began_ns
        crowding = took_ns / step.spent_ns if step.spent_ns else 1.0
        row = _row(step, before, (free_ns - step.began_ns) / 1e6)
        found.append(TimedStep(row, step.began_ns, step.ended_ns, crowding))
    return found


def between(steps: Iterable[TimedStep], since_ns: int, until_ns: int) -> list[TimedStep]:
    return [step for step in steps if since_ns <= step.began_ns < until_ns]


def _row(step: Noted, before: Noted, ms: float) -> StepRow:
    """A request decodes if it goes on by one token with one that was sampled."""
    sampled = {(block, start + n) for block, start, n, samples in before.slices if samples}
    prefill_tokens = prompts = pairs = decoding = context_tokens = 0
    for block, start, n, _ in step.slices:
        if n == 1 and (block, start) in sampled:
            decoding += 1
            context_tokens += start + 1
        else:
            prompts += 1
            prefill_tokens += n
            pairs += int(pairs_of(n, start))
    return StepRow(prefill_tokens, prompts, pairs, decoding, context_tokens, ms)
