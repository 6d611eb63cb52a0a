"""The workloads of the grid by name, in two halves.

Owns what is judged on, and what is not a synthetic kind of the product: workloads made to expose
one weakness each. Every draw of a workload is another trace of the same kind, of seeds that no
constant was chosen on; of the conversation trace only the spread of its arrivals can be drawn.

Constants are chosen on one half and judged on the other, both ways, so no two workloads with the
same prompts are in different halves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from radixroute.replay.synth.draws import Draws
from radixroute.replay.synth.prompts import Piece, Pieces
from radixroute.replay.synth.workloads import KINDS, synthesize
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reshape import cut, spread
from radixroute.replay.traces.trace import Trace

TRACE = Path("bench/data/conversation_trace.jsonl.gz")
BUCKET_NS = 3_000_000_000  # of that trace's clock
MOST_REQUESTS = 3_000  # of a synthetic workload
FIRST_SEED = 100  # held out: constants were chosen on 1 to 3, judged before on 11 to 13
KV_BLOCKS = 16384  # of a worker, where a workload says nothing else
A, B = "A", "B"
# The conversations and whatever retrieves and batches; whatever goes in sessions and crowds.
_HALVES = {"few_shot": A, "rag": A}

Make = Callable[[int], Trace]  # of a draw


@dataclass(frozen=True, slots=True)
class Workload:
    """`cache_share`: blocks of all workers together / blocks of all prompts; None: `KV_BLOCKS`."""

    name: str
    half: str
    make: Make
    has_bars: bool  # what the bars are about; the others expose
    cache_share: float | None = None


@cache
def _conversation() -> Trace:
    return read_trace(TRACE).trace


def _synthetic(kind: str) -> Make:
    return lambda draw: cut(synthesize(kind, FIRST_SEED + draw), MOST_REQUESTS)


# -- workloads that expose


def _short_and_long(draws: Draws, pieces: Pieces) -> None:
    """Nothing shared: 30 % of a few tokens, the rest of thousands. Who learns speeds from short
    prompts alone thinks the long ones slow."""
    for arrival in draws.arrivals_ns(MOST_REQUESTS // 2, 4.0).tolist():
        low, high = (10, 60) if draws.happens(0.3) else (2_000, 16_000)
        pieces.add(arrival, (pieces.text(draws.count(low, high)),), 100)


def _unshared(draws: Draws, pieces: Pieces) -> None:
    """No prefix twice: all that routing can do is to spread."""
    for arrival in draws.arrivals_ns(MOST_REQUESTS // 2, 4.0).tolist():
        pieces.add(arrival, (pieces.text(draws.tokens(3_000)),), draws.tokens(200))


def _one_trunk(draws: Draws, pieces: Pieces) -> None:
    """One long prefix before every prompt: the first who hold it must not get all."""
    trunk = pieces.text(8_000)
    for arrival in draws.arrivals_ns(MOST_REQUESTS // 2, 4.0).tolist():
        pieces.add(arrival, (trunk, pieces.text(draws.tokens(600))), draws.tokens(200))


def _made_by(name: str, fill: Callable[[Draws, Pieces], None]) -> Make:
    def make(draw: int) -> Trace:
        pieces = Pieces()
        fill(Draws.of(name, FIRST_SEED + draw, 0.6), pieces)
        return pieces.trace(f"{name}-{draw}")

    return make


def _sessions(draw: int) -> Trace:
    """Long chats of large steps: what they hold is worth much, and caches of each size see them."""
    pieces, draws = Pieces(), Draws.of("sessions", FIRST_SEED + draw, 0.6)
    for start in draws.arrivals_ns(MOST_REQUESTS // 2, 0.5).tolist():
        prompt: tuple[Piece, ...] = ()
        wait, before = start, None
        for _ in range(min(draws.count(1, 11), MOST_REQUESTS // 2 - len(pieces))):
            prompt = (*prompt, pieces.text(draws.tokens(1_500)))
            answer = pieces.text(draws.tokens(300))
            before = pieces.add(wait, prompt, answer.tokens, after=before)
            prompt, wait = (*prompt, answer), draws.wait_ns(10.0)
    return pieces.trace(f"sessions-{draw}")


def _all() -> dict[str, Workload]:
    found = [
        Workload("conversation", A, lambda _: _conversation(), has_bars=True),
        Workload(
            "conversation_spread",
            A,
            lambda draw: spread(_conversation(), FIRST_SEED + draw, BUCKET_NS),
            has_bars=True,
        ),
    ]
    for kind in KINDS:
        found.append(Workload(kind, _HALVES.get(kind, B), _synthetic(kind), has_bars=True))
    exposing: tuple[tuple[str, str, Callable[[Draws, Pieces], None]], ...] = (
        ("short_and_long", A, _short_and_long),
        ("unshared", B, _unshared),
        ("one_trunk", B, _one_trunk),
    )
    for name, half, fill in exposing:
        found.append(Workload(name, half, _made_by(name, fill), has_bars=False))
    caches = (("sessions_starved", 0.1), ("sessions_tight", 0.5), ("sessions_ample", 2.0))
    for name, share in caches:
        found.append(Workload(name, A, _sessions, has_bars=False, cache_share=share))
    return {one.name: one for one in found}


WORKLOADS: Mapping[str, Workload] = _all()
GROUPS: Mapping[str, tuple[str, ...]] = {
    "all": tuple(WORKLOADS),
    "bars": tuple(name for name, one in WORKLOADS.items() if one.has_bars),
    "exposing": tuple(name for name, one in WORKLOADS.items() if not one.has_bars),
    "A": tuple(name for name, one in WORKLOADS.items() if one.half == A),
    "B": tuple(name for name, one in WORKLOADS.items() if one.half == B),
}
