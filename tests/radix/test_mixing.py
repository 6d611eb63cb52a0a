"""SplitMix64's finaliser: the published numbers, and one result in all of its forms."""

import numba
import numpy as np
import pytest

from radixroute.radix.mixing import GAMMA, MASK, finalise, finalise_int
from radixroute.radix.mixing_kernels import finalise_word

EDGES = [0, 1, 2**63, MASK, GAMMA, *(1 << bit for bit in range(64))]


@pytest.mark.parametrize(
    ("step", "output"), [(1, 0xE220A8397B1DCDAF), (2, 0x6E789E6AA1B965F4), (3, 0x06C45D188009454F)]
)
def test_it_is_the_one_that_was_published(step, output):
    assert finalise_int(step * GAMMA) == output  # SplitMix64 from 0: its first outputs


def test_arrays_numbers_and_kernels_agree():
    rng = np.random.default_rng(1)
    words = np.concatenate(
        [np.array(EDGES, np.uint64), rng.integers(0, 2**64, 1000, np.uint64)]
    ).reshape(1, -1)

    @numba.njit
    def each(flat):
        return [finalise_word(word) for word in flat]

    expected = [finalise_int(word) for word in words.ravel().tolist()]
    assert finalise(words).tolist() == [expected]
    assert [int(word) for word in each(words.ravel())] == expected


def test_numbers_count_modulo_2_to_the_64():
    assert finalise_int(2**64 + 5) == finalise_int(5)
    assert finalise_int(-1) == finalise_int(MASK)
