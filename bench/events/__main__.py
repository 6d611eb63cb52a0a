"""`make bench-events`: real publishers in processes of their own, a router's receiving half here.

Decoding, sessions and the index run on one pinned core; the publishers have the others. Measures
how many batches a second arrive and are applied, what is lost and healed, what `publish` takes with
nobody listening, and how long a restarted router needs until it knows four full caches again.
Writes bench/results/events.json.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.events.subscribe.subscriber import EventSubscriber
from radixroute.events.warm import warm
from radixroute.events.wire.control import Delivery, Endpoints
from radixroute.events.wire.epoch import epoch_from_hex
from radixroute.events.wire.records import Epoch
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.core.router_core import RouterCore
from radixroute.router.links.event_link import EventLink
from radixroute.router.settings import RouterSettings

RESULTS = Path("bench/results/events.json")
WORKERS = 4
BLOCKS_A_WORKER = 570_000
STEADY, FAST = 20_000, 60_000  # batches a second
SECONDS = 5
PATIENCE_S = 60.0


class Sender:
    """One publisher process."""

    def __init__(self, blocks: int, seed: int, cores: set[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.events.sender", str(blocks), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        said = self.answer()
        self.endpoints = Endpoints(str(said["events"]), str(said["control"]))
        self.epoch: Epoch = epoch_from_hex(str(said["epoch"]))

    def send(self, rate: int, batches: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rate} {batches}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        said: dict[str, object] = json.loads(self._process.stdout.readline())
        return said

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)


class Router:
    """A router's receiving half: subscriber, sessions, index."""

    def __init__(self, senders: list[Sender]) -> None:
        self.index = PrefixIndex()
        core = RouterCore(RouterSettings(), self.index, random.Random(0))
        self._arrived: deque[list[Delivery]] = deque()
        self.subscriber = EventSubscriber(self._arrived.append)
        self.link = EventLink(core, self.index, self.subscriber)
        self.subscriber.start()
        self.holders = [Holder(WorkerId(f"w{number}")) for number in range(len(senders))]
        for holder, sender in zip(self.holders, senders, strict=True):
            now_ns = time.monotonic_ns()
            self.link.join([holder], sender.epoch, sender.endpoints, now_ns=now_ns)

    def work(self) -> None:
        """Applies what arrived; ticks."""
        while self._arrived:
            self.link.receive(self._arrived.popleft(), time.monotonic_ns())
        while self.link.is_busy:
            self.link.go_on(time.monotonic_ns())
        self.link.tick(time.monotonic_ns())
        time.sleep(0.0005)

    def until(self, is_reached: "object", limit_s: float = PATIENCE_S) -> float:
        """Seconds until it holds."""
        started = time.perf_counter()
        while not is_reached():  # type: ignore[operator]
            self.work()
            if time.perf_counter() - started > limit_s:
                states = [self.link.status(holder.worker) for holder in self.holders]
                raise SystemExit(f"not reached: {states}")
        return time.perf_counter() - started

    def is_live(self) -> bool:
        states = [self.link.status(holder.worker) for holder in self.holders]
        return all(status is not None and status.state == "live" for status in states)

    def applied(self) -> int:
        status = self.link.status(self.holders[0].worker)
        return 0 if status is None else status.applied_seq

    def gaps(self) -> int:
        return self.link.gaps()

    def stop(self) -> None:
        self.subscriber.stop()


def rows(cores: set[int]) -> Iterator[Row]:
    yield from _nobody_listens(cores)
    for rate, name in ((STEADY, "20k"), (FAST, "fast")):
        yield from _rate_of(rate, name, cores)
    yield from _restart(cores)


def _nobody_listens(cores: set[int]) -> Iterator[Row]:
    sender = Sender(0, 1, cores)
    sender.send(2_000, 10_000)
    yield alone("publish.p99", float(str(sender.answer()["publish_p99_us"])), "us", 50)
    sender.end()


def _rate_of(rate: int, name: str, cores: set[int]) -> Iterator[Row]:
    sender = Sender(0, 2, cores)
    router = Router([sender])
    router.until(router.is_live)
    sender.send(rate, rate * SECONDS)
    router.until(lambda: router.applied() > 0)
    first = router.applied()
    taken = router.until(lambda: router.applied() >= rate * SECONDS and router.is_live())
    sender.answer()
    lost = router.gaps() + router.subscriber.dropped_items
    yield alone(f"batches.{name}", (rate * SECONDS - first) / taken, "batches/s")
    yield alone(f"lost.{name}", lost, "batches")
    router.index.check()
    router.stop()
    sender.end()


def _restart(cores: set[int]) -> Iterator[Row]:
    senders = [Sender(BLOCKS_A_WORKER, 10 + number, cores) for number in range(WORKERS)]
    time.sleep(2.0)
    router = Router(senders)
    wanted = WORKERS * (BLOCKS_A_WORKER // 256 + (BLOCKS_A_WORKER % 256 > 0)) * 256
    taken = router.until(
        lambda: sum(router.index.n_blocks(h) for h in router.holders) >= wanted and router.is_live()
    )
    yield alone("restart", taken, "s", 5.0)
    router.stop()
    for sender in senders:
        sender.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    all_cores = sorted(os.sched_getaffinity(0))
    mine, others = all_cores[-1], set(all_cores[:-1]) or set(all_cores)
    warm()
    os.sched_setaffinity(0, {mine})
    found = []
    for row in rows(others):
        found.append(row)
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:16} {row.ours:14,.1f} {row.unit:10} {bar}", flush=True)
    write(RESULTS, found, machine(), versions(""), {"load_average": os.getloadavg()[0]})
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
