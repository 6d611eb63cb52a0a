"""Many holders' packed events in one call: as if each holder's were applied alone, in order."""

import random

import numpy as np
import pytest

from radixroute.radix.errors import LocalMisuse
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.layout import PACKED_CLEAR, PACKED_REMOVE, PACKED_STORE
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex

HOLDERS = [Holder(WorkerId(name)) for name in "abc"]


def batch(rng: random.Random) -> list[int]:
    """Some events over chains of a small tree."""
    words: list[int] = []
    for _ in range(rng.randint(1, 3)):
        chain = [rng.randint(1, 2)]
        while len(chain) < rng.randint(1, 5):
            chain.append(chain[-1] * 2 + rng.randint(1, 2))
        if rng.random() < 0.6:
            words += [PACKED_STORE, 0, len(chain), *chain]
        else:
            words += [PACKED_REMOVE, 0, 1, chain[-1]]
    return words


def new_index() -> PrefixIndex:
    index = PrefixIndex(MIN_BYTES)
    for holder in HOLDERS:
        index.join(holder)
    return index


def blocks(index: PrefixIndex, holder: Holder) -> set[tuple[int | None, int]]:
    """(parent, key) of each it holds, however they lie in runs."""
    found: set[tuple[int | None, int]] = set()
    for run in index.dump(holder):
        parent: int | None = run.parent
        for key in run.keys.tolist():
            found.add((parent, key))
            parent = key
    return found


def rows_of(batches: list[tuple[int, list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([len(words) for _, words in batches])
    rows = [(7, w, end - len(words), end) for (w, words), end in zip(batches, ends, strict=True)]
    return np.array(rows, np.int64), np.array([w for _, ws in batches for w in ws], np.uint64)


def test_rows_are_what_single_calls_are():
    rng, one, many = random.Random(1), new_index(), new_index()
    for turn in range(60):
        batches = [(rng.randrange(3), batch(rng)) for _ in range(rng.randint(0, 9))]
        rows, words = rows_of(batches)
        many.apply_rows(rows.reshape(-1, 4), words)
        for w, own in batches:
            one.apply(HOLDERS[w], np.array(own, np.uint64))
        if turn % 20 == 19:  # a lane of its own from now on
            for index in (one, many):
                index.clear(HOLDERS[1])
        many.check()
        for holder in HOLDERS:
            assert one.account(holder) == many.account(holder)
            assert blocks(one, holder) == blocks(many, holder)
    assert one.n_unknown_removals == many.n_unknown_removals > 0


def test_a_clear_is_not_for_many_at_once():
    rows, words = rows_of([(0, [PACKED_STORE, 0, 1, 5]), (1, [PACKED_CLEAR, 0, 0])])
    with pytest.raises(LocalMisuse, match="one by one"):
        new_index().apply_rows(rows, words)
