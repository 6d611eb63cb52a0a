"""How a simulated run grows: time and memory for each request, up to a million over 256 workers.

The conversation trace again and again, each copy with prompts of its own and its arrivals spread
inside their buckets, as many at once as keep 256 workers as busy as one keeps eight. Small caches,
so that they are full after a few thousand requests and every size does the same work. Each size
runs in a process of its own, whose memory is its own.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.rows import Row, alone
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reshape import cut, spread
from radixroute.replay.traces.trace import Trace

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
POLICY = "radix"
WORKERS = 256
BLOCKS, BLOCK_SIZE = 4096, 64
AT_ONCE = WORKERS // 16  # copies of the trace
BUCKET_NS = 3_000_000_000


def copies(trace: Trace, n: int) -> Trace:
    """The first `n` requests of as many copies as that takes, `AT_ONCE` of them at a time."""
    n_copies = max(AT_ONCE, -(-n // len(trace)) + AT_ONCE)
    lasts_ns = int(trace.arrival_ns.max()) + BUCKET_NS
    arrival = np.concatenate(
        [
            spread(trace, seed=i, bucket_ns=BUCKET_NS).arrival_ns + i // AT_ONCE * lasts_ns
            for i in range(n_copies)
        ]
    )
    order = np.argsort(arrival, kind="stable")[:n]
    which, request = order // len(trace), order % len(trace)
    n_ids = np.diff(trace.first_block)[request]
    first = np.concatenate([[0], np.cumsum(n_ids)])
    place = np.repeat(trace.first_block[request] - first[:-1], n_ids) + np.arange(first[-1])
    ids_of_a_copy = int(trace.blocks.max()) + 1
    return replace(
        trace,
        name=f"{n_copies} copies",
        arrival_ns=arrival[order],
        input_tokens=trace.input_tokens[request],
        output_tokens=trace.output_tokens[request],
        first_block=first,
        blocks=trace.blocks[place] + np.repeat(which * ids_of_a_copy, n_ids),
        after=np.full(n, -1),
    )


def one(path: Path, n: int) -> dict[str, float]:
    """CPU seconds a request, and GiB of this process at most: the trace itself is part of them."""
    once = read_trace(path).trace
    shape = FleetShape(WORKERS, BLOCKS, BLOCK_SIZE)
    simulate(cut(once, 100), POLICY, Scenario(shape))  # compiled and loaded before it is timed
    trace = copies(once, n)
    started = time.process_time()  # one thread: others' work on the machine counts for little
    simulate(trace, POLICY, Scenario(shape))
    spent_s = time.process_time() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"s": spent_s / n, "gib": peak_gib}


def growth(path: Path) -> Iterator[Row]:
    """Rows `growth.SIZE` and `growth.SIZE.memory`, of the default policy."""
    for size, n in SIZES.items():
        command = [sys.executable, "-m", "bench.replay.growth", str(path), str(n)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        yield alone(f"growth.{size}", found["s"], "CPU s a request")
        yield alone(f"growth.{size}.memory", found["gib"], "GiB")


if __name__ == "__main__":
    print(json.dumps(one(Path(sys.argv[1]), int(sys.argv[2]))))
