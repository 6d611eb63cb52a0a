"""The Mooncake conversation trace, and a fleet that serves it in turn."""

import gzip
import json
from itertools import chain
from pathlib import Path

import numpy as np

from radixroute.replay.fleet import Fleet
from radixroute.replay.trace import Trace

TRACE = Path(__file__).parents[2] / "bench" / "data" / "conversation_trace.jsonl.gz"


def conversation(speed: float) -> Trace:
    with gzip.open(TRACE) as lines:
        rows = [json.loads(line) for line in lines]
    first = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row["hash_ids"]) for row in rows], out=first[1:])
    arrival_ms = np.array([row["timestamp"] for row in rows])
    return Trace(
        name="conversation",
        block_size=512,
        arrival_ns=(arrival_ms * 1e6 / speed).astype(np.int64),
        input_tokens=np.array([row["input_length"] for row in rows], np.int64),
        output_tokens=np.array([max(1, row["output_length"]) for row in rows], np.int64),
        first_block=first,
        blocks=np.array(list(chain.from_iterable(row["hash_ids"] for row in rows)), np.int64),
        after=np.full(len(rows), -1, np.int64),
    )


def round_robin(trace: Trace, fleet: Fleet) -> None:
    for request, ns in enumerate(trace.arrival_ns.tolist()):
        if fleet.now_ns < ns:
            fleet.advance(ns, stops=False)
        fleet.submit(request, request % fleet.shape.workers, ns)
    while not fleet.is_idle:
        fleet.advance(fleet.now_ns + 10**12, stops=False)
