"""The kernel that turns an engine's events into ours: names looked up, keys chained, words written.

It changes a name table and owns none. It takes plain events only and stops before any other.
"""

import numpy as np

from radixroute.events.engines.names_kernels import AHEAD, Names, ask_for, find, remove, store
from radixroute.events.engines.names_layout import (
    BLOCK_SIZE,
    EVENT_BLOCK_SIZE,
    EVENT_HEAD,
    FIRST_TOKEN,
    GROUP,
    HELD,
    IS_PLAIN,
    KIND,
    LENGTH,
    N_HASHES,
    N_TOKENS,
    N_WORDS,
    NAME_WORDS,
    OTHER_GROUPS,
    OUT_OF_GROUPS,
    PARENT_NAME,
    PARENT_WORDS,
    SCOPE_SHIFT,
    STORED,
    TIER,
    UNKNOWN_REMOVALS,
)
from radixroute.radix.ids import Cells, Keys, Numbers, Tokens
from radixroute.radix.index.arena import number
from radixroute.radix.index.layout import (
    PACKED_HEAD,
    PACKED_REMOVE,
    PACKED_STORE,
    PACKED_TIER_SHIFT,
)
from radixroute.radix.jit import helper, kernel
from radixroute.radix.keys.kernels import chain_blocks

_NONE = np.uint64(0)


@helper
def _translate_store(t: Names, flat: Cells, at: int, tokens: Tokens, out: Keys, n_out: int) -> int:
    """A store into `out` from `n_out` on; where it ends, -1 if it is no plain one."""
    head, scopes = t.head, t.scopes
    n, size, group = number(flat[at + N_HASHES]), head[BLOCK_SIZE], number(flat[at + GROUP])
    is_whole = number(flat[at + N_TOKENS]) == n * size
    if n == 0 or not is_whole or number(flat[at + EVENT_BLOCK_SIZE]) != size:
        return -1
    scope, parent = 0, _NONE
    if flat[at + PARENT_WORDS] != _NONE:
        place = find(t, flat, at + PARENT_NAME, number(flat[at + PARENT_WORDS]), group)
        if place < 0:
            return -1
        parent = t.cells[place]
        scope = number(t.cells[place + HELD] >> SCOPE_SHIFT)
    tier, n_words = number(flat[at + TIER]), number(flat[at + NAME_WORDS])
    first = n_out + PACKED_HEAD
    end = first + n
    start = at + EVENT_HEAD
    ask_for(t, flat, start, n_words, min(AHEAD, n))  # they come while keys are made
    first_token = number(flat[at + FIRST_TOKEN])
    k0, k1 = scopes[scope, 0], scopes[scope, 1]
    chain_blocks(tokens, first_token, size, parent, k0, k1, out, first, end)
    said = store(t, flat, start, n_words, group, parent, out, first, end, scope, tier)
    if said != STORED:
        return -1
    out[n_out] = np.uint64(PACKED_STORE) | (np.uint64(tier) << PACKED_TIER_SHIFT)
    out[n_out + 1], out[n_out + 2] = parent, np.uint64(n)
    return end


@helper
def _translate_removal(t: Names, flat: Cells, at: int, out: Keys, n_out: int) -> int:
    """A removal into `out` from `n_out` on; where it ends."""
    n, n_words, tier = flat[at + N_HASHES], number(flat[at + NAME_WORDS]), number(flat[at + TIER])
    first, group = n_out + PACKED_HEAD, number(flat[at + GROUP])
    end = remove(t, flat, at + EVENT_HEAD, n_words, group, number(n), tier, out, first)
    t.head[UNKNOWN_REMOVALS] += number(n) - (end - first)
    if end == first:
        return n_out
    out[n_out] = np.uint64(PACKED_REMOVE) | (np.uint64(tier) << PACKED_TIER_SHIFT)
    out[n_out + 1], out[n_out + 2] = _NONE, np.uint64(end - first)
    return end


@helper
def _is_out(t: Names, flat: Cells, at: int) -> bool:
    """Of a group that was told to be no whole prefix."""
    bits = np.uint64(t.head[OUT_OF_GROUPS]) >> flat[at + GROUP]
    return bool(bits & np.uint64(1) != _NONE)


_TABLE = "uint64[::1], uint64[::1], uint64[:, ::1], int64[::1]"
_WORDS = "Array(uint64, 1, 'C', readonly=True)"


@kernel(f"int64({_TABLE}, {_WORDS}, int64, Array(uint32, 1, 'C', readonly=True), uint64[::1])")
def translate(  # noqa: PLR0913, PLR0917 - the table, a batch and where to put it
    cells: Cells, old: Cells, scopes: Cells, head: Numbers,
    flat: Cells, start: int, tokens: Tokens, out: Keys,
) -> int:  # fmt: skip
    """Flat events from word `start` on into packed ones at `head[N_WORDS]`; returns where it ended.

    It ends before an event that is not plain: that one is for those who know every case.
    """
    t = Names(cells, old, scopes, head)
    at, n_out = start, head[N_WORDS]
    head[UNKNOWN_REMOVALS] = head[OTHER_GROUPS] = 0
    while at < len(flat):
        kind = number(flat[at + KIND])
        if kind not in (PACKED_STORE, PACKED_REMOVE):
            break
        if _is_out(t, flat, at):
            head[OTHER_GROUPS] += 1
        elif flat[at + IS_PLAIN] == _NONE or number(flat[at + TIER]) > 2:
            break
        elif kind == PACKED_STORE:
            end = _translate_store(t, flat, at, tokens, out, n_out)
            if end < 0:
                break
            n_out = end
        else:
            n_out = _translate_removal(t, flat, at, out, n_out)
        at += number(flat[at + LENGTH])
    head[N_WORDS] = n_out
    return at
