"""Kernels of attention over block tables: K and V are read where they lie, nothing is gathered.

For tokens that come alone, one a sequence. Sums are float32. Positions that nobody wrote are not
read, so no mask has to hide them. Importing this module compiles or loads from the cache
(`radix.jit`).
"""

from typing import Any

import numpy as np

from radixroute.radix.jit import helper, kernel, summing_helper
from radixroute.radix.prefetch import prefetch
from radixroute.worker.model.cpu.floats import (
    LANES,
    at_order,
    floats_at,
    get,
    halves_at,
    numbers_at,
    order_of,
    power_of_e,
    put,
    widen,
)

_Pointer = Any
_f32 = np.float32

TILE = 16  # positions that are widened at once
N_PLACES = 4  # numbers that tell where a sequence is: row, lead, length, table


@summing_helper
def _widen(rows: _Pointer, at: int, tile: _Pointer, n: int) -> None:
    """`n` numbers from `at` on, in float32: once for all heads that use them."""
    whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        widen(rows, at + i, tile, i)
    for i in range(whole, n):
        put(tile, i, get(rows, at + i))


@helper
def _ask_for(rows: _Pointer, first: int, end: int) -> None:
    """A part of the rows that are read next: asked for between sums, they cost no waiting."""
    for i in range(first, end, LANES):
        prefetch(rows, i)


@summing_helper
def _score(
    queries: _Pointer, keys: _Pointer, tile: _Pointer, scores: _Pointer, blocks: _Pointer,
    lead: int, length: int, table: int, heads: int, kv_heads: int, width: int, block_size: int,
) -> None:  # fmt: skip
    """Products of queries, (heads, width), with every key: (heads, length)."""
    group, stride = heads // kv_heads, kv_heads * width
    done, inside = 0, lead
    while done < length:
        n = min(min(block_size - inside, length - done), TILE)
        _widen(keys, (blocks[table] * block_size + inside) * stride, tile, n * stride)
        done, inside = done + n, inside + n
        if inside == block_size:
            inside, table = 0, table + 1
        left = min(min(TILE, block_size - inside), length - done) * stride
        ahead = (blocks[table] * block_size + inside) * stride if left else 0
        for head in range(heads):
            _ask_for(keys, ahead + head * left // heads, ahead + (head + 1) * left // heads)
            query, key, to = head * width, head // group * width, head * length + done - n
            for j in range(n):
                total = _f32(0.0)
                for d in range(width):
                    total += get(queries, query + d) * get(tile, key + j * stride + d)
                put(scores, to + j, total)


@summing_helper
def _weigh(scores: _Pointer, at: int, length: int) -> None:
    """Scores to weights, in place."""
    place = order_of(get(scores, at))
    for t in range(1, length):
        place = max(place, order_of(get(scores, at + t)))
    highest = at_order(place)
    total = _f32(0.0)
    for t in range(length):
        weight = power_of_e(get(scores, at + t) - highest)
        put(scores, at + t, weight)
        total += weight
    share = _f32(1.0) / total
    for t in range(length):
        put(scores, at + t, get(scores, at + t) * share)


@summing_helper
def _read_values(
    weights: _Pointer, values: _Pointer, tile: _Pointer, sums: _Pointer, blocks: _Pointer,
    lead: int, length: int, table: int, heads: int, kv_heads: int, stored: int, width: int,
    block_size: int,
) -> None:  # fmt: skip
    """Weighted sums, (heads, width), of the first `width` features of values `stored` wide."""
    for i in range(heads * width):
        put(sums, i, _f32(0.0))
    group, stride = heads // kv_heads, kv_heads * stored
    done, inside = 0, lead
    while done < length:
        n = min(min(block_size - inside, length - done), TILE)
        _widen(values, (blocks[table] * block_size + inside) * stride, tile, n * stride)
        done, inside = done + n, inside + n
        if inside == block_size:
            inside, table = 0, table + 1
        left = min(min(TILE, block_size - inside), length - done) * stride
        ahead = (blocks[table] * block_size + inside) * stride if left else 0
        for head in range(heads):
            _ask_for(values, ahead + head * left // heads, ahead + (head + 1) * left // heads)
            at, to, v, j = head * length + done - n, head * width, head // group * stored, 0
            while j + 4 <= n:  # four at a time: the sums are read and written once for them
                w0, w1 = get(weights, at + j), get(weights, at + j + 1)
                w2, w3 = get(weights, at + j + 2), get(weights, at + j + 3)
                v1, v2, v3 = v + stride, v + 2 * stride, v + 3 * stride
                for d in range(width):
                    more = w0 * get(tile, v + d) + w1 * get(tile, v1 + d)
                    more += w2 * get(tile, v2 + d) + w3 * get(tile, v3 + d)
                    put(sums, to + d, get(sums, to + d) + more)
                j, v = j + 4, v + 4 * stride
            while j < n:
                w0 = get(weights, at + j)
                for d in range(width):
                    put(sums, to + d, get(sums, to + d) + w0 * get(tile, v + d))
                j, v = j + 1, v + stride


@summing_helper
def _attend(
    q: _Pointer, keys: _Pointer, values: _Pointer, out: _Pointer, places: _Pointer,
    blocks: _Pointer, scratch: int, n: int, heads: int, kv_heads: int, key_width: int,
    stored: int, width: int, q_stride: int, block_size: int, scale: float,
) -> None:  # fmt: skip
    queries = floats_at(scratch)
    sums = floats_at(scratch + 4 * heads * key_width)
    tile = floats_at(scratch + 4 * heads * (key_width + width))
    before = heads * (key_width + width) + TILE * kv_heads * max(key_width, stored)
    scores = floats_at(scratch + 4 * before)
    for i in range(n):
        row, lead = places[4 * i], places[4 * i + 1]
        length, table = places[4 * i + 2], places[4 * i + 3]
        for d in range(heads * key_width):
            put(queries, d, get(q, row * q_stride + d) * scale)
        _score(
            queries, keys, tile, scores, blocks,
            lead, length, table, heads, kv_heads, key_width, block_size,
        )  # fmt: skip
        for head in range(heads):
            _weigh(scores, head * length, length)
        _read_values(
            scores, values, tile, sums, blocks,
            lead, length, table, heads, kv_heads, stored, width, block_size,
        )  # fmt: skip
        for d in range(heads * width):
            put(out, row * heads * width + d, get(sums, d))


@summing_helper
def _attend_by_width(
    q: _Pointer, keys: _Pointer, values: _Pointer, out: _Pointer, places: _Pointer,
    blocks: _Pointer, scratch: int, n: int, heads: int, kv_heads: int, key_width: int,
    stored: int, width: int, q_stride: int, block_size: int, scale: float,
) -> None:  # fmt: skip
    """Loops over as many features as most models have are compiled for just that many."""
    if key_width == 64 and stored == 64 and width == 64:
        _attend(
            q, keys, values, out, places, blocks, scratch, n, heads, kv_heads,
            64, 64, 64, q_stride, block_size, scale,
        )  # fmt: skip
    elif key_width == 128 and stored == 128 and width == 128:
        _attend(
            q, keys, values, out, places, blocks, scratch, n, heads, kv_heads,
            128, 128, 128, q_stride, block_size, scale,
        )  # fmt: skip
    else:
        _attend(
            q, keys, values, out, places, blocks, scratch, n, heads, kv_heads,
            key_width, stored, width, q_stride, block_size, scale,
        )  # fmt: skip


def scratch_size(
    heads: int, kv_heads: int, key_width: int, stored: int, width: int, longest: int
) -> int:
    """Floats that a call needs beside its arguments."""
    tile = TILE * kv_heads * max(key_width, stored)
    return heads * (key_width + width + longest) + tile


_SIGNATURE = "void(" + "int64, " * 15 + "float32)"


@kernel(_SIGNATURE, reorders_sums=True)
def attend_f32(
    q: int, keys: int, values: int, out: int, places: int, blocks: int, scratch: int,
    n: int, heads: int, kv_heads: int, key_width: int, stored: int, width: int,
    q_stride: int, block_size: int, scale: float,
) -> None:  # fmt: skip
    """Attention of `n` tokens, one a sequence: fills their rows of `out`, (rows, heads, width).

    Rows of q are `q_stride` numbers apart; keys, (slots, kv_heads, key_width), and values, (slots,
    kv_heads, stored), are one layer's planes; of values the first `width` features are read.
    `places`: of each sequence its row, the positions of its first block that it does not see, how
    many it sees, and where its blocks begin in `blocks`. `scratch`: float32, `scratch_size`.
    """
    _attend_by_width(
        floats_at(q), floats_at(keys), floats_at(values), floats_at(out), numbers_at(places),
        numbers_at(blocks), scratch, n, heads, kv_heads, key_width, stored, width,
        q_stride, block_size, scale,
    )  # fmt: skip


@kernel(_SIGNATURE, reorders_sums=True)
def attend_bf16(
    q: int, keys: int, values: int, out: int, places: int, blocks: int, scratch: int,
    n: int, heads: int, kv_heads: int, key_width: int, stored: int, width: int,
    q_stride: int, block_size: int, scale: float,
) -> None:  # fmt: skip
    """The same."""
    _attend_by_width(
        halves_at(q), halves_at(keys), halves_at(values), halves_at(out), numbers_at(places),
        numbers_at(blocks), scratch, n, heads, kv_heads, key_width, stored, width,
        q_stride, block_size, scale,
    )  # fmt: skip
