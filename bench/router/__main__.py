"""`make bench-router`: what a token, a request and a route cost, beside nginx and two routers.

The same fake engines, one token a chunk each 10 ms, and the same clients for all: our router over
worker sessions of its own and, as `radixroute serve`, over companions; nginx that proxies in turns;
sglang-router and vllm-router with `cache_aware`. Costs are CPU time of every process between
clients and engines. Rounds take turns. Writes bench/results/router.json; with only some `--rows`,
`--fronts` or `--rounds`, or `--against` another checkout, it prints what it measured and writes
nothing.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
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
OURS_ALONE: Final = (OURS, f"{OURS}.before")  # over workers of ours
OURS_BESIDE: Final = (BESIDE, f"{BESIDE}.before")  # and over companions
NGINX, SGLANG, VLLM = "nginx", "sglang-router", "vllm-router"
ROWS: Final = (
    *measures.EACH_ROUND, *measures.BESIDE_EACH_ROUND, *measures.OURS_EACH_ROUND,
    "pause", "growth", "memory",
)  # fmt: skip
MOST_GROWN_MB: Final = 32.0  # over 80,000 prompts that nobody asked before: what is flat


def model_folder(folder: Path) -> Path:
    """A tokenizer for companions to find."""
    model = folder / MODEL
    model.mkdir()
    for name, data in chat_tokenizer().files().items():
        (model / name).write_bytes(data)
    (model / "config.json").write_text('{"vocab_size": 400, "torch_dtype": "float32"}')
    return model


@dataclass(frozen=True)
class Choice:
    """What of it is measured; all, if nothing is chosen."""

    rounds: int = ROUNDS
    fronts: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    against: Path | None = None  # another checkout: its `ours` beside this one's
    prompts: int = measures.PROMPTS

    @property
    def is_whole(self) -> bool:
        return not (self.fronts or self.rows or self.against or self.rounds != ROUNDS)

    def has(self, row: str) -> bool:
        return not self.rows or row in self.rows


def measure(choice: Choice) -> Table:
    table = Table()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rr-bench-")))
        by_http, http_ports = fronts.started("http_engines", ENGINES, model_folder(folder))
        stack.callback(fronts.end, by_http)
        by_frames, frame_ports = fronts.started("frame_engines", ENGINES)
        stack.callback(fronts.end, by_frames)
        starts: dict[str, Callable[[], Front]] = {
            OURS: lambda: fronts.ours(frame_ports),
            BESIDE: lambda: fronts.ours_beside(http_ports, folder),
            NGINX: lambda: fronts.nginx(http_ports, folder),
            SGLANG: lambda: fronts.theirs(SGLANG, http_ports, folder),
            VLLM: lambda: fronts.theirs(VLLM, http_ports, folder),
        }
        if (other := choice.against) is not None:
            before, beside = f"{OURS}.before", f"{BESIDE}.before"
            starts[before] = lambda: fronts.ours(frame_ports, before, other)
            starts[beside] = lambda: fronts.ours_beside(http_ports, folder, beside, other)
        running = list[Front]()
        for name, start in starts.items():
            if not choice.fronts or name.removesuffix(".before") in choice.fronts:
                running.append(start())
                stack.callback(running[-1].stop)
        clients = Clients()
        stack.callback(clients.close)
        take(table, clients, running, http_ports[0], choice)
    return table


def take(table: Table, clients: Clients, running: list[Front], engine: int, choice: Choice) -> None:
    for front in running:  # what is made with a first use counts for nobody
        measures.tokens(Table(), clients, front)
    for number in range(1, choice.rounds + 1):
        for front in running:
            take_round(table, clients, front, choice)
        if choice.has("ttft"):
            measures.first_tokens_at(table, clients, DIRECT, engine, "ids")
        print(f"round {number} of {choice.rounds}", flush=True)
    ours = [front for front in running if front.name in OURS_ALONE]
    last: dict[str, tuple[measures.Measure, list[Front]]] = {
        "pause": (measures.pause, 2 * ours),
        "growth": (measures.growth, running),
        "memory": (
            partial(measures.memory, prompts=choice.prompts),
            [front for front in running if front in ours or front.name == SGLANG],
        ),
    }
    for row, (one, whose) in last.items():
        if choice.has(row):
            for front in whose:
                one(table, clients, front)
            print(f"{row} measured", flush=True)


def take_round(table: Table, clients: Clients, front: Front, choice: Choice) -> None:
    of_ours: Mapping[str, measures.Measure] = {}
    if front.name in OURS_ALONE:
        of_ours = measures.OURS_EACH_ROUND
    elif front.name in OURS_BESIDE:
        of_ours = measures.BESIDE_EACH_ROUND
    for row, one in {**measures.EACH_ROUND, **of_ours}.items():
        if choice.has(row):
            one(table, clients, front)


def rows_of(table: Table) -> list[Row]:
    def beside(row: str, whose: str, peer: str, limit: float | None) -> Row:
        mine, other = table.of(row, whose), table.of(row, peer)
        return Row(row, mine, other, other / mine, "us", limit=limit)

    def own(row: str, limit: float) -> Row:
        return alone(row, table.of(row, OURS), "us", limit)

    verbatim, read = table.of(measures.VERBATIM, BESIDE), table.of("http.token", BESIDE)
    rows = [
        beside("http.token", OURS, SGLANG, 30.0),
        replace(beside("http.token", BESIDE, VLLM, None), name="http.token.companion", bar=1.0),
        # What nobody reads is to cost less than what is read.
        Row(measures.VERBATIM, verbatim, read, read / verbatim, "us", bar=1.0),
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


def show(table: Table) -> None:
    """Of a part: medians of each front, the least and the most beside, and no file."""
    for row, by in sorted(table.figures.items()):
        for front, figures in by.items():
            of = f"{min(figures):,.2f} to {max(figures):,.2f} of {len(figures)}"
            print(f"{row:20} {front:32} {table.of(row, front):12,.2f}   {of}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=measures.PROMPTS, help="of the memory row")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--rows", nargs="+", default=[], choices=ROWS, metavar="ROW", help=" ".join(ROWS)
    )
    names = (OURS, BESIDE, NGINX, SGLANG, VLLM)
    parser.add_argument(
        "--fronts", nargs="+", default=[], choices=names, metavar="FRONT", help=" ".join(names)
    )
    parser.add_argument("--against", type=Path, help="another checkout, in turns with this one")
    told = parser.parse_args()
    choice = Choice(told.rounds, tuple(told.fronts), tuple(told.rows), told.against, told.prompts)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    table = measure(choice)
    if not choice.is_whole:
        show(table)
        return
    rows = rows_of(table)
    for row in rows:
        peer = "" if row.peer is None else f"peer {row.peer:10,.1f}"
        promised = row.bar if row.limit is None else row.limit
        bar = "" if promised is None else f"bar {promised:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:22} {row.ours:12,.2f} {row.unit:3} {peer:16} {bar}")
    more = {"fronts": table.medians(), "rounds": ROUNDS, "load_average": os.getloadavg()[0]}
    peers = " ".join(("sglang-router==0.3.2", "vllm-router==0.1.17"))
    write(RESULTS, rows, machine(), versions(""), {"peers": peers, **more})
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
