"""The infinite-cache ceiling against brute force, and the rules it must keep."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.replay.analysis.infinite_cache import Exchange, InfiniteCache, ceiling
from radixroute.replay.errors import InvalidShape


def exchange(prompt, output=()):
    return Exchange(np.array(prompt, dtype=np.uint32), np.array(output, dtype=np.uint32))


def brute_force(exchanges, block_size):
    """Longest common prefix with anything computed before, in full blocks, less the last token."""
    seen: list[tuple[int, ...]] = []
    cached, blocks = 0, set()
    for one in exchanges:
        prompt = tuple(one.prompt.tolist())
        best = 0
        for old in seen:
            common = 0
            for ours, theirs in zip(prompt, old, strict=False):
                if ours != theirs:
                    break
                common += 1
            # A block counts only when it is full on both sides.
            best = max(best, min(common, len(prompt) - 1) // block_size)
        cached += best * block_size
        computed = prompt + tuple(one.output.tolist()[:-1])
        seen.append(computed[: len(computed) // block_size * block_size])
        blocks |= {computed[:end] for end in range(block_size, len(computed) + 1, block_size)}
    return cached, len(blocks)


tokens = st.lists(st.integers(0, 1), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(tokens, st.lists(st.integers(0, 1), max_size=5)), max_size=12),
    st.integers(1, 4),
)
def test_ceiling_equals_brute_force(raw, block_size):
    exchanges = [exchange(prompt, output) for prompt, output in raw]
    found = ceiling(exchanges, block_size)
    cached, blocks = brute_force(exchanges, block_size)
    assert found.cached_tokens == cached
    assert found.distinct_blocks == blocks
    assert found.prompt_tokens == sum(len(prompt) for prompt, _ in raw)


def test_a_repeated_prompt_still_computes_its_last_token():
    found = ceiling([exchange([1, 2, 3, 4]), exchange([1, 2, 3, 4])], 2)
    assert found.cached_tokens == 2


def test_an_answer_serves_the_next_turn_except_for_its_last_token():
    first, history = exchange([1, 2, 3], [4, 5, 6]), [1, 2, 3, 4, 5, 6, 7, 8]
    assert ceiling([first, exchange(history)], 1).cached_tokens == 5
    assert ceiling([first, exchange(history)], 2).cached_tokens == 4


def test_order_matters_and_nothing_is_served_from_the_future():
    short, long = exchange([1, 2]), exchange([1, 2, 3, 4])
    assert ceiling([short, long], 1).cached_tokens == 2
    assert ceiling([long, short], 1).cached_tokens == 1


def test_no_requests_make_no_rate():
    assert ceiling([], 16).hit_rate == 0.0


def test_strided_and_signed_token_ids_are_read_by_value():
    cache = InfiniteCache(2)
    signed: Any = np.array([1, 9, 2, 9, 3, 9, 4, 9], dtype=np.int64)[::2]
    cache.store(signed)
    assert cache.n_blocks == 2
    assert cache.cached_tokens(np.array([1, 2, 3, 4, 5], dtype=np.uint32)) == 4


def test_a_block_of_no_tokens_is_refused():
    with pytest.raises(InvalidShape):
        InfiniteCache(0)
