"""Marks: the same runs are kept wherever they stand; without the seed they say nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.errors import LocalMisuse
from radixroute.radix.keys.marks import ONE_IN_BITS, RUN, marks_of, warm
from radixroute.radix.mixing import GAMMA, MASK, finalise_int

SEED = 0x1234_5678_9ABC_DEF1


def tokens(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50_000, n).astype(np.uint32)


def by_hand(ids: list[int], seed: int) -> list[int]:
    """Each run hashed alone."""
    base, found = seed | 1, []
    for at in range(len(ids) - RUN + 1):
        rolled = 0
        for one in ids[at : at + RUN]:
            rolled = (rolled * base + one + 1) & MASK
        if (rolled * GAMMA & MASK) >> (64 - ONE_IN_BITS) == 0:
            found.append(at << 32 | finalise_int(rolled ^ seed) >> 32)
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, MASK), st.integers(1, 50_000), st.integers(0, 9))
def test_they_are_what_hashing_each_run_alone_gives(n, seed, vocab, draw):
    ids = tokens(n, draw) % np.uint32(vocab)
    assert marks_of(ids, np.uint64(seed)).tolist() == by_hand(ids.tolist(), seed)


def test_a_text_has_its_marks_wherever_it_stands():
    text, seed = tokens(3000), np.uint64(SEED)
    alone = marks_of(text, seed)
    assert 0.6 * 3000 / 64 < len(alone) < 1.5 * 3000 / 64
    for before in (1, 7, 500):
        there = marks_of(np.concatenate((tokens(before, 1), text)), seed)
        assert set((alone + np.uint64(before << 32)).tolist()) <= set(there.tolist())


def test_other_seeds_keep_other_runs():
    text = tokens(3000)
    one, other = (marks_of(text, np.uint64(seed)) & np.uint64(MASK >> 32) for seed in (1, 3))
    assert not set(one.tolist()) & set(other.tolist())


def test_short_prompts_have_none_and_others_are_refused():
    warm()
    assert marks_of(tokens(RUN - 1), np.uint64(1)).size == 0
    assert marks_of(tokens(0), np.uint64(1)).size == 0
    with pytest.raises(LocalMisuse):
        marks_of(np.zeros(40, np.int64), np.uint64(1))
