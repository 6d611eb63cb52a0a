"""Events of a batch as words: decoded by one kernel, applied by another, never made into objects.

Owns the fast path from bytes to the index. It takes only what it wholly understands, the form that
our publishers send; anything else is left to the typed decoder, which decides what is wrong with
it. So a packed batch and a decoded one say the same, and a fuzz test holds them together.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Keys, Tier
from radixroute.radix.index import layout as at

_EPOCH_BYTES = 16
# A clear takes three bytes and three words, and a key as many words as it has bytes / 8: a word for
# each byte of a payload is enough. A step of an engine takes a few thousand bytes.
_CLEAR_WORDS = 3
_SCRATCH_BYTES = 1 << 16
_BITS, _FLOAT = struct.Struct("<q"), struct.Struct("<d")
_NO_KEYS = np.empty(0, np.uint64)


class PackedEvents(Sequence[Event]):
    """Events in the words that `PrefixIndex.apply` takes; as a sequence, the records they mean."""

    __slots__ = ("words",)

    def __init__(self, words: Keys) -> None:
        self.words = words  # shape (words,), uint64; see `radix.layout`

    def __len__(self) -> int:
        return sum(1 for _ in self._starts())

    def __iter__(self) -> Iterator[Event]:
        return (self._event(start) for start in self._starts())

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedEvents) and np.array_equal(self.words, other.words)

    def __hash__(self) -> int:
        return hash(self.words.tobytes())

    def __bool__(self) -> bool:
        return len(self.words) > 0

    def stored(self) -> Iterator[Keys]:
        """Keys of the chains stored."""
        for start in self._starts():
            if int(self.words[start]) & 0xFF == at.PACKED_STORE:
                yield self._keys(start)

    def _starts(self) -> Iterator[int]:
        start = 0
        while start < len(self.words):
            yield start
            start += at.PACKED_HEAD + int(self.words[start + 2])

    def _keys(self, start: int) -> Keys:
        first = start + at.PACKED_HEAD
        return self.words[first : first + int(self.words[start + 2])]

    def _event(self, start: int) -> Event:
        head, parent = int(self.words[start]), int(self.words[start + 1])
        kind, tier = head & 0xFF, Tier(head >> 8)
        if kind == at.PACKED_STORE:
            return BlocksStored(BlockKey(parent) if parent else None, self._keys(start), tier)
        if kind == at.PACKED_REMOVE:
            return BlocksRemoved(self._keys(start), tier)
        return CacheCleared()


def write_packed(event: Event, words: Keys, start: int) -> int:
    """An event into `words` from `start` on; where it ends."""
    kind, parent, tier, keys = at.PACKED_CLEAR, 0, 0, _NO_KEYS
    if isinstance(event, BlocksStored):
        kind, parent, tier, keys = at.PACKED_STORE, event.parent or 0, event.tier, event.keys
    elif isinstance(event, BlocksRemoved):
        kind, tier, keys = at.PACKED_REMOVE, event.tier, event.keys
    first = start + at.PACKED_HEAD
    words[start:first] = kind | tier << int(at.PACKED_TIER_SHIFT), parent, len(keys)
    words[first : first + len(keys)] = keys
    return first + len(keys)


class Packer:
    """Packs the events of payloads. Owns its kernel, loaded when it is made, and room to work in.

    So it is for one thread.
    """

    def __init__(self) -> None:
        from radixroute.events.wire import packed_kernels  # here: numba takes 0.5 s to import
        from radixroute.radix.jit import entry_point

        self._pack: Any = entry_point(packed_kernels.pack)  # it is given nothing but what is ours
        self._words = np.empty(_SCRATCH_BYTES + _CLEAR_WORDS, np.uint64)
        self._header = np.empty(3, np.int64)

    def pack(self, payload: bytes) -> tuple[float, int, bytes, PackedEvents] | None:
        """Time, rank, epoch and events of a batch; None if the typed decoder must look at it."""
        words = self._words
        if len(payload) > _SCRATCH_BYTES:
            words = np.empty(len(payload) + _CLEAR_WORDS, np.uint64)
        n = self._pack(np.frombuffer(payload, np.uint8), words, self._header)
        if n < 0:
            return None
        bits, rank, epoch_at = self._header.tolist()
        (ts,) = _FLOAT.unpack(_BITS.pack(bits))
        return ts, rank, payload[epoch_at : epoch_at + _EPOCH_BYTES], PackedEvents(words[:n].copy())
