"""Memory that holds nothing: contiguous reservations against blocks, and the size of a block.

A simulation of one memory: sequences come, grow token by token and go; what differs is how room is
given. No model is run for it, and the same seed gives the same numbers. Block size against speed is
measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_of_each
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import filled_step, paged_caches
from radixroute.kv.lab.words import seconds, share, times

NAME, TITLE = "fragmentation", "Memory that holds nothing"
QUESTION = "How much of the memory given to KV caches holds tokens, and what wastes the rest?"
MEMORY_TOKENS = 16_384
LONGEST = 2_048  # tokens that a sequence may have
BLOCK_SIZES = (8, 16, 32, 64, 128, 256)
RESERVED, EXACT, PAGED = "contiguous, longest", "contiguous, exact", "paged, 16"
WAYS = (RESERVED, EXACT, PAGED)


@dataclass(frozen=True, slots=True)
class Mix:
    """What lengths sequences have, in tokens, prompt and answer together."""

    name: str
    draw: Callable[[np.random.Generator], int]


def _clipped(mean: float, spread: float) -> Callable[[np.random.Generator], int]:
    return lambda rng: int(np.clip(rng.lognormal(np.log(mean), spread), 16, LONGEST))


MIXES = (
    Mix("all alike, 512", lambda rng: 512),
    Mix("short chats", _clipped(150, 0.5)),
    Mix("chats and documents", lambda rng: _clipped(150, 0.5)(rng) if rng.random() < 0.8 else 1800),
    Mix("long tail", _clipped(300, 1.1)),
)


@dataclass(frozen=True, slots=True)
class Use:
    """Shares of the memory over a run, in the mean: they sum to 1 with what was free and usable."""

    filled: float  # by tokens
    internal: float  # given to sequences, and empty
    external: float  # free, and in no piece that the next sequence fits in
    running: float  # sequences at once, in the mean


def run(bench: Bench) -> Result:
    """The mixes under three ways; block sizes."""
    uses = {
        mix.name: {way: simulate_use(mix, way, bench.effort.requests) for way in WAYS}
        for mix in MIXES
    }
    bench.tell("mixes")
    sizes = {
        n: simulate_use(MIXES[2], PAGED, bench.effort.requests, block_size=n) for n in BLOCK_SIZES
    }
    subject = bench.subjects[0]
    context = bench.effort.usual_context
    steps = [
        filled_step(subject, paged_caches(subject.decoder, context + 1, n), context)
        for n in BLOCK_SIZES
    ]
    least = least_of_each(steps, bench.effort.repeats)
    bench.tell("block sizes")
    laps = dict(zip(BLOCK_SIZES, least, strict=True))
    plots = (*_use_plots(uses), *_size_plots(sizes, laps))
    facts = {
        f"{name}.{way}.filled": use.filled
        for name, ways in uses.items()
        for way, use in ways.items()
    }
    return Result(NAME, TITLE, QUESTION, _text(uses, sizes, laps), plots, (_table(uses),), facts)


def simulate_use(mix: Mix, way: str, n_requests: int, *, block_size: int = 16) -> Use:
    """Sequences wait in one line; each turn those that run get one token more, or end."""
    rng = np.random.default_rng(11)
    waiting = [mix.draw(rng) for _ in range(n_requests)]
    waiting.reverse()
    memory = _Blocks(block_size) if way == PAGED else _Pieces(exact=way == EXACT)
    sums = np.zeros(4)
    turns = 0
    while waiting:
        while waiting and memory.admit(waiting[-1]):
            waiting.pop()
        memory.grow()
        if waiting:  # the end of a run, when memory empties, says nothing
            sums += memory.use()
            turns += 1
    return Use(*(sums / max(1, turns)))


# Tokens a sequence gets each turn: what is simulated is room, not time. No divisor of a block.
_GROWTH = 7
_PROMPT = 0.6  # of a sequence's tokens: they are there at once


def _prompt(final: int) -> int:
    return int(_PROMPT * final)


class _Pieces:
    """First fit: a sequence gets one piece, as long as it may become (or, exact, as it will)."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._held: list[list[int]] = []  # start, room, tokens, tokens at its end; by start
        self._refused = 0  # tokens of the piece that did not fit; 0: none was refused

    def admit(self, final: int) -> bool:
        room = final if self._exact else LONGEST
        start = 0
        for at, piece in enumerate(self._held):
            if piece[0] - start >= room:
                self._held.insert(at, [start, room, _prompt(final), final])
                return True
            start = piece[0] + piece[1]
        if MEMORY_TOKENS - start >= room:
            self._held.append([start, room, _prompt(final), final])
            return True
        self._refused = room
        return False

    def grow(self) -> None:
        for piece in self._held:
            piece[2] = min(piece[2] + _GROWTH, piece[3])
        self._held = [piece for piece in self._held if piece[2] < piece[3]]

    def use(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        filled = sum(piece[2] for piece in self._held)
        given = sum(piece[1] for piece in self._held)
        # Somebody waits, so what is free is of no use to him: it is in pieces too small.
        external = MEMORY_TOKENS - given if self._refused else 0
        shares = (filled, given - filled, external, len(self._held) * MEMORY_TOKENS)
        return np.array(shares) / MEMORY_TOKENS


class _Blocks:
    """Blocks as they are needed. A sequence is admitted while all that run can still end."""

    def __init__(self, block_size: int) -> None:
        self._size, self._held = block_size, list[list[int]]()  # tokens, tokens at its end
        self._n_blocks = MEMORY_TOKENS // block_size

    def admit(self, final: int) -> bool:
        # Later sequences wait until what earlier ones still may need is safe: no preemption here.
        ends = [*(piece[1] for piece in self._held), final]
        if self._most_at_once(ends) > self._n_blocks:
            return False
        self._held.append([_prompt(final), final])
        return True

    def _most_at_once(self, ends: list[int]) -> int:
        """Blocks at the fullest turn to come, when all grow at one pace."""
        now = np.array([*(piece[0] for piece in self._held), _prompt(ends[-1])])[:, None]
        end = np.array(ends)[:, None]
        turns = np.arange(_GROWTH, LONGEST + _GROWTH, _GROWTH)
        blocks = -(-np.minimum(now + turns, end) // self._size)
        return int((blocks * (now + turns - _GROWTH < end)).sum(axis=0).max())

    def grow(self) -> None:
        for piece in self._held:
            piece[0] = min(piece[0] + _GROWTH, piece[1])
        self._held = [piece for piece in self._held if piece[0] < piece[1]]

    def use(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        filled = sum(piece[0] for piece in self._held)
        given = sum(-(-piece[0] // self._size) * self._size for piece in self._held)
        shares = (filled, given - filled, 0, len(self._held) * MEMORY_TOKENS)
        return np.array(shares) / MEMORY_TOKENS


def _use_plots(uses: dict[str, dict[str, Use]]) -> tuple[Plot, ...]:
    categories = tuple(uses)
    filled = tuple(
        Series.bars(way, [100 * uses[name][way].filled for name in categories]) for way in WAYS
    )
    running = tuple(
        Series.bars(way, [uses[name][way].running for name in categories]) for way in WAYS
    )
    x = "mix of sequences"
    return (
        Plot("fragmentation-filled", "Memory that holds tokens", x, "% of the memory", filled,
             Kind.BARS, categories=categories),
        Plot("fragmentation-running", "Sequences that run at once", x, "sequences", running,
             Kind.BARS, categories=categories),
    )  # fmt: skip


def _size_plots(sizes: dict[int, Use], laps: dict[int, float]) -> tuple[Plot, ...]:
    waste = [(n, 100 * use.internal / (use.internal + use.filled)) for n, use in sizes.items()]
    times_ms = [(n, 1e3 * s) for n, s in laps.items()]
    x = "tokens of a block"
    return (
        Plot("fragmentation-block-waste", "Given and empty, by block size", x,
             "% of what was given", (Series.of(MIXES[2].name, waste),), is_log_x=True),
        Plot("fragmentation-block-speed", "One decode step, by block size", x, "ms",
             (Series.of("paged", times_ms),), is_log_x=True),
    )  # fmt: skip


def _table(uses: dict[str, dict[str, Use]]) -> Table:
    rows = [
        (
            name,
            way,
            share(use.filled),
            share(use.internal),
            share(use.external),
            f"{use.running:.1f}",
        )
        for name, ways in uses.items()
        for way, use in ways.items()
    ]
    return Table(
        f"A memory of {MEMORY_TOKENS:,} tokens, sequences of at most {LONGEST:,}",
        ("mix", "way", "holds tokens", "internal waste", "external waste", "sequences at once"),
        tuple(rows),
    )


def _text(uses: dict[str, dict[str, Use]], sizes: dict[int, Use], laps: dict[int, float]) -> str:
    name = MIXES[2].name
    longest, exact, paged = (uses[name][way] for way in WAYS)
    small, large = BLOCK_SIZES[0], BLOCK_SIZES[-1]
    waste = {n: use.internal / (use.internal + use.filled) for n, use in sizes.items()}
    fastest = min(laps, key=lambda n: laps[n])
    alike = uses[MIXES[0].name]
    return (
        "A contiguous cache must be given its room before anyone knows how long the answer gets. "
        f'With "{name}" and room for the longest, tokens filled {share(longest.filled)} of the '
        "memory: the "
        f"rest of each piece was empty ({share(longest.internal)}, internal waste) or lay between "
        f"pieces ({share(longest.external)}, external). Knowing each length beforehand, which "
        f"nobody does, still left {share(exact.internal)} empty while answers grew and "
        f"{share(exact.external)} in holes. Blocks of 16 filled {share(paged.filled)}, with "
        f"{times(paged.running / longest.running)} the sequences at once. The gain depends on the "
        f"mix: with sequences all alike blocks filled {share(alike[PAGED].filled)} against "
        f"{share(alike[RESERVED].filled)}.\n\nWhy not blocks of one token? A block is what a "
        f"table names, an event tells and a kernel reads at once. Blocks of {small} left "
        f"{share(waste[small])} of what was given empty, blocks of {large} {share(waste[large])}, "
        f"about half a block a sequence; one decode step took {seconds(laps[small])} with {small} "
        f"and {seconds(laps[large])} with {large} here (fastest: {fastest}). Large blocks also "
        "share less: a prefix is reused in whole blocks only."
    )
