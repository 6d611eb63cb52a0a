"""The digest: order-free, reversible, and the same number everywhere."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.digest import DIGEST_MASK, mix, mix_many
from radixroute.radix.ids import Tier

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=20)


@given(keys=KEYS, tier=st.sampled_from(Tier))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_many_at_once_are_the_sum_of_each(keys, tier):
    together = mix_many(np.array(keys, np.uint64), tier)
    assert together == sum(mix(key, tier) for key in keys) & DIGEST_MASK


def test_tiers_of_one_key_count_apart():
    assert len({mix(key, tier) for key in range(1000) for tier in Tier}) == 3000


def test_the_values_are_part_of_the_wire_contract():
    assert mix(0, Tier.DEVICE) == 0xE220A8397B1DCDAF  # SplitMix64 from 0: its first two outputs
    assert mix(0, Tier.HOST) == 0x6E789E6AA1B965F4
