"""Kernels that read what a foreign engine sends without making a Python object of any of it.

Owns the forms they take: a batch array of event maps as vLLM encodes them, plain fields only.
"""

import numpy as np

from radixroute.events.engines.names_layout import (
    EVENT_BLOCK_SIZE,
    EVENT_HEAD,
    FIRST_TOKEN,
    GROUP,
    IS_PLAIN,
    KIND,
    LENGTH,
    LOCALITY,
    MAX_GROUP,
    MEDIUM,
    N_EXTRA,
    N_HASHES,
    N_TOKENS,
    NAME_WORDS,
    NOT_OURS,
    PARENT_NAME,
    PARENT_WORDS,
    SPEC_KIND,
    TIER,
)
from radixroute.events.wire.msgpack_kernels import (
    FLOAT,
    NIL,
    array_len,
    big,
    bin_len,
    byte,
    count,
    is_ascii,
    map_len,
    skip,
    text_len,
    word,
)
from radixroute.radix.ids import Cells, Flags, Numbers, Tokens
from radixroute.radix.index.arena import number
from radixroute.radix.index.layout import PACKED_CLEAR, PACKED_REMOVE, PACKED_STORE
from radixroute.radix.jit import helper, kernel, rare_helper

_NONE, _ONE = np.uint64(0), np.uint64(1)
_MAX_EVENTS = 1 << 16
_U8, _U32 = 0xCC, 0xCE
_TEXT = 32  # bytes of a row of texts: its length, what it means, then itself


def rows_of_texts(texts: dict[str, int]) -> Flags:
    """Texts and what each means, shape (texts, 32), for kernels to compare with."""
    rows = np.zeros((len(texts), _TEXT), np.uint8)
    for row, (text, meaning) in zip(rows, texts.items(), strict=True):
        row[0], row[1] = len(text), meaning
        row[2 : 2 + len(text)] = bytearray(text, "ascii")
    return rows


# What a text in `known` means: tiers as they are, then these.
MAIN_KIND, LOCAL = 16, 17
_HASHES, _PARENT, _IDS, _SIZE, _MEDIUM, _EXTRA, _GROUP, _SPEC, _WHERE, _NILS = range(1, 11)
# In the order in which vLLM sends them, so that the next is nearly always the one after the last.
_FIELDS = rows_of_texts(
    {
        "block_hashes": _HASHES,
        "parent_block_hash": _PARENT,
        "token_ids": _IDS,
        "block_size": _SIZE,
        "lora_id": _NILS,
        "medium": _MEDIUM,
        "lora_name": _NILS,
        "extra_keys": _EXTRA,
        "group_idx": _GROUP,
        "kv_cache_spec_kind": _SPEC,
        "locality": _WHERE,
        "cache_salt": _NILS,
        "type": 0,  # once is enough
    }
)
_OF_REMOVALS = (1 << _HASHES) | (1 << _MEDIUM) | (1 << _GROUP) | (1 << _WHERE)
_NEEDED = (1 << _HASHES) | (1 << _IDS) | (1 << _SIZE)
_TAGS = rows_of_texts(
    {
        "type": 0,
        "BlockStored": PACKED_STORE,
        "BlockRemoved": PACKED_REMOVE,
        "AllBlocksCleared": PACKED_CLEAR,
    }
)


@helper
def _is(data: Flags, first: int, n: int, rows: Flags, row: int, upper: bool) -> bool:
    if n != rows[row, 0]:
        return False
    for i in range(n):
        one = data[first + i]
        if upper and 0x61 <= one <= 0x7A:
            one -= np.uint8(0x20)
        if one != rows[row, 2 + i]:
            return False
    return True


@helper
def _row_of(data: Flags, first: int, n: int, rows: Flags, guess: int) -> int:
    """Which of the texts it is, -1 for none; `guess` is looked at first."""
    for i in range(len(rows)):
        row = (guess + i) % len(rows)
        if _is(data, first, n, rows, row, False):
            return row
    return -1


@helper
def _ids(data: Flags, at: int, ids: Tokens, n_ids: int) -> tuple[int, int]:
    """An array of ids into `ids` from `n_ids` on; where bytes and ids go on, -1: no such array."""
    n, at = array_len(data, at)
    if n < 0 or at + n > len(data):
        return -1, n_ids
    for i in range(n_ids, n_ids + n):
        tag = byte(data, at)
        if 0 <= tag < 0x80:
            ids[i] = np.uint32(tag)
            at += 1
            continue
        size = 1 << (tag - _U8) if _U8 <= tag <= _U32 else 0
        if size == 0 or at + 1 + size > len(data):
            return -1, n_ids
        # No branch for the width, which nobody can foretell: nearly twice as fast.
        if at + 5 <= len(data):
            four = big(data, at + 1, 4)
        else:
            four = big(data, at + 1, size) << np.uint64(32 - 8 * size)
        ids[i] = np.uint32(four >> np.uint64(32 - 8 * size))
        at += 1 + size
    return at, n_ids + n


@helper
def _name(data: Flags, at: int, words: Cells, n: int) -> tuple[int, int]:
    """A name into `words` from `n` on: how many words, 0 for none, and where bytes go on."""
    size, first = bin_len(data, at)
    if size < 0:
        words[n], at = word(data, at)
        return (1, at) if at >= 0 else (0, at)
    n_words = 1 if size <= 8 else 4
    if size == 0 or size > 32:
        return 0, at
    for i in range(n_words):
        end = first + size - 8 * i
        start = max(first, end - 8)
        words[n + i] = big(data, start, max(0, end - start))
    return n_words, first + size


@helper
def _names(data: Flags, at: int, words: Cells, base: int) -> int:
    """Names of one width into the event at `words[base]`; where bytes go on, -1: no such array."""
    n, at = array_len(data, at)
    if n < 0 or at + n > len(data):
        return -1
    put, width = base + EVENT_HEAD, 1
    for i in range(n):
        n_words, at = _name(data, at, words, put)
        if n_words == 0 or (i > 0 and n_words != width):
            return -1
        width = n_words
        put += width
    words[base + N_HASHES], words[base + NAME_WORDS] = np.uint64(n), np.uint64(width)
    return at


@helper
def _text(
    data: Flags, at: int, words: Cells, field: int, known: Flags, upper: bool
) -> tuple[int, int]:
    """A text or nil into a field: what `known` says it means, -1: nothing; where bytes go on."""
    if byte(data, at) == NIL:
        return -1, at + 1
    n, first = text_len(data, at)
    if n < 0 or not is_ascii(data, first, n):
        return -1, -1
    words[field] = np.uint64(first << 32 | n)
    for row in range(len(known)):
        if _is(data, first, n, known, row, upper):
            return np.int64(known[row, 1]), first + n  # type: ignore[return-value]
    return -1, first + n


@helper
def _place_field(data: Flags, at: int, words: Cells, base: int, field: int, known: Flags) -> int:
    """A field that says where the blocks are; where bytes go on, -1 if it is not understood."""
    if field == _GROUP:
        if byte(data, at) == NIL:
            return at + 1
        group, at = count(data, at)
        words[base + GROUP] = np.uint64(group + 1)
        return at if 0 <= group <= MAX_GROUP else -1
    if field == _MEDIUM:
        meaning, at = _text(data, at, words, base + MEDIUM, known, True)
        if words[base + MEDIUM] != _NONE:
            words[base + TIER] = np.uint64(meaning if 0 <= meaning < MAIN_KIND else NOT_OURS)
        return at
    text = base + (SPEC_KIND if field == _SPEC else LOCALITY)
    meaning, at = _text(data, at, words, text, known, False)
    if words[text] != _NONE and meaning != (MAIN_KIND if field == _SPEC else LOCAL):
        words[base + IS_PLAIN] = _NONE
    return at


@helper
def _block_field(data: Flags, at: int, words: Cells, base: int, field: int) -> int:
    """A field that says what the blocks are; where bytes go on, -1 if it is not understood."""
    if field == _HASHES:
        return _names(data, at, words, base)
    if field == _SIZE:
        size, at = count(data, at)
        words[base + EVENT_BLOCK_SIZE] = np.uint64(size)
        return at if size >= 0 else -1
    if byte(data, at) == NIL:
        return at + 1
    if field == _PARENT:
        n_words, at = _name(data, at, words, base + PARENT_NAME)
        words[base + PARENT_WORDS] = np.uint64(n_words)
        return at if n_words > 0 else -1
    n, at = array_len(data, at) if field == _EXTRA else (-1, at)
    for i in range(at, at + n):
        if byte(data, i) != NIL:
            return -1
    words[base + N_EXTRA] = np.uint64(max(n, 0))
    return at + n if n >= 0 else -1


@rare_helper
def _event(  # noqa: C901, PLR0911, PLR0912, PLR0913, PLR0917 - every way in which it is not understood
    data: Flags, at: int, words: Cells, base: int, ids: Tokens, n_ids: int, known: Flags
) -> tuple[int, int, int]:
    """One event into `words` from `base` on; where bytes, words and ids go on, -1: not plain."""
    n_fields, at = map_len(data, at)
    n, first = text_len(data, at)
    if n_fields < 1 or n < 0 or not _is(data, first, n, _TAGS, 0, False):
        return -1, base, n_ids
    n, first = text_len(data, first + n)
    row = _row_of(data, first, n, _TAGS, 1) if n > 0 else -1
    if row < 1:
        return -1, base, n_ids
    kind = number(_TAGS[row, 1])
    for i in range(base, base + EVENT_HEAD):
        words[i] = _NONE
    words[base + KIND], words[base + IS_PLAIN] = np.uint64(kind), _ONE
    words[base + NAME_WORDS] = _ONE
    at = first + n
    seen, row = 0, -1
    for _ in range(n_fields - 1):
        n, first = text_len(data, at)
        if n < 0:
            return -1, base, n_ids
        at = first + n
        found = _row_of(data, first, n, _FIELDS, row + 1)
        if found < 0:
            at = skip(data, at) if is_ascii(data, first, n) else -1
            if at < 0:
                return -1, base, n_ids
            continue
        row = found
        field = number(_FIELDS[row, 1])
        bit = 1 << field
        is_strange = kind == PACKED_REMOVE and bit & _OF_REMOVALS == 0
        if field == 0 or kind == PACKED_CLEAR or is_strange or (seen & bit and field != _NILS):
            return -1, base, n_ids
        seen |= bit
        if field == _IDS:
            words[base + FIRST_TOKEN] = np.uint64(n_ids)
            at, n_ids = _ids(data, at, ids, n_ids)
            words[base + N_TOKENS] = np.uint64(n_ids) - words[base + FIRST_TOKEN]
        elif field in (_MEDIUM, _GROUP, _SPEC, _WHERE):
            at = _place_field(data, at, words, base, field, known)
        else:
            at = _block_field(data, at, words, base, field)
        if at < 0:
            return -1, base, n_ids
    needed = _NEEDED if kind == PACKED_STORE else (1 << _HASHES)
    if kind != PACKED_CLEAR and seen & needed != needed:
        return -1, base, n_ids
    length = EVENT_HEAD + number(words[base + N_HASHES] * words[base + NAME_WORDS])
    words[base + LENGTH] = np.uint64(length)
    return at, base + length, n_ids


_DATA = "Array(uint8, 1, 'C', readonly=True)"


@kernel(
    f"int64({_DATA}, Array(uint8, 2, 'C', readonly=True), uint64[::1], uint32[::1], int64[::1])"
)
def flatten(data: Flags, known: Flags, words: Cells, ids: Tokens, header: Numbers) -> int:
    """Words written: the events of a batch, flat; -1 for a payload that is not of this form.

    `ids` has room for as many as there are bytes, `words` for that and two heads of events.
    `header`: the bits of the time, the rank (-1: none), events, hashes, most words of a name.
    """
    n_items, at = array_len(data, 0)
    if not 2 <= n_items <= 3 or byte(data, at) != FLOAT or at + 9 > len(data):
        return -1
    header[0] = np.int64(big(data, at + 1, 8))
    n_events, at = array_len(data, at + 9)
    if n_events < 0 or n_events > _MAX_EVENTS:
        return -1
    n, n_ids, n_hashes, widest = 0, 0, _NONE, _ONE
    for _ in range(n_events):
        base = n
        at, n, n_ids = _event(data, at, words, base, ids, n_ids, known)
        if at < 0:
            return -1
        n_hashes += words[base + N_HASHES]
        widest = max(widest, words[base + NAME_WORDS], words[base + PARENT_WORDS])
    header[1] = -1
    if n_items == 3:
        if byte(data, at) == NIL:
            at += 1
        else:
            header[1], at = count(data, at)
            if header[1] < 0:
                return -1
    header[2], header[3], header[4] = n_events, np.int64(n_hashes), np.int64(widest)
    return n if at == len(data) else -1
