"""The allocator: who uses which block, and nothing is lost or given out twice."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.errors import BrokenInvariant
from radixroute.worker.engine.blocks import BlockAllocator


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("asr"), st.integers(0, 9)), max_size=60))
def test_any_order_of_use_keeps_the_counts(actions):
    allocator = BlockAllocator(10)
    users: Counter[int] = Counter()
    for action, number in actions:
        if action == "a" and number <= allocator.n_free:
            taken = allocator.allocate(number)
            assert len(set(taken)) == number
            assert not any(users[block] for block in taken)
            users.update(taken)
        elif action == "s" and users[number]:
            allocator.retain([number])
            users[number] += 1
        elif action == "r" and users[number]:
            allocator.release([number])
            users[number] -= 1
        allocator.check(+users)
        assert allocator.n_free == 10 - len(+users)


def test_misuse_is_a_broken_invariant_and_not_a_wrong_count():
    allocator = BlockAllocator(2)
    with pytest.raises(BrokenInvariant):
        allocator.allocate(3)
    with pytest.raises(BrokenInvariant):
        allocator.retain([0])
    (block,) = allocator.allocate(1)
    allocator.release([block])
    with pytest.raises(BrokenInvariant):
        allocator.release([block])


def test_check_sees_a_block_that_leaked():
    allocator = BlockAllocator(2)
    allocator.allocate(1)
    with pytest.raises(BrokenInvariant):
        allocator.check({})
