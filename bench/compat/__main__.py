"""`make bench-compat`: does NVIDIA Dynamo's indexer understand our compat endpoint?

Real prefix caches and compat publishers on one side; on the other Dynamo's own ZeroMQ listeners
and its concurrent index (four threads), in the process of `SelectionService`: the code of its
standalone indexer, which would listen on every interface. A third of the events are published
before it listens, so that it must ask for a replay. Then each prompt's blocks on each worker, as it
answers, are compared with what the caches hold. Its log is read: a line it should not have written
is an error. Writes bench/results/compat.json.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.compat.chats import BLOCK_SIZE, ChatWorkload
from bench.compat.dynamo_log import log_lines
from bench.compat.listener import BLOCKS, WORKERS, Listener
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.events.publish.compat_publisher import CompatPublisher

RESULTS = Path("bench/results/compat.json")
CHATS = 60
TURNS = 2400
PROMPTS = 400
PATIENCE_S = 30.0
_SENTINEL_TOKENS = 2 * BLOCK_SIZE


async def converse(turns: int, prompts: int) -> dict[str, Any]:
    """The whole run; what came of it."""
    from dynamo.llm import SelectionService  # type: ignore[import-not-found]

    workload = ChatWorkload(WORKERS, BLOCKS, CHATS, seed=1)
    publishers = [CompatPublisher(BLOCK_SIZE) for _ in range(WORKERS)]
    for publisher in publishers:
        publisher.start()
    service = SelectionService(indexer_threads=4)
    listener = Listener(service)
    try:
        _publish(workload, publishers, turns // 3)
        await _until_sent(publishers)
        await listener.listen(publishers)
        await _until_heard(workload, publishers, listener)
        n_replayed = sum(publisher.counters.sent for publisher in publishers)
        _publish(workload, publishers, turns - turns // 3)
        await _until_heard(workload, publishers, listener)
        found = await _compare(workload, listener, prompts)
        return found | {
            "stored_blocks": workload.stored,
            "removed_blocks": workload.removed,
            "batches": sum(publisher.counters.sent for publisher in publishers),
            "batches_before_it_listened": n_replayed,
            "dropped": sum(publisher.counters.dropped for publisher in publishers),
            "overruns": sum(publisher.counters.overruns for publisher in publishers),
        }
    finally:
        service.shutdown()
        for publisher in publishers:
            publisher.stop()


def _publish(workload: ChatWorkload, publishers: Sequence[CompatPublisher], turns: int) -> None:
    for _ in range(turns):
        worker, events = workload.turn()
        publishers[worker].publish(events)


async def _until_sent(publishers: Sequence[CompatPublisher]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for publisher in publishers:
        before = -1
        while publisher.counters.sent != before:
            before = publisher.counters.sent
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise SystemExit("the publishers do not come to an end")


async def _until_heard(
    workload: ChatWorkload, publishers: Sequence[CompatPublisher], listener: Listener
) -> None:
    """A new prompt on each worker, until it is known there: all before it is applied by then."""
    deadline = time.monotonic() + PATIENCE_S
    for worker, publisher in enumerate(publishers):
        heard = 0
        while not heard:
            tokens = workload.fresh(_SENTINEL_TOKENS)
            publisher.publish(workload.serve(worker, tokens))
            for _ in range(20):
                heard = (await listener.overlaps(tokens))[worker]
                if heard:
                    break
                await asyncio.sleep(0.02)
            if time.monotonic() > deadline:
                raise SystemExit(f"worker {worker} is not heard: {publisher.counters}")


async def _compare(workload: ChatWorkload, listener: Listener, n: int) -> dict[str, Any]:
    score = Counter[str]()
    for tokens in workload.prompts(n):
        answers = await listener.overlaps(tokens)
        for answer, truth in zip(answers, workload.overlaps(tokens), strict=True):
            score["answers"] += 1
            score["with_overlap"] += truth > 0
            score["too_long"] += answer > truth
            score["too_short"] += answer < truth
    names = ("answers", "with_overlap", "too_long", "too_short")
    return {"prompts": n} | {name: score[name] for name in names}


def rows(found: dict[str, Any]) -> list[Row]:
    return [
        alone("compat.errors", found["errors"], "log lines", 0),
        alone("compat.too_long", found["too_long"], "answers", 0),
        alone("compat.too_short", found["too_short"], "answers", 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--listen", action="store_true", help="the inner process; its log is read")
    args = parser.parse_args()
    if args.listen:
        print(json.dumps(asyncio.run(converse(args.turns, args.prompts))))
        return
    options = ["--turns", str(args.turns), "--prompts", str(args.prompts)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.compat", "--listen", *options],
        env=os.environ | {"DYN_LOG": "warn", "DYN_LOGGING_JSONL": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        heard = log_lines(ended.stdout + ended.stderr).most_common(10)
        raise SystemExit(f"the run failed: {heard}\n{ended.stderr[-500:]}")
    *said, last = ended.stdout.splitlines()
    lines = log_lines("\n".join(said) + "\n" + ended.stderr)
    found = json.loads(last) | {"errors": lines.total(), "log": dict(lines)}
    print(json.dumps(found, indent=1))
    made = rows(found)
    peer = f"ai-dynamo-runtime {version('ai-dynamo-runtime')}"
    write(RESULTS, made, machine(), versions(""), {"peer": peer, "run": found})
    missed = [row.name for row in made if not row.is_met]
    print(f"written to {RESULTS}; bars missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
