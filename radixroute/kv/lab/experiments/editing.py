"""A conversation whose history is edited: how much of its cache survives.

What survives is asked of the engine's own prefix cache; what is left to compute is measured.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_seconds
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import BLOCK_SIZE, Subject, contiguous_caches, fill
from radixroute.kv.lab.words import seconds, share
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import Scope
from radixroute.worker.engine.cache import PrefixCache

NAME, TITLE = "editing", "A conversation whose history is edited"
QUESTION = "What of the cache survives when something in the history changes?"
SYSTEM = 96  # tokens
TURNS = 8


@dataclass(frozen=True, slots=True)
class _Edit:
    """The prompt after one kind of change, what of it was cached, and the rest computed."""

    name: str
    n_tokens: int
    n_cached: int
    seconds: float


def run(bench: Bench) -> Result:
    """One conversation, several changes, on the first model."""
    subject = bench.subjects[-1]
    turn = max(8, bench.effort.uncached_lengths[-1] // 10)
    edits = [_edited(subject, name, ids, turn, bench) for name, ids in changes(turn).items()]
    names = tuple(one.name for one in edits)
    plots = (
        Plot("editing-survives", "Prompt tokens that are still cached", "what was changed", "%",
             (Series.bars("%", [100 * one.n_cached / one.n_tokens for one in edits]),), Kind.BARS,
             categories=names),
        Plot("editing-time", f"Time to first token, {subject.name}", "what was changed", "ms",
             (Series.bars("ms", [1e3 * one.seconds for one in edits]),), Kind.BARS,
             categories=names),
    )  # fmt: skip
    rows = [
        (one.name, f"{one.n_tokens:,}", f"{one.n_cached:,}", share(one.n_cached / one.n_tokens),
         seconds(one.seconds))
        for one in edits
    ]  # fmt: skip
    columns = ("change", "prompt", "still cached", "share", "first token")
    table = Table(f"{TURNS} turns of {turn} tokens after {SYSTEM} of system prompt", columns,
                  tuple(rows))  # fmt: skip
    facts = {f"{one.name}.cached_share": one.n_cached / one.n_tokens for one in edits}
    return Result(NAME, TITLE, QUESTION, _text(edits), plots, (table,), facts)


def changes(turn: int) -> dict[str, Tokens]:
    """The conversation's next prompt, changed in several ways. The first one is `as it was`."""
    pieces = _conversation(turn)
    new = np.arange(50_000, 50_000 + turn, dtype=np.uint32)
    middle, last = 1 + TURNS // 2, len(pieces) - 1

    def replaced(at: int) -> Tokens:
        return np.concatenate([*pieces[:at], new, *pieces[at + 1 :], new])

    stamped = np.concatenate([new[:4], *pieces, new])
    return {
        "nothing: one turn more": np.concatenate([*pieces, new]),
        "the last turn": replaced(last),
        "a turn in the middle": replaced(middle),
        "the oldest turn dropped": np.concatenate([pieces[0], *pieces[2:], new]),
        "a time stamp in front": stamped,
    }


def cached_after(turn: int) -> dict[str, int]:
    """Tokens of each changed prompt that the engine's prefix cache still holds."""
    cache = PrefixCache(4096, BLOCK_SIZE, Scope("lab", BLOCK_SIZE))
    before = np.concatenate(_conversation(turn))
    lease = cache.acquire(before)
    cache.grow(lease, len(before))
    cache.publish(lease, before, len(before))
    cache.settle(lease)
    cache.release(lease)
    return {name: cache.cached_tokens(ids) for name, ids in changes(turn).items()}


def _conversation(turn: int) -> list[Tokens]:
    """Its pieces: the system prompt, then turns; every token differs."""
    lengths = [SYSTEM, *[turn] * TURNS]
    starts = np.cumsum([1, *lengths])
    return [
        np.arange(start, start + n, dtype=np.uint32)
        for start, n in zip(starts[:-1].tolist(), lengths, strict=True)
    ]


def _edited(subject: Subject, name: str, ids: Tokens, turn: int, bench: Bench) -> _Edit:
    decoder, n_cached = subject.decoder, cached_after(turn)[name]
    caches = contiguous_caches(decoder, len(ids))
    if n_cached:
        fill(caches, decoder, n_cached)
    rest = subject.ids(len(ids) - n_cached)

    def first_token() -> None:
        decoder.last_logits(rest, caches)
        for cache in caches:
            cache.length = n_cached

    first_token()
    bench.tell(name)
    return _Edit(name, len(ids), n_cached, least_seconds(first_token, bench.effort.repeats))


def _text(edits: list[_Edit]) -> str:
    by_name = {one.name: one for one in edits}
    kept, last, middle, dropped, stamped = by_name.values()
    return (
        "K and V of a token depend on every token before it, through all layers. So a cache is "
        "good up to the first token that differs and not one further, in whole blocks. With one "
        f"turn more {share(kept.n_cached / kept.n_tokens)} of the prompt was still cached and the "
        f"first token came after {seconds(kept.seconds)}. With the last turn changed "
        f"{share(last.n_cached / last.n_tokens)} survived, with one in the middle "
        f"{share(middle.n_cached / middle.n_tokens)}. Dropping the oldest turn to save room, as "
        "many chat programs do, moves all that follows: "
        f"{share(dropped.n_cached / dropped.n_tokens)} survived, which is the system prompt. And "
        "a time stamp in front of everything leaves "
        f"{share(stamped.n_cached / stamped.n_tokens)}: {seconds(stamped.seconds)} to the first "
        "token. What changes often belongs at the end of a prompt, what never changes at its "
        "beginning."
    )
