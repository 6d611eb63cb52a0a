"""`make bench-router`: what a token, a request and a route cost, beside nginx and two routers.

The same fake engines, one token a chunk each 10 ms, and the same clients for all: our router over
worker sessions of its own and, as `radixroute serve`, over companions; nginx that proxies in turns;
sglang-router and vllm-router with `cache_aware`. Costs are CPU time of every process between
clients and engines. Rounds take turns. Writes bench/results/router.json.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.router import fronts, measures
from bench.router.bodies import MODEL
from bench.router.clients import Clients, Table
from bench.router.fronts import Front
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from tests.router.fakes import chat_tokenizer

RESULTS: Final = Path("bench/results/router.json")
ENGINES: Final = 2
ROUNDS: Final = 5
OURS, BESIDE, DIRECT = "ours", "ours.companion", "direct"
SGLANG, VLLM = "sglang-router", "vllm-router"
MOST_GROWN_MB: Final = 32.0  # over 80,000 prompts that nobody asked before: what is flat


def model_folder(folder: Path) -> Path:
    """A tokenizer for companions to find."""
    model = folder / MODEL
    model.mkdir()
    for name, data in chat_tokenizer().files().items():
        (model / name).write_bytes(data)
    (model / "config.json").write_text('{"vocab_size": 400, "torch_dtype": "float32"}')
    return model


def measure(prompts: int) -> Table:
    table = Table()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rr-bench-")))
        by_http, http_ports = fronts.started("http_engines", ENGINES, model_folder(folder))
        stack.callback(fronts.end, by_http)
        by_frames, frame_ports = fronts.started("frame_engines", ENGINES)
        stack.callback(fronts.end, by_frames)
        starts: list[Callable[[], Front]] = [
            lambda: fronts.ours(frame_ports),
            lambda: fronts.ours_beside(http_ports, folder),
            lambda: fronts.nginx(http_ports, folder),
            lambda: fronts.theirs(SGLANG, http_ports, folder),
            lambda: fronts.theirs(VLLM, http_ports, folder),
        ]
        running = list[Front]()
        for start in starts:
            running.append(start())
            stack.callback(running[-1].stop)
        clients = Clients()
        stack.callback(clients.close)
        take(table, clients, running, http_ports[0], prompts)
    return table


def take(table: Table, clients: Clients, running: list[Front], engine: int, prompts: int) -> None:
    ours = running[0]
    for front in running:  # what is made with a first use counts for nobody
        measures.tokens(Table(), clients, front)
    for number in range(1, ROUNDS + 1):
        for front in running:
            measures.tokens(table, clients, front)
            measures.requests(table, clients, front)
            kind = measures.kind_of(front)
            measures.first_tokens(table, clients, front.name, front.http_port, kind)
            if front is ours:
                measures.calls(table, clients, front)
                measures.chats(table, clients, front)
                measures.tokenising(table)
        measures.first_tokens(table, clients, DIRECT, engine, "ids")
        print(f"round {number} of {ROUNDS}", flush=True)
    for _ in range(2):
        measures.pause(table, clients, ours)
    print("pauses measured", flush=True)
    for front in running:
        measures.growth(table, clients, front)
    print("growth measured", flush=True)
    for front in running:
        if front.name in (OURS, SGLANG):
            measures.memory(table, clients, front, prompts)


def rows_of(table: Table) -> list[Row]:
    def beside(row: str, whose: str, peer: str, limit: float | None) -> Row:
        mine, other = table.of(row, whose), table.of(row, peer)
        return Row(row, mine, other, other / mine, "us", limit=limit)

    def own(row: str, limit: float) -> Row:
        return alone(row, table.of(row, OURS), "us", limit)

    rows = [
        beside("http.token", OURS, SGLANG, 30.0),
        replace(beside("http.token", BESIDE, VLLM, None), name="http.token.companion", bar=1.0),
        own("grpc.token", 75.0),
        own("grpc.token.loaded", 45.0),
        beside("http.request", OURS, VLLM, 300.0),
        own("route", 750.0),
        own("route.stream", 400.0),
    ]
    chat = table.of("chat.8k.whole", OURS) - table.of("chat.8k.tokenising", OURS)
    rows.append(alone("chat.8k", chat, "us", 500.0))
    for share, limit in (("p50", 1.0), ("p99", 5.0)):
        row = f"ttft.{share}"
        direct = table.of(row, DIRECT)
        mine, other = table.of(row, OURS) - direct, table.of(row, VLLM) - direct
        rows.append(Row(f"ttft.added.{share}", mine, other, other / mine, "ms", None, None, limit))
    rows.append(alone("pause", max(table.figures["pause"][OURS]), "ms", 20.0))
    grown = {
        name: table.of("memory", name) - table.of("memory.filled", name) for name in (OURS, SGLANG)
    }
    mine, other = grown[OURS], grown[SGLANG]
    rows.append(Row("memory.growth", mine, other, None, "MB", None, None, MOST_GROWN_MB))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=measures.PROMPTS, help="of the memory row")
    prompts = parser.parse_args().prompts
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    table = measure(prompts)
    rows = rows_of(table)
    for row in rows:
        peer = "" if row.peer is None else f"peer {row.peer:10,.1f}"
        promised = row.bar if row.limit is None else row.limit
        bar = "" if promised is None else f"bar {promised:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:22} {row.ours:12,.2f} {row.unit:3} {peer:16} {bar}")
    more = {"fronts": table.medians(), "rounds": ROUNDS, "load_average": os.getloadavg()[0]}
    names = " ".join(("sglang-router==0.3.2", "vllm-router==0.1.17"))
    write(RESULTS, rows, machine(), versions(""), {"peers": names, **more})
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
