"""The index as it was at a moment before: against brute force, whatever the events do."""

import random
from collections import Counter

import numpy as np
import pytest

from radixroute.events.wire.packed import PackedEvents, write_packed
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex
from radixroute.router.workers.journal import (
    MAX_BATCHES,
    Journal,
    held_at,
    least_held,
    least_since,
)

HOLDER, OTHER = Holder(WorkerId("w")), Holder(WorkerId("v"))
KEYS = np.arange(1, 9, dtype=np.uint64)


def packed(events):
    words = np.zeros(sum(3 + len(event.keys) for event in events), np.uint64)
    end = 0
    for event in events:
        end = write_packed(event, words, end)
    return PackedEvents(words)


def leading(copies):
    return next((n for n, key in enumerate(KEYS.tolist()) if copies[key] <= 0), len(KEYS))


class Followed:
    """An index, its journal, and how many copies there were after each event."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.index = PrefixIndex(MIN_BYTES)
        for holder in (OTHER, HOLDER):
            self.index.join(holder)
        self.index.store(OTHER, None, KEYS, Tier.DEVICE)
        self.journal = Journal()
        self.copies: Counter[int] = Counter()
        self.moments: list[tuple[int, int, int]] = [(3, 0, 0)]  # seq, events of it, leading
        self.journal.base(3)

    def batch(self) -> None:
        seq, events = self.journal.next_seq, []
        for before in range(self.rng.randrange(1, 4)):
            events.append(self._event())
            if before:
                self.moments.append((seq, before, self._was))
            self._was = leading(self.copies)
        said = packed(events) if self.rng.random() < 0.5 else tuple(events)
        for event in events:
            if isinstance(event, BlocksStored):
                self.index.store(HOLDER, None, event.keys, Tier.DEVICE)
            else:
                self.index.remove(HOLDER, event.keys, Tier.DEVICE)
        self.journal.add(seq, said)
        self.moments.append((seq + 1, 0, self._was))

    _was = 0

    def _event(self):
        rng, held = self.rng, [key for key, n in self.copies.items() if n > 0]
        if held and rng.random() < 0.45:
            gone = rng.sample(held, rng.randrange(1, len(held) + 1))
            self.copies.subtract(gone)
            return BlocksRemoved(np.array(gone, np.uint64))
        start = rng.randrange(len(KEYS))
        keys = KEYS[start : start + rng.randrange(1, 6)]
        self.copies.update(keys.tolist())
        return BlocksStored(None, keys)


@pytest.mark.parametrize("seed", range(60))
def test_every_moment_is_told_as_it_was(seed):
    rng = random.Random(seed)
    followed = Followed(rng)
    index, journal = followed.index, followed.journal
    for _ in range(12):
        followed.batch()
        journal.check()
        for at, (seq, before, was) in enumerate(followed.moments):
            since = journal.since(seq, before)
            assert held_at(index, HOLDER, KEYS, since) == was, f"seed {seed}, {seq}+{before}"
            least = min(later for *_, later in followed.moments[at:])
            assert least_held(index, HOLDER, KEYS, since) == least, f"seed {seed}, {seq}+{before}"
            if not before:  # as when a request is sent: between two batches
                told = least_since(index, HOLDER, journal, KEYS, seq, was)
                assert told == least, f"seed {seed}, {seq}"


class Walked(Journal):
    """Counts how often it was walked."""

    walks = 0

    def since(self, seq, before=0):
        self.walks += 1
        return super().since(seq, before)


def test_a_window_in_which_no_block_of_a_prompt_left_is_not_walked():
    index, journal = PrefixIndex(MIN_BYTES), Walked()
    index.join(HOLDER)
    index.store(HOLDER, None, KEYS[:6], Tier.DEVICE)
    journal.base(0)
    others = np.arange(1000, 2000, dtype=np.uint64)
    journal.add(0, (BlocksRemoved(KEYS[:2]),))  # before it was sent
    for seq in range(1, 9):
        journal.add(seq, (BlocksStored(None, others), BlocksRemoved(others)))
    journal.add(9, (BlocksRemoved(KEYS[6:]),))  # that it did not have
    assert least_since(index, HOLDER, journal, KEYS, 1, 6) == 6
    assert least_since(index, HOLDER, journal, KEYS, 1, 0) == 0
    assert least_since(index, HOLDER, journal, KEYS[:3], 1, 6) == 3
    assert journal.walks == 0
    journal.add(10, (BlocksRemoved(KEYS[4:5]), BlocksStored(None, KEYS[4:5])))
    assert least_since(index, HOLDER, journal, KEYS, 1, 6) == 4
    assert least_since(index, HOLDER, journal, KEYS, 11, 6) == 6
    assert journal.walks == 1
    journal.check()


def test_what_was_not_noted_is_walked():
    index, journal = PrefixIndex(MIN_BYTES), Walked()
    index.join(HOLDER)
    index.store(HOLDER, None, KEYS, Tier.DEVICE)
    journal.base(0)
    journal.add(0, (BlocksRemoved(KEYS[:1]), BlocksStored(None, KEYS[:1])), notes_removals=False)
    journal.add(1, (BlocksStored(None, np.array([99], np.uint64)),))
    assert least_since(index, HOLDER, journal, KEYS, 0, 8) == 0
    assert least_since(index, HOLDER, journal, KEYS, 1, 8) == 8
    assert least_since(index, HOLDER, journal, KEYS, 1, None) == 8
    assert journal.walks == 2
    journal.add(2, (CacheCleared(), BlocksStored(None, KEYS)))
    assert least_since(index, HOLDER, journal, KEYS, 1, 8) == 0
    journal.base(5)
    journal.add(5, stored(1))
    assert journal.has_lost(KEYS, 5) is False


def test_before_a_clear_nothing_is_known_and_since_then_it_held_nothing():
    index = PrefixIndex(MIN_BYTES)
    index.join(HOLDER)
    index.store(HOLDER, None, KEYS, Tier.DEVICE)
    events: list[Event] = [CacheCleared(), BlocksStored(None, KEYS)]
    assert held_at(index, HOLDER, KEYS, events) is None
    assert held_at(index, HOLDER, KEYS, events[1:]) == 0
    assert least_held(index, HOLDER, KEYS, events) == 0


def stored(n):
    return (BlocksStored(None, np.arange(1, n + 1, dtype=np.uint64)),)


def test_it_is_bounded_in_batches_and_in_words_and_knows_what_it_lost():
    journal = Journal()
    journal.base(0)
    for seq in range(MAX_BATCHES + 5):
        journal.add(seq, stored(1))
    assert not journal.knows(4)
    assert journal.knows(5)
    assert len(journal.since(0)) == MAX_BATCHES
    journal.add(MAX_BATCHES + 5, stored(1000), max_words=1500)
    assert journal.n_words <= 1500
    assert journal.knows(MAX_BATCHES + 5)
    journal.add(MAX_BATCHES + 6, stored(1000), max_words=500)
    assert (journal.n_words, journal.first_seq) == (0, MAX_BATCHES + 7)
    journal.check()


def test_an_index_that_is_rebuilt_knows_nothing_until_it_is_based():
    journal = Journal()
    journal.add(0, stored(1))
    assert not journal.knows(0)
    journal.base(7)
    journal.add(7, stored(1))
    assert [seq for seq in range(10) if journal.knows(seq)] == [7, 8]
    journal.rebuild()
    assert not journal.knows(8)
    journal.add(8, stored(1))
    assert journal.n_words == 0
    journal.check()
