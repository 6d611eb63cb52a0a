"""View: what there is to see of misses over a window, and the one thing to change. Pure.

Owns the words of the advice: each class has one remedy, and numbers that say what it would be
worth. What a tenant may see is its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from radixroute.insight.misses.sums import (
    CACHED,
    EITHER,
    LIVE_CLASSES,
    MINUTE_NS,
    PROMPT,
    REQUESTS,
    Minute,
    Tokens,
    new_tokens,
    reachable,
)
from radixroute.replay.analysis.misses import DEFINITIONS

K = TypeVar("K")
MAX_SESSIONS: Final = 20
KEPT_SHARE: Final = 0.8  # of tokens evicted everywhere, that the advice is to keep
# Nobody can change these: each prompt has some.
_UNAVOIDABLE: Final = ("never_seen", "last_token", "partial_block")
LIVE_DEFINITIONS: Final = DEFINITIONS | {
    EITHER: "The router believed the chosen worker had it, and it had not when it looked; its"
    " events have no times that say whether it was evicted in between.",
}


@dataclass(frozen=True, slots=True)
class MissRow:
    """Tokens of one worker, tenant, session or minute."""

    name: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    reachable_tokens: int  # of the prompts, with one cache without a limit
    missed: dict[str, int]  # by class, those that are there


@dataclass(frozen=True, slots=True)
class MissView:
    """All of the window."""

    window_s: float  # as far as there is any
    total: MissRow
    by_worker: tuple[MissRow, ...]
    by_tenant: tuple[MissRow, ...]
    by_session: tuple[MissRow, ...]  # those that missed most; ids are the router's hashes
    by_minute: tuple[MissRow, ...]  # oldest first
    unattributed: dict[str, int]  # prompt tokens of which nobody can say, by why
    largest: str  # class that can be changed and costs most; empty: nothing was missed
    advice: str
    ago_s: float  # how long ago the last minute began


def view_of(minutes: Iterable[Minute], pool_blocks: int, block_size: int, now_ns: int) -> MissView:
    """`pool_blocks`: of a worker, in the mean; 0: not known."""
    listed = list(minutes)
    total = _sum(listed, lambda one: one.workers.values())
    row = _row("", total)
    largest = _largest(row)
    unattributed = dict[str, int]()
    for minute in listed:
        for why, n in minute.unattributed.items():
            unattributed[why] = unattributed.get(why, 0) + n
    span_ns = (listed[-1].number - listed[0].number + 1) * MINUTE_NS if listed else 0
    sessions = _rows(listed, lambda one: one.sessions, lambda key: f"{key:016x}")
    sessions.sort(key=lambda one: -sum(one.missed.values()))
    return MissView(
        window_s=span_ns / 1e9,
        total=row,
        by_worker=tuple(_rows(listed, lambda one: one.workers, str)),
        by_tenant=tuple(_rows(listed, lambda one: one.tenants, lambda key: key or "default")),
        by_session=tuple(sessions[:MAX_SESSIONS]),
        by_minute=tuple(
            _row(str(one.number * 60), _sum([one], lambda m: m.workers.values())) for one in listed
        ),
        unattributed=unattributed,
        largest=largest,
        advice=_advice(row, largest, listed, pool_blocks, block_size),
        ago_s=(now_ns - listed[-1].number * MINUTE_NS) / 1e9 if listed else 0.0,
    )


def _largest(row: MissRow) -> str:
    """Of those that somebody could change; of others, where there are only such."""
    changeable = {name: n for name, n in row.missed.items() if name not in _UNAVOIDABLE}
    among = changeable or row.missed
    return max(among, key=lambda name: among[name]) if among else ""


def _advice(
    row: MissRow, largest: str, minutes: list[Minute], pool_blocks: int, block_size: int
) -> str:
    missed = sum(row.missed.values())
    if not largest or not missed:
        return "Nothing was missed that anybody can tell of."
    share = f"{100 * row.missed[largest] / missed:.0f} % of what was missed"
    if largest == "evicted_everywhere":
        return f"{share} was evicted everywhere: {_more_memory(minutes, pool_blocks, block_size)}"
    return f"{share}: {_REMEDIES[largest]}"


def _more_memory(minutes: list[Minute], pool_blocks: int, block_size: int) -> str:
    """How many blocks more would have kept most of it, if what was used longest ago goes first."""
    extra = sorted(pair for minute in minutes for pair in minute.extra)
    tokens = np.cumsum([n for _, n in extra])
    if not len(tokens) or not tokens[-1]:
        return "give the workers more KV memory (`radixroute replay plan` says how much)."
    at = int(np.searchsorted(tokens, KEPT_SHARE * tokens[-1]))
    blocks = extra[min(at, len(extra) - 1)][0]
    size = f"{blocks:,} KV blocks ({blocks * block_size:,} tokens) more a worker"
    beside = f", {100 * blocks / pool_blocks:.0f} % of what it has," if pool_blocks else ""
    return f"{size}{beside} would have kept {100 * KEPT_SHARE:.0f} % of it."


_REMEDIES: Final = {
    "being_computed": "it was about to be computed elsewhere when the next request came. Bursts"
    " of one prefix do that: send the first alone, or let requests wait (policy radix does).",
    "not_chosen": "another worker held it and was not chosen, as it was busier: add workers, or"
    " see `radixroute explain` of such a request for what the other would have cost.",
    "evicted_before_admission": "it was evicted while the request waited at its worker: give"
    " workers more KV memory, or less at once (max_num_seqs).",
    "stale_index": "the router had not heard of it yet, or believed what was gone: look at the"
    " event streams (`radixroute workers`, `radixroute doctor`).",
    EITHER: "the router believed what was gone when its worker looked: look at the event streams"
    " (`radixroute workers`), and give workers more KV memory if they are live.",
    "index_forgot": "the index had to drop it for want of memory: raise router.index_bytes.",
    "preemption": "it was computed again after the worker had to preempt: give workers more KV"
    " memory, or less at once (max_num_seqs).",
    "scope_mismatch": "it was held under another salt, adapter or tenant, which is what those are"
    " for.",
    "never_seen": "nobody had ever computed it: prompts share little. Put what they share first,"
    " and what differs (times, names) last.",
    "last_token": "only what no cache can serve: the block of each prompt's last token.",
    "partial_block": "only what no cache can serve: each prompt's last, unfilled block.",
}


def _sum(minutes: Iterable[Minute], of: Callable[[Minute], Iterable[Tokens]]) -> Tokens:
    total = new_tokens()
    for minute in minutes:
        for tokens in of(minute):
            total += tokens
    return total


def _rows(
    minutes: Iterable[Minute], of: Callable[[Minute], dict[K, Tokens]], name: Callable[[K], str]
) -> list[MissRow]:
    sums = dict[K, Tokens]()
    for minute in minutes:
        for key, tokens in of(minute).items():
            sums[key] = sums[key] + tokens if key in sums else tokens.copy()
    named = {name(key): tokens for key, tokens in sums.items()}
    return [_row(shown, named[shown]) for shown in sorted(named)]


def _row(name: str, tokens: Tokens) -> MissRow:
    found = zip(LIVE_CLASSES, tokens[:PROMPT].tolist(), strict=True)
    return MissRow(
        name,
        int(tokens[REQUESTS]),
        int(tokens[PROMPT]),
        int(tokens[CACHED]),
        reachable(tokens),
        {class_name: n for class_name, n in found if n},
    )
