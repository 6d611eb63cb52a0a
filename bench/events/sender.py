"""A worker's publisher in a process of its own, for `bench.events`. Talks over stdin and stdout.

Prints its endpoints and epoch, then for each line `RATE BATCHES` publishes so many batches of 32
blocks, evicting as many, and prints what `publish` took. Ends with stdin.
"""

import json
import sys
import time

import numpy as np

from bench.rows import per_cent_99
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.wire.epoch import epoch_to_hex, make_epoch
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.ids import Keys

CHAIN = 32
_SHORTEST_SLEEP_S = 1e-4
HELD = 2000  # chains a publisher holds before it evicts


def main() -> None:
    blocks, seed = int(sys.argv[1]), int(sys.argv[2])
    epoch = make_epoch(1, seed.to_bytes(8, "big"))
    publisher = EventPublisher(epoch)
    publisher.start()
    rng = np.random.default_rng(seed)
    for _ in range(0, blocks, 8 * CHAIN):
        publisher.publish(tuple(BlocksStored(None, _chain(rng)) for _ in range(8)))
        time.sleep(0.0002)  # so that nothing is dropped while it fills
    ends = publisher.endpoints
    _say({"events": ends.events, "control": ends.control, "epoch": epoch_to_hex(epoch)})
    for line in sys.stdin:
        rate, batches = (int(word) for word in line.split())
        _say({"publish_p99_us": _publish(publisher, rng, rate, batches), "sent": batches})
    publisher.stop()


def _publish(publisher: EventPublisher, rng: np.random.Generator, rate: int, batches: int) -> float:
    chains = [_chain(rng) for _ in range(batches)]
    taken = []
    started = time.perf_counter()
    for number, chain in enumerate(chains):
        while (early := number / rate - (time.perf_counter() - started)) > 0:
            if early > _SHORTEST_SLEEP_S:  # an engine's loop sleeps too: its threads then run
                time.sleep(_SHORTEST_SLEEP_S)
        events: tuple[Event, ...] = (BlocksStored(None, chain),)
        if number >= HELD:
            events = (BlocksRemoved(chains[number - HELD]), *events)
        one = time.perf_counter()
        publisher.publish(events)
        taken.append((time.perf_counter() - one) * 1e6)
    return per_cent_99(taken)


def _chain(rng: np.random.Generator) -> Keys:
    return rng.integers(1, 2**64, CHAIN, dtype=np.uint64)


def _say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
