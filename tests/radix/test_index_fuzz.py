"""The fuzzer's short form, and what the byte budget promises. The long one is `make fuzz-index`."""

from functools import cache

import numpy as np
import pytest

from radixroute.radix.errors import LocalMisuse
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index import layout
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex
from tests.tools.fuzz_index import fuzz

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"))
SEEDS = range(12)


tally_of = cache(fuzz)
FEW, MANY = 10_000, 50_000  # lookups


@pytest.mark.parametrize("lookups", [FEW, pytest.param(MANY, marks=pytest.mark.deep)])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_overlap_is_ever_wrong(seed, lookups):
    tally = tally_of(seed, lookups)
    assert (tally.wrong, tally.over) == (0, 0), f"seed {seed}"
    assert tally.under == 0 or tally.forgotten > 0


def test_the_fuzzer_visits_holes():
    tallies = [tally_of(seed, FEW) for seed in SEEDS]
    assert sum(one.with_holes for one in tallies) > 0.3 * sum(one.lookups for one in tallies)
    assert sum(one.with_holes for one in tallies) < 0.9 * sum(one.lookups for one in tallies)


@pytest.mark.parametrize(
    ("seed", "lookups"),
    [(7, 2 * FEW), *(pytest.param(s, MANY, marks=pytest.mark.deep) for s in (3, 7))],
)
def test_the_fuzzer_visits_tight_budgets(seed, lookups):
    assert tally_of(seed, lookups).forgotten > 0


@pytest.mark.parametrize("field", ["HOLES", "PAIRS"])
def test_the_fuzzer_notices_a_lane_that_lies(field, monkeypatch):
    """Shows that the comparison can fail: the same run with one number tampered with."""
    real = PrefixIndex.overlaps

    def lying(self: PrefixIndex, keys: Keys):
        self._head[layout.N_DIRTY] = 0
        self._lanes[:, layout.HOLES] = 0
        return real(self, keys)

    if field == "HOLES":
        monkeypatch.setattr(PrefixIndex, "overlaps", lying)
        monkeypatch.setattr(PrefixIndex, "check", lambda self: None)
        assert fuzz(3, 4_000).wrong > 0
    else:
        index = filled(MIN_BYTES, 100)
        index._lanes[1, layout.PAIRS] += 1
        assert index.n_blocks(A) != 100


def chain(n: int, start: int = 1) -> Keys:
    return np.arange(start, start + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def filled(max_bytes: int, n: int) -> PrefixIndex:
    index = PrefixIndex(max_bytes)
    index.join(A)
    index.store(A, None, chain(n), Tier.DEVICE)
    return index


def test_the_budget_holds_and_what_it_cost_is_counted():
    index = filled(MIN_BYTES, 0)
    for number in range(300):
        index.store(A, None, chain(50, 1 + 50 * number), Tier.DEVICE)
        assert index.n_bytes <= MIN_BYTES
        if number % 10 == 0:
            index.check()
    assert index.n_forgotten > 0
    assert index.n_blocks(A) + index.n_forgotten == 300 * 50
    assert index.forgotten_by(A) == index.n_forgotten


def test_what_was_stored_again_lately_outlives_what_was_not():
    index = filled(MIN_BYTES, 0)
    old = chain(50, 1_000_000)
    index.store(A, None, old, Tier.DEVICE)
    for number in range(120):
        index.store(A, None, chain(50, 1 + 50 * number), Tier.DEVICE)
        if number % 5 == 0:
            index.store(A, None, old, Tier.DEVICE)
            index.remove(A, old, Tier.DEVICE)
    kept = [
        int(index.overlaps(chain(50, 1 + 50 * number)).blocks_of(A) == 50) for number in range(100)
    ]
    assert index.overlaps(old).blocks_of(A) >= 45
    assert sum(kept) < 70


def test_forgetting_takes_the_ends_of_prompts_and_leaves_no_holes():
    index = filled(MIN_BYTES, 0)
    for number in range(300):
        index.store(A, None, chain(50, 1 + 50 * number), Tier.DEVICE)
    runs = [index.overlaps(chain(50, 1 + 50 * number)).blocks_of(A) for number in range(300)]
    assert index.n_holes(A) == 0
    assert sum(runs) == index.n_blocks(A)
    assert any(0 < run < 50 for run in runs)


def test_the_account_still_follows_the_stream_after_forgetting():
    index, roomy = filled(MIN_BYTES, 0), PrefixIndex()
    roomy.join(A)
    for number in range(300):
        for one in (index, roomy):
            one.store(A, None, chain(50, 1 + 50 * number), Tier.DEVICE)
    for number in range(0, 300, 3):
        for one in (index, roomy):
            one.remove(A, chain(50, 1 + 50 * number)[::-1].copy(), Tier.DEVICE)
    assert index.n_forgotten > 0
    assert index.account(A) == roomy.account(A)


def test_too_small_a_budget_and_too_many_holders_are_refused():
    with pytest.raises(LocalMisuse, match="bytes"):
        PrefixIndex(MIN_BYTES - 1)
    index = PrefixIndex(MIN_BYTES)
    for number in range(layout.MAX_HOLDERS):
        index.join(Holder(WorkerId(str(number))))
    with pytest.raises(LocalMisuse, match="second router"):
        index.join(A)


def test_a_block_told_with_two_parents_is_matched_block_by_block_and_counted():
    index = PrefixIndex(MIN_BYTES)
    index.join(A)
    index.join(B)
    index.store(A, None, chain(10), Tier.DEVICE)
    ninth, other = BlockKey(int(chain(10)[8])), BlockKey(12345)
    index.store(B, other, chain(1, 10), Tier.DEVICE)  # B says that the tenth follows another block
    index.check()
    assert index.n_conflicts == 1
    assert index.overlaps(chain(10)).blocks.tolist() == [10, 0]
    index.store(B, None, chain(9), Tier.DEVICE)
    assert index.overlaps(chain(10)).blocks.tolist() == [10, 10]
    index.remove(A, np.array([ninth], np.uint64), Tier.DEVICE)
    assert index.overlaps(chain(10)).blocks.tolist() == [8, 10]
    index.check()


def test_growth_never_moves_more_than_a_page_and_probes_stay_short():
    index = PrefixIndex(1 << 26)
    index.join(A)
    rng = np.random.default_rng(5)
    for _ in range(20):
        keys = rng.integers(1, 2**63, 10_000).astype(np.uint64)
        index.store(A, None, keys, Tier.DEVICE)
        assert index.mean_probes(keys) <= 1.3
        assert index.mean_probes(keys ^ np.uint64(1 << 63)) <= 1.5
    assert index.n_bytes <= 48 * 200_000
