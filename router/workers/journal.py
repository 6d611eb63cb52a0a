"""Journal: the last batches of one holder's event stream, so that the index can be read as it was.

The index is as of now; a worker's report speaks of a moment before. `held_at` takes back, for the
keys of one prompt alone, what batches since then did, so it costs what happened between a prompt's
admission and its first token. Keeps references to the batches' events, bounded in batches and
words, and copies nothing; where reports name no moment, it also keeps which blocks were removed
last in which batch, so that a window in which nothing of a prompt was is told without walking it.
Owns no index and no clock; `Audit` calls.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, Protocol

from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Holder, Keys
from radixroute.radix.index.contract import Overlaps

MAX_BATCHES: Final = 1024
# A key is a word, an event three more: some sixty steps that fill 512 blocks each.
MAX_WORDS: Final = 1 << 16
_EVENT_WORDS: Final = 3
_BATCH_WORDS: Final = 8


class AuditedIndex(Protocol):
    """What reports are compared with."""

    def overlaps(self, keys: Keys) -> Overlaps: ...
    def copies(self, holder: Holder, key: BlockKey) -> int: ...
    def forgotten_by(self, holder: Holder) -> int: ...


class Journal:
    """One holder's last batches: those from `first_seq` to before `next_seq`.

    Not `is_based`: nobody can say which batches the index has.
    """

    def __init__(self) -> None:
        self.is_based = False
        self.first_seq = 0
        self.next_seq = 0
        self.n_bases = 0  # times it began anew, a snapshot being one
        self.n_words = 0
        self._batches: deque[tuple[int, Sequence[Event], int]] = deque()
        self._removed: dict[int, int] = {}  # the batch that removed a key last
        self._removals_from: int | None = None  # of all batches from there on; None: of none
        self._cleared = -1  # the batch that did last

    def rebuild(self) -> None:
        self.trim()
        self.is_based = False

    def base(self, next_seq: int) -> None:
        self.trim()
        self.is_based = True
        self._removals_from, self._cleared = None, -1
        self.first_seq = self.next_seq = next_seq
        self.n_bases += 1

    def add(
        self,
        seq: int,
        events: Sequence[Event],
        max_words: int = MAX_WORDS,
        *,
        notes_removals: bool = True,
    ) -> None:
        """The batch that the index took last. Bounded: the oldest go."""
        if not self.is_based:
            return
        self._note(seq, events if notes_removals else None)
        words = _BATCH_WORDS + _words(events)
        batches = self._batches
        batches.append((seq, events, words))
        self.n_words += words
        self.next_seq = seq + 1
        while len(batches) > MAX_BATCHES or self.n_words > max_words:
            gone, told, words = batches.popleft()
            self.n_words -= words
            self.first_seq = gone + 1
            self._forget(gone, told)

    def knows(self, seq: int) -> bool:
        """Whether the time before batch `seq` can be told from what the index has now."""
        return self.is_based and self.first_seq <= seq <= self.next_seq

    def since(self, seq: int, before: int = 0) -> list[Event]:
        """All events from batch `seq` on, without the first `before` of that batch."""
        later: list[Sequence[Event]] = []
        for number, events, _ in reversed(self._batches):
            if number < seq:
                break
            later.append(events if number > seq else tuple(islice(events, before, None)))
        return [event for events in reversed(later) for event in events]

    def has_lost(self, keys: Keys, seq: int) -> bool | None:
        """Whether a copy of one of these keys was removed since before batch `seq`. None: it was
        not noted. O(keys)."""
        if self._removals_from is None or self._removals_from > seq:
            return None
        listed = keys.tolist()
        if self._cleared < seq and self._removed.keys().isdisjoint(listed):
            return False
        return self._cleared >= seq or any(self._removed.get(key, -1) >= seq for key in listed)

    def check(self) -> None:
        if any(seq < self.first_seq for seq in self._removed.values()):
            raise BrokenInvariant("a journal knows removals of batches that it forgot")
        if self.n_words != sum(words for *_, words in self._batches):
            raise BrokenInvariant("a journal's words are not those of its batches")
        if self._batches and not (self.is_based and self.first_seq <= self._batches[0][0]):
            raise BrokenInvariant("a journal keeps what it does not know")
        if self.first_seq > self.next_seq:
            raise BrokenInvariant("a journal ends before it begins")

    def trim(self) -> None:
        """Nobody will ask about the time before now."""
        self._batches.clear()
        self._removed.clear()
        self.n_words = 0
        self.first_seq = self.next_seq

    def _note(self, seq: int, events: Sequence[Event] | None) -> None:
        """What it removes. None: nobody will ask."""
        if events is None:
            self._removed.clear()
            self._removals_from = None
            return
        if self._removals_from is None:
            self._removals_from = seq
        for event in events:
            if isinstance(event, BlocksRemoved):
                self._removed.update(dict.fromkeys(event.keys.tolist(), seq))
            elif isinstance(event, CacheCleared):
                self._cleared = seq

    def _forget(self, seq: int, events: Sequence[Event]) -> None:
        """Of a batch that goes."""
        removed = self._removed
        for event in events if removed else ():
            if isinstance(event, BlocksRemoved):
                for key in event.keys.tolist():
                    if removed.get(key) == seq:
                        del removed[key]


def held_at(index: AuditedIndex, holder: Holder, keys: Keys, since: Sequence[Event]) -> int | None:
    """Leading blocks of these keys that the holder had before the events `since`, as they tell.

    Exact for any order of events and any number of copies. None: a clear hides what was before.
    """
    now = _held_now(index, holder, keys)
    if not since:
        return now
    change = _taken_back(keys, since)
    if change is None:
        return None
    # Held now, so held then, unless it came since and nobody else's copy was there.
    for place in sorted(place for place, by in change.items() if by < 0 and place < now):
        if _copies(index, holder, keys, place) + change[place] <= 0:
            return place
    for place in range(now, len(keys)):
        by = change.get(place, 0)
        if by <= 0 and (place == now or _copies(index, holder, keys, place) + by <= 0):
            return place
    return len(keys)


def _taken_back(keys: Keys, since: Sequence[Event]) -> dict[int, int] | None:
    """How many copies more there were before these events, by place. None: nobody can say."""
    at = dict(zip(keys.tolist(), range(len(keys)), strict=True))
    change: dict[int, int] = {}
    for event in since:
        if isinstance(event, CacheCleared):
            return None
        listed = event.keys.tolist()
        if at.keys().isdisjoint(listed):  # almost all are of other prompts
            continue
        by = -1 if isinstance(event, BlocksStored) else 1
        for key in listed:
            place = at.get(key)
            if place is not None:
                change[place] = change.get(place, 0) + by
    return change


def least_since(
    index: AuditedIndex, holder: Holder, journal: Journal, keys: Keys, seq: int, held: int | None
) -> int:
    """The fewest leading blocks of these keys that it had at any moment since before batch `seq`.

    `held`: how many it had then, if somebody looked: O(keys), unless one of them was removed since.
    """
    if held is not None and journal.has_lost(keys[:held], seq) is False:
        return min(held, _held_now(index, holder, keys))
    return least_held(index, holder, keys, journal.since(seq))


def least_held(index: AuditedIndex, holder: Holder, keys: Keys, since: Sequence[Event]) -> int:
    """The fewest leading blocks of these keys that it had at any moment since then."""
    least = _held_now(index, holder, keys)
    at = dict(zip(keys.tolist(), range(len(keys)), strict=True)) if since else {}
    copies: dict[int, int] = {}
    for event in reversed(since):
        if isinstance(event, CacheCleared):
            return 0
        listed = event.keys.tolist()
        if at.keys().isdisjoint(listed):
            continue
        by = -1 if isinstance(event, BlocksStored) else 1
        for key in listed:
            place = at.get(key)
            if place is None or place >= least:
                continue
            if place not in copies:
                copies[place] = _copies(index, holder, keys, place)
            copies[place] += by
            if copies[place] <= 0:
                least = place
    return least


def _held_now(index: AuditedIndex, holder: Holder, keys: Keys) -> int:
    return index.overlaps(keys).blocks_of(holder) if len(keys) else 0


def _copies(index: AuditedIndex, holder: Holder, keys: Keys, place: int) -> int:
    return index.copies(holder, BlockKey(int(keys[place])))


def _words(events: Sequence[Event]) -> int:
    if isinstance(events, PackedEvents):
        return len(events.words)
    return sum(
        _EVENT_WORDS + (0 if isinstance(event, CacheCleared) else len(event.keys))
        for event in events
    )
