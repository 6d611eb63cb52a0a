"""The Mooncake conversation trace, and a fleet that serves it in turn."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.trace import Trace

TRACE = Path(__file__).parents[2] / "bench" / "data" / "conversation_trace.jsonl.gz"


@cache
def conversation(speed: float = 1.0) -> Trace:
    trace = read_trace(TRACE).trace
    return replace(trace, arrival_ns=(trace.arrival_ns / speed).astype(np.int64))


def round_robin(trace: Trace, fleet: SimulatedFleet) -> None:
    for request, ns in enumerate(trace.arrival_ns.tolist()):
        if fleet.now_ns < ns:
            fleet.advance(ns, stop=at.NO_STOP)
        fleet.submit(request, request % fleet.shape.workers, ns)
    while not fleet.is_idle:
        fleet.advance(fleet.now_ns + 10**12, stop=at.NO_STOP)
