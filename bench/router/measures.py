"""What is measured of each front; a round asks all of them in turn.

`sglang-router` takes no token ids: it gets text of the same size.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from bench.router.bodies import CHAT_BYTES, text
from bench.router.clients import Clients, Table
from bench.router.cpu import resident_mb
from bench.router.fronts import Front
from radixroute.request.chat import ChatMessage
from tests.router.fakes import chat_tokenizer

STREAMS, TOKENS = 64, 128
VERBATIM: Final = "http.token.verbatim"
LOADED: Final = 256  # streams: more than one core can serve one message a token
CALLERS, CALLS = 16, 800
CHATS: Final = 160
ALONE: Final = 300  # requests of one client after another
GIANTS, GIANT_CLIENTS = 8, 2
GROWTH: Final = {64: 128, 512: 64, 4096: 32}  # streams: tokens of each
PROMPTS, A_LOAD = 100_000, 10_000
FILLED: Final = 20_000  # from here on memory is to stay as it is


def kind_of(front: Front) -> str:
    return "long" if front.name == "sglang-router" else "ids"


def tokens(table: Table, clients: Clients, front: Front) -> None:
    _tokens(table, clients, front, "http.token", kind_of(front))


def verbatim_tokens(table: Table, clients: Clients, front: Front) -> None:
    """Of chats with a tool, whose answers go by as they are."""
    _tokens(table, clients, front, VERBATIM, "tools")


def _tokens(table: Table, clients: Clients, front: Front, row: str, kind: str) -> None:
    """Beside the whole: what each part of the front had of it."""
    before_us = front.parts_us()
    cost = clients.cost(
        front, "http", kind=kind, clients=STREAMS, requests=STREAMS, max_tokens=TOKENS
    )
    after_us = front.parts_us()
    table.add(row, front.name, cost.token_us)
    for part, us in after_us.items():
        table.add(row, f"{front.name}:{part}", (us - before_us[part]) / STREAMS / TOKENS)


def requests(table: Table, clients: Clients, front: Front) -> None:
    cost = clients.cost(
        front, "http", kind=kind_of(front), clients=CALLERS, requests=CALLS, max_tokens=1
    )
    table.add("http.request", front.name, cost.answer_us)


def first_tokens(table: Table, clients: Clients, front: Front) -> None:
    first_tokens_at(table, clients, front.name, front.http_port, kind_of(front))


def first_tokens_at(table: Table, clients: Clients, name: str, port: int, kind: str) -> None:
    """Of one client after another: nobody waits for anything but what lies between."""
    outcome = clients.load("http", port, kind=kind, clients=1, requests=ALONE, max_tokens=1)
    first_ms = sorted(outcome.first_ms)
    table.add("ttft.p50", name, first_ms[len(first_ms) // 2])
    table.add("ttft.p99", name, first_ms[int(len(first_ms) * 0.99)])


def chats(table: Table, clients: Clients, front: Front) -> None:
    cost = clients.cost(front, "http", kind="chat", clients=CALLERS, requests=CHATS, max_tokens=1)
    table.add("chat.8k.whole", front.name, cost.answer_us)
    _tokenising(table)


def _tokenising(table: Table) -> None:
    """What rendering and tokenising such chats costs by itself."""
    tokenizer = chat_tokenizer()
    said = [[ChatMessage("user", text(number, CHAT_BYTES))] for number in range(CHATS // 4)]
    before_ns = time.process_time_ns()
    for chat in said:
        tokenizer.encode_chat(chat)
    table.add("chat.8k.tokenising", "ours", (time.process_time_ns() - before_ns) / 1e3 / len(said))


def generated(table: Table, clients: Clients, front: Front) -> None:
    many = {"clients": STREAMS, "requests": STREAMS, "max_tokens": TOKENS}
    table.add("grpc.token", front.name, clients.cost(front, "generate", **many).token_us)


def generated_loaded(table: Table, clients: Clients, front: Front) -> None:
    many = {"clients": LOADED, "requests": LOADED, "max_tokens": TOKENS}
    table.add("grpc.token.loaded", front.name, clients.cost(front, "generate", **many).token_us)


def routes(table: Table, clients: Clients, front: Front) -> None:
    cost = clients.cost(front, "route", clients=CALLERS, requests=CALLS, max_tokens=1)
    table.add("route", front.name, cost.answer_us)


def routes_on_stream(table: Table, clients: Clients, front: Front) -> None:
    cost = clients.cost(front, "route_stream", clients=CALLERS, requests=CALLS, max_tokens=1)
    table.add("route.stream", front.name, cost.answer_us)


def pause(table: Table, clients: Clients, front: Front) -> None:
    """The longest one of our loop while giant prompts arrive."""
    stdin, stdout = front.process.stdin, front.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write("\n")
    stdin.flush()
    clients.load(
        "http",
        front.http_port,
        kind="giant",
        clients=GIANT_CLIENTS,
        requests=GIANTS,
        max_tokens=1,
    )
    stdin.write("\n")
    stdin.flush()
    table.add("pause", front.name, float(stdout.readline()))


def growth(table: Table, clients: Clients, front: Front) -> None:
    """More streams, of short prompts: what a token costs is to stay what it is."""
    kind = "text" if front.name == "sglang-router" else "few"
    for streams, n_tokens in GROWTH.items():
        cost = clients.cost(
            front, "http", kind=kind, clients=streams, requests=streams, max_tokens=n_tokens
        )
        table.add(f"growth.{streams}", front.name, cost.token_us)


def memory(table: Table, clients: Clients, front: Front, prompts: int) -> None:
    """Distinct prompts of 1 KB of text: how much it grows once it is warm, in MB."""
    at_mb = dict[int, float]()
    for done in range(0, prompts, A_LOAD):
        clients.load(
            "http", front.http_port, kind="text", clients=CALLERS, requests=A_LOAD, max_tokens=1
        )
        at_mb[done + A_LOAD] = resident_mb(front.pids())
    filled = min(at_mb, key=lambda n: abs(n - FILLED))
    table.add("memory.filled", front.name, at_mb[filled])
    table.add("memory", front.name, at_mb[max(at_mb)])


Measure = Callable[[Table, Clients, Front], None]
# By the row that it fills. Of every front, of ours beside engines of others, of ours alone.
EACH_ROUND: Final[Mapping[str, Measure]] = {
    "http.token": tokens,
    "http.request": requests,
    "ttft": first_tokens,
}
BESIDE_EACH_ROUND: Final[Mapping[str, Measure]] = {VERBATIM: verbatim_tokens}
OURS_EACH_ROUND: Final[Mapping[str, Measure]] = {
    "grpc.token": generated,
    "grpc.token.loaded": generated_loaded,
    "route": routes,
    "route.stream": routes_on_stream,
    "chat.8k": chats,
}
