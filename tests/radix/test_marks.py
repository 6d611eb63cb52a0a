"""Marks: the same runs are kept wherever they stand, of every text some; without the seed they say
nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.errors import LocalMisuse
from radixroute.radix.keys.marks import RUN, WINDOW, marks_of, warm
from radixroute.radix.mixing import GAMMA, MASK, finalise_int

SEED = 0x1234_5678_9ABC_DEF1


def tokens(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50_000, n).astype(np.uint32)


def by_hand(ids: list[int], seed: int) -> list[int]:
    """Each run hashed alone, each window looked through: the least, of equals the one that was kept
    before, else the last."""
    base, hashes = seed | 1, []
    for at in range(len(ids) - RUN + 1):
        rolled = 0
        for one in ids[at : at + RUN]:
            rolled = (rolled * base + one + 1) & MASK
        hashes.append((rolled * GAMMA & MASK, finalise_int(rolled ^ seed) >> 32))
    kept: list[int] = []
    for end in range(min(WINDOW, len(hashes)), len(hashes) + 1):
        window = range(max(0, end - WINDOW), end)
        least = min((hashes[at][0] for at in window), default=0)
        places = [at for at in window if hashes[at][0] == least]
        if places and not set(kept) & set(places):
            kept.append(places[-1])
    return [at << 32 | hashes[at][1] for at in kept]


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


@pytest.mark.parametrize("period", [1, 5, 28, 90])
@pytest.mark.parametrize("seed", range(1, 16, 2))
def test_a_text_that_repeats_itself_has_marks_with_every_seed(period, seed):
    """Few different runs: none of them need be one in 64."""
    text = np.tile(tokens(period), 1000)[:1000]
    marks = marks_of(text, np.uint64(seed))
    begins = [int(one) >> 32 for one in marks]
    assert 1000 // WINDOW - 1 <= len(begins) <= 1000 // (WINDOW - period) + 1
    assert len({int(one) & (MASK >> 32) for one in marks}) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, MASK), st.integers(1, 200), st.integers(1, 200), st.integers(1, 9))
def test_who_shares_a_text_shares_a_mark(seed, before, behind, draw):
    """Of the least length that is promised, whatever stands around it."""
    text = tokens(WINDOW + RUN - 1, draw)
    there = [np.concatenate((tokens(before, a), text, tokens(behind, a + 1))) for a in (20, 30)]
    one, other = ({int(one) & (MASK >> 32) for one in marks_of(t, np.uint64(seed))} for t in there)
    assert one & other


def test_other_seeds_keep_other_runs():
    text = tokens(3000)
    one, other = (marks_of(text, np.uint64(seed)) & np.uint64(MASK >> 32) for seed in (1, 3))
    assert not set(one.tolist()) & set(other.tolist())


def test_prompts_below_a_run_have_none_and_others_are_refused():
    warm()
    assert marks_of(tokens(RUN - 1), np.uint64(1)).size == 0
    assert marks_of(tokens(0), np.uint64(1)).size == 0
    assert marks_of(tokens(RUN), np.uint64(1)).size == 1
    with pytest.raises(LocalMisuse):
        marks_of(np.zeros(40, np.int64), np.uint64(1))
