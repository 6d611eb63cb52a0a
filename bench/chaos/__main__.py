"""`make chaos`: real workers with a tiny random model, streams, and processes killed under them.

Every stream is compared token by token with its greedy answer without faults. Exits with 1 when one
is lost, hangs, or is not what it should be. Writes bench/results/chaos.json.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.chaos.faults import Fault
from bench.chaos.load import LoadSettings
from bench.chaos.run import ChaosSettings, run
from bench.chaos.small_disk import small_disk
from bench.chaos.wires import own_network
from bench.rows import write
from radixroute.demo.machine import machine, versions
from tests.e2e.tiny_model import write_tiny_model

RESULTS = Path("bench/results/chaos.json")


def main() -> int:
    defaults = ChaosSettings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=defaults.requests, help="at least")
    parser.add_argument("--kills", type=int, default=defaults.kills, help="stops come on top")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--streams", type=int, default=defaults.load.streams, help="at once")
    parser.add_argument("--long", action="store_true", help="10,000 requests and 100 kills")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that is written")
    asked = parser.parse_args()
    skipped = set[Fault]()
    if not own_network():
        skipped.add(Fault.WORKER_CUT)
        print("SKIPPED worker_cut: a network of its own is not allowed here")
    settings = ChaosSettings(
        requests=10_000 if asked.long else asked.requests,
        kills=100 if asked.long else asked.kills,
        seed=asked.seed,
        load=LoadSettings(streams=asked.streams),
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "small").mkdir()
        model = write_tiny_model(Path(folder, "tiny"))
        with small_disk(Path(folder, "small")) as disk:
            if disk is None:
                skipped.add(Fault.DISK_FULL)
                print("SKIPPED disk_full: mounting a disk of a megabyte is not allowed here")
            kinds = tuple(fault for fault in Fault if fault not in skipped)
            outcome = run(model, replace(settings, kinds=kinds), partial(print, flush=True), disk)
    for row in outcome.rows:
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:16} {row.ours:10,.1f} {row.unit:8} {bar}")
    load_average = os.getloadavg()[0]
    more = {
        **outcome.record,
        "streams": settings.load.streams,
        "seed": settings.seed,
        "load_average": load_average,
    }
    write(asked.results, outcome.rows, machine(), versions("tiny random Llama"), more)
    print(f"written to {asked.results}")
    return 0 if outcome.tally.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
