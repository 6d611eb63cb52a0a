"""Words of the page: times, shares and the reasons of missed tokens, for people. Pure."""

import math
from typing import Final

from radixroute.replay.report.text import printable

# Why prompt tokens were not served from a cache, by class of `analysis/misses.py`.
MISSES: Final = {
    "never_seen": "new: no cache had ever held it",
    "being_computed": "another request was still computing it",
    "evicted_everywhere": "evicted by every worker that held it",
    "not_chosen": "held by a worker that was not chosen",
    "evicted_before_admission": "evicted while the request waited",
    "stale_index": "the router's picture of the caches was old",
    "index_forgot": "the index had dropped it to save memory",
    "partial_block": "end of a prompt: no full block",
    "last_token": "last block: its last token is always computed",
    "preemption": "computed again after the request was preempted",
    "scope_mismatch": "held for another tenant, adapter or salt",
}


def miss(name: str) -> str:
    """A class of missed tokens in words; one that is not known keeps its name."""
    return MISSES.get(name, printable(name).replace("_", " "))


def duration(ms: float) -> str:
    """With its unit, three digits: `4.21 ms`, `412 ms`, `3.21 s`, `312 s`."""
    if not math.isfinite(ms):
        return "-"
    if abs(ms) >= 10_000:
        return f"{ms / 1000:,.3g} s" if abs(ms) < 1e6 else f"{ms / 1000:,.0f} s"
    if abs(ms) >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if abs(ms) >= 100 else f"{ms:.3g} ms"


def span(seconds: float) -> str:
    """How long a trace lasts."""
    return f"{seconds / 60:,.0f} minutes" if seconds >= 300 else f"{seconds:,.3g} s"


def percent(share: float) -> str:
    """Of a share from 0 to 1: whole percent, or a tenth where that is all there is."""
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"


def count(number: int, noun: str) -> str:
    """`1 worker`, `12,031 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
