"""`make bench-chats`: chats that grow by ten turns to 8 KB, with and without a memo of prompts.

Two routers, one of them without a memo, and the fake worker of each are processes of their own; the
tokenizer and the chat template are the demo model's. Rounds on either router take turns, each with
chats that nobody sent before. What is compared is the CPU time of the router's process a request.
`chat.8k.beside`: what is left of the last turn's without reading it, as measured in this process
between the rounds; `chat.8k.as_ids`: the same prompts as token ids, which are not read.
Writes bench/results/chats.json.
"""

import argparse
import asyncio
import json
import os
import random
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bench.pause.__main__ import end, said, started
from bench.rows import Row, alone, timed, write
from radixroute.demo.machine import machine, versions
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.chat import ChatMessage
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.api.memo.memo import Memo
from tests.router.http.wire import CHATS, COMPLETIONS, Client

RESULTS = Path("bench/results/chats.json")
MODEL = Path(".cache/models/SmolLM2-135M-Instruct")
TURNS, CHATS_A_ROUND, ROUNDS, CLIENTS = 10, 80, 3, 4
TEXT_CHARS = 420  # of a message: 19 of them and a system prompt are 8 KB
IDLE_S = 2.0
MAX_BESIDE_US = 500.0
ROOT, SEED = b"bench" * 6, np.uint64(5)

Message = dict[str, str]


def drawn_chats(seed: int, n: int) -> list[list[Message]]:
    """Nobody's before: words that are drawn, in sentences."""
    rng = random.Random(seed)
    words = Path("demo/workload/texts").glob("*.json")
    some = sorted({word for path in words for word in path.read_text().split() if word.isalpha()})
    return [
        [{"role": "system", "content": _text(rng, some)}]
        + [
            {"role": ("user", "assistant")[at % 2], "content": _text(rng, some)}
            for at in range(2 * TURNS - 1)
        ]
        for _ in range(n)
    ]


def _text(rng: random.Random, words: list[str]) -> str:
    text = ""
    while len(text) < TEXT_CHARS:
        text += " ".join(rng.choices(words, k=rng.randrange(5, 15))) + ". "
    return text[:TEXT_CHARS]


def cpu_us(process: Process) -> float:
    """Of all its threads so far."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3


async def asked(port: int, path: str, bodies: list[bytes]) -> None:
    """All of them, over some connections that are kept."""
    left = iter(bodies)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            one = Client(reader, writer)
            for body in left:
                answer = await one.ask(path, body)
                if answer.status != 200:
                    raise SystemExit(f"a chat got {answer.status}: {answer.body[:300]!r}")
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def body_of(chat: list[Message], turn: int) -> bytes:
    return json.dumps({"messages": chat[: 2 * turn], "max_tokens": 1}).encode()


def ids_of(chat: list[Message]) -> bytes:
    tokens = tokenizer().encode_chat([ChatMessage(one["role"], one["content"]) for one in chat])
    return json.dumps({"prompt": tokens.tolist(), "max_tokens": 1}).encode()


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_dir(MODEL)


async def round_on(router: Process, port: int, seed: int) -> list[float]:
    """CPU microseconds a request, of each turn and of the last one's token ids, without what the
    router does anyway."""
    chats = drawn_chats(seed, CHATS_A_ROUND)
    before, since = cpu_us(router), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    idle = (cpu_us(router) - before) / (time.perf_counter() - since)
    costs = []
    turns = [(CHATS, [body_of(chat, turn) for chat in chats]) for turn in range(1, TURNS + 1)]
    for path, bodies in (*turns, (COMPLETIONS, [ids_of(chat) for chat in chats])):
        before, since = cpu_us(router), time.perf_counter()
        await asked(port, path, bodies)
        used = cpu_us(router) - before - idle * (time.perf_counter() - since)
        costs.append(used / len(bodies))
    return costs


class Read(NamedTuple):
    """CPU microseconds of rendering and tokenising a last turn, and of the keys of its blocks."""

    remembered_us: float
    whole_us: float
    keys_us: float
    n_bytes: int


def in_place(seed: int) -> Read:
    """As the router does it, in this process and on one thread."""
    encode = tokenizer().encode_chat
    chats = [
        [ChatMessage(one["role"], one["content"]) for one in chat]
        for chat in drawn_chats(seed, CHATS_A_ROUND)
    ]
    memo = Memo(64 << 20, 3600.0)
    for chat in chats:
        recall = memo.recall(ROOT)
        encode(chat[:-2], recall=recall)
        memo.keep(recall, 0.0)
    remembered, whole, keys = list[float](), list[float](), list[float]()
    for chat in chats:
        recall = memo.recall(ROOT)
        remembered.append(_cpu(partial(encode, chat, recall=recall)))
        whole.append(_cpu(partial(encode, chat)))
        keys.append(_cpu(partial(block_keys, encode(chat), 16, SEED)))
    n_bytes = sum(len(one.content) for one in chats[0])
    return Read(median(remembered), median(whole), median(keys), n_bytes)


def _cpu(work: Callable[[], object]) -> float:
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / 1e3


async def measure() -> tuple[list[Row], dict[str, object]]:
    workers, routers = [], {}
    for name, memo_bytes in (("memo", 64 << 20), ("whole", 0)):
        worker, worker_port = await started("worker", str(MODEL))
        workers.append(worker)
        process, _ = await started("router", worker_port, str(memo_bytes))
        routers[name] = (process, int((await said(process))[0]))
    costs: dict[str, list[list[float]]] = {name: [] for name in routers}
    reads: list[Read] = []
    for number in range(ROUNDS):
        order = list(routers) if number % 2 else list(reversed(routers))
        for name in order:
            process, port = routers[name]
            costs[name].append(await round_on(process, port, seed=1000 * number + len(name)))
        reads.append(in_place(seed=1000 * number + 7))
    for process in (*(process for process, _ in routers.values()), *workers):
        await end(process)
    ours, peer = costs["memo"], costs["whole"]
    rows = [
        timed(f"chat.turn.{turn}", [one[turn - 1] for one in ours], [one[turn - 1] for one in peer])
        for turn in range(1, TURNS + 1)
    ]
    remembered = [one.remembered_us for one in reads]
    beside = median(one[TURNS - 1] - read for one, read in zip(ours, remembered, strict=True))
    rows += [
        timed(
            "chat.ten_turns", [sum(one[:TURNS]) for one in ours], [sum(one[:TURNS]) for one in peer]
        ),
        timed("chat.8k.read", remembered, [one.whole_us for one in reads]),
        alone("chat.8k.beside", beside, "us", MAX_BESIDE_US),
        alone("chat.8k.as_ids", median(one[TURNS] for one in ours), "us"),
        alone("chat.8k.keys", median(one.keys_us for one in reads), "us"),
    ]
    return rows, {
        "prompt_bytes": reads[0].n_bytes,
        "chats_a_round": CHATS_A_ROUND,
        "rounds": ROUNDS,
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows, more = asyncio.run(measure())
    for row in rows:
        peer = "" if row.peer is None else f"without {row.peer:10,.0f}  {row.ratio:5.2f}x"
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:16} {row.ours:10,.0f} {row.unit:4} {peer}{bar}")
    write(RESULTS, rows, machine(), versions(""), {"load_average": os.getloadavg()[0], **more})
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
