"""`make bench-pause`: small streams, alone and while others send giant prompts without end.

A router, a fake worker and the clients of giant prompts, 2 MB of text and chats of 200,000
messages, are processes of their own; the model takes millions of tokens, so that all are admitted.
Rounds without and with giants take turns. What is compared is the time between two messages of a
small stream, as its client sees it. Writes bench/results/pause.json.
"""

import argparse
import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import grpc

from bench.pause.gaps import Gaps
from bench.pause.giants import CLIENTS_A_KIND, MESSAGES, TEXT_BYTES
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens

RESULTS = Path("bench/results/pause.json")
STREAMS = 8
ROUNDS = 3
QUIET_S, GIANTS_S = 6.0, 10.0
START_S = 300.0  # kernels may have to be compiled
MAX_ADDED_MS = 20.0
LAGGED = "loop_lag_over_20ms"


async def started(module: str, *args: str) -> tuple[Process, str]:
    """A process and the first line that it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.pause.{module}", *args, stdin=PIPE, stdout=PIPE
    )
    return process, (await said(process))[0]


async def said(process: Process) -> list[str]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), START_S)
    if not line:
        raise SystemExit("a process of the benchmark ended; what it said is above")
    return line.decode().split()


async def tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


async def end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def stream(router: rpc.RouterStub, number: int, times: list[float]) -> None:
    request = pb.GenerateRequest(
        token_ids=pack_tokens([20 + number, *range(30, 60)]),
        sampling=pb.SamplingParams(max_tokens=1_000_000),
    )
    async for _ in router.Generate(request):
        times.append(time.perf_counter())


async def lagged(inspect: rpc.InspectStub) -> int:
    info = await inspect.RouterInfo(pb.RouterInfoRequest())
    return int(info.counters[LAGGED])


async def listen(streams: list[list[float]], gaps: Gaps, seconds: float) -> None:
    """One round: what comes in this time."""
    starts = [len(times) for times in streams]
    await asyncio.sleep(seconds)
    for times, start in zip(streams, starts, strict=True):
        gaps.between(times[start:])


async def measure() -> tuple[list[Row], dict[str, object]]:
    worker, worker_port = await started("worker")
    router, port = await started("router", worker_port)
    giants = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.pause.giants", port, stdin=PIPE, stdout=PIPE
    )
    quiet, loaded = Gaps(), Gaps()
    n_texts = n_chats = late_quiet = late_loaded = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub, inspect = rpc.RouterStub(channel), rpc.InspectStub(channel)
        streams: list[list[float]] = [[] for _ in range(STREAMS)]
        tasks = [asyncio.create_task(stream(stub, n, s)) for n, s in enumerate(streams)]
        await asyncio.sleep(2.0)
        for _ in range(ROUNDS):
            before = await lagged(inspect)
            await listen(streams, quiet, QUIET_S)
            between = await lagged(inspect)
            await tell(giants)
            await asyncio.sleep(1.0)
            await listen(streams, loaded, GIANTS_S)
            await tell(giants)
            texts, chats = await said(giants)
            n_texts, n_chats = n_texts + int(texts), n_chats + int(chats)
            late_quiet += between - before
            late_loaded += await lagged(inspect) - between
            await asyncio.sleep(3.0)  # what is begun ends at its next turn
        if any(task.done() for task in tasks):
            raise SystemExit("a small stream ended: nothing was measured")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for process in (giants, router, worker):
        await end(process)
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        alone_ms, with_ms = quiet.at(share), loaded.at(share)
        bar = MAX_ADDED_MS if name == "p99.9" else None
        rows += [
            alone(f"gap.{name}.quiet", alone_ms, "ms"),
            alone(f"gap.{name}.giants", with_ms, "ms"),
            alone(f"gap.{name}.added", with_ms - alone_ms, "ms", bar),
        ]
    rows += [
        alone("gap.max.quiet", max(quiet.ms), "ms"),
        alone("gap.max.giants", max(loaded.ms), "ms"),
        alone("ticks_late.quiet", float(late_quiet), "ticks"),
        alone("ticks_late.giants", float(late_loaded), "ticks"),
        alone("giants.texts", float(n_texts), "prompts"),
        alone("giants.chats", float(n_chats), "prompts"),
    ]
    more: dict[str, object] = {
        "gaps": {"quiet": len(quiet.ms), "giants": len(loaded.ms)},
        "giants": {
            "text_bytes": TEXT_BYTES,
            "messages": MESSAGES,
            "clients_a_kind": CLIENTS_A_KIND,
        },
    }
    return rows, more


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows, more = asyncio.run(measure())
    for row in rows:
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:20} {row.ours:12,.1f} {row.unit:8} {bar}")
    write(RESULTS, rows, machine(), versions(""), {"load_average": os.getloadavg()[0], **more})
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
