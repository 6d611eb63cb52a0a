"""Events of a foreign batch as words and token ids: one pass of one kernel, no object a block.

Takes only what it wholly understands, plain fields in the form that vLLM sends; None leaves a
payload to the decoder behind it. As a sequence flat events are the records they mean.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, overload

import numpy as np

from radixroute.events.engines import names_layout as at
from radixroute.events.engines.foreign import (
    MAIN_KINDS,
    TIER_BY_MEDIUM,
    EngineHash,
    ExtraKeys,
    ForeignBatch,
    ForeignCleared,
    ForeignEvent,
    ForeignRemoved,
    ForeignStored,
)
from radixroute.radix.ids import Cells, Flags, Tokens
from radixroute.radix.index.layout import PACKED_REMOVE, PACKED_STORE

_NO_EXTRA = ExtraKeys()


class FlatEvents(Sequence[ForeignEvent]):
    """`words` as `names_layout` says; `token_ids` of all stored events, one after the other."""

    __slots__ = ("_n_events", "_payload", "n_hashes", "token_ids", "widest", "words")

    def __init__(self, payload: bytes, words: Cells, token_ids: Tokens, sizes: list[int]) -> None:
        self._payload = payload  # texts are read from it when somebody asks
        self.words = words
        self.token_ids = token_ids
        self._n_events, self.n_hashes, self.widest = sizes  # `widest`: most words of a name

    def __len__(self) -> int:
        return self._n_events

    def __iter__(self) -> Iterator[ForeignEvent]:
        start = 0
        while start < len(self.words):
            yield self.event_at(start)
            start = self.after(start)

    @overload
    def __getitem__(self, index: int) -> ForeignEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ForeignEvent]: ...
    def __getitem__(self, index: int | slice) -> ForeignEvent | Sequence[ForeignEvent]:
        return tuple(self)[index]

    def after(self, start: int) -> int:
        """The word where the event behind the one at word `start` begins."""
        return start + int(self.words[start + at.LENGTH])

    def event_at(self, start: int) -> ForeignEvent:
        """The record of the event at word `start`."""
        head = self.words[start : start + at.EVENT_HEAD].tolist()
        medium, locality = self._text(head[at.MEDIUM]), self._text(head[at.LOCALITY])
        group = head[at.GROUP] - 1 if head[at.GROUP] else None
        names = self.words[start + at.EVENT_HEAD : start + head[at.LENGTH]]
        hashes = _hashes(names, head[at.NAME_WORDS])
        if head[at.KIND] == PACKED_REMOVE:
            return ForeignRemoved(hashes, medium, group, locality)
        if head[at.KIND] != PACKED_STORE:
            return ForeignCleared()
        first, n_parent = head[at.FIRST_TOKEN], head[at.PARENT_WORDS]
        parent = self.words[start + at.PARENT_NAME :][:n_parent]
        return ForeignStored(
            hashes=hashes,
            parent=_hashes(parent, n_parent)[0] if n_parent else None,
            token_ids=self.token_ids[first : first + head[at.N_TOKENS]],
            block_size=head[at.EVENT_BLOCK_SIZE],
            medium=medium,
            extra_keys=(_NO_EXTRA,) * head[at.N_EXTRA],
            group=group,
            kind=self._text(head[at.SPEC_KIND]),
            locality=locality,
        )

    def _text(self, field: int) -> str | None:
        if not field:
            return None
        first, n = field >> 32, field & 0xFFFFFFFF
        return self._payload[first : first + n].decode("ascii")


def decode_flat(seq: int, payload: bytes) -> ForeignBatch | None:
    """None: not of this form, whatever it is."""
    flatten, known = _kernel()
    size = len(payload)
    words = np.empty(size + 2 * at.EVENT_HEAD, np.uint64)
    token_ids = np.empty(size, np.uint32)
    header = np.empty(5, np.int64)
    n = flatten(np.frombuffer(payload, np.uint8), known, words, token_ids, header)
    if n < 0:
        return None
    bits, rank, *sizes = header.tolist()
    ts: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    events = FlatEvents(payload, words[:n], token_ids, sizes)
    return ForeignBatch(seq, events, None if rank < 0 else rank, ts)


def _hashes(words: Cells, n_words: int) -> tuple[EngineHash, ...]:
    if n_words == 1:
        return tuple(words.tolist())
    data = words.tobytes()
    size = 8 * n_words
    starts = range(0, len(data), size)
    return tuple(EngineHash(int.from_bytes(data[i : i + size], "little")) for i in starts)


@cache
def _kernel() -> tuple[Any, Flags]:
    from radixroute.events.engines import foreign_kernels  # here: numba takes 0.5 s to import

    known = {medium: int(tier) for medium, tier in TIER_BY_MEDIUM.items()}
    known |= dict.fromkeys(sorted(MAIN_KINDS), foreign_kernels.MAIN_KIND)
    known["LOCAL"] = foreign_kernels.LOCAL
    return foreign_kernels.flatten, foreign_kernels.rows_of_texts(known)
