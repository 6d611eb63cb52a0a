"""Expected blocks: believed until stored, ended, or too old."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.ids import Keys, WorkerId
from radixroute.router.policy.expected import ExpectedBlocks
from radixroute.router.workers.load import BookingId

W = WorkerId("w")
OTHER = WorkerId("other")
A, B = BookingId("a", 1), BookingId("b", 1)


def chain(*blocks: int) -> Keys:
    """Keys as a prompt has them: each names all blocks up to its own."""
    keys, key = [], 0
    for block in blocks:
        key = (key * 31 + block + 1) % 2**61
        keys.append(key)
    return np.array(keys, np.uint64)


PROMPT = chain(1, 2, 3, 4, 5)


def extra(expected: ExpectedBlocks, keys: Keys, held: int, worker_id: WorkerId = W) -> int:
    added = expected.extra_blocks(keys, np.array([0, held], np.int32), {worker_id: 1})
    return 0 if added is None else int(added[1])


def test_expected_blocks_continue_what_is_held():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=2, now_ns=0)
    branch = chain(1, 2, 3, 4, 9)
    assert extra(expected, branch, held=2) == 2
    assert extra(expected, branch, held=3) == 1
    assert extra(expected, branch, held=4) == 0
    assert extra(expected, branch, held=1) == 0
    assert extra(expected, branch[:3], held=2) == 1
    assert extra(expected, chain(1, 7, 3), held=2) == 0
    assert extra(expected, PROMPT, held=2, worker_id=OTHER) == 0


def test_expectations_of_several_attempts_join_on():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=3, now_ns=0)
    expected.expect(B, W, chain(1, 2, 3), start=1, now_ns=0)
    assert extra(expected, PROMPT, held=1) == 4
    assert extra(expected, PROMPT, held=0) == 0


def test_a_stored_event_ends_the_expectation_of_these_blocks_only():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=2, now_ns=0)
    expected.stored(OTHER, PROMPT[2:4])
    assert expected.n_blocks(W) == 3
    expected.stored(W, PROMPT[2:4])
    assert extra(expected, PROMPT, held=4) == 1
    assert extra(expected, PROMPT, held=2) == 0
    expected.stored(W, PROMPT[3:])  # it begins before what is left and ends it
    assert expected.n_blocks(W) == 0


def test_an_event_that_leaves_a_gap_ends_nothing():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=1, now_ns=0)
    expected.stored(W, PROMPT[2:])
    assert expected.n_blocks(W) == 4


def test_an_event_of_another_prompt_ends_what_both_share():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=0, now_ns=0)
    expected.stored(W, chain(1, 2, 3, 8, 9))
    assert expected.n_blocks(W) == 2
    assert extra(expected, PROMPT, held=3) == 2


def test_two_makers_of_one_block_both_have_to_end():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT[:2], start=0, now_ns=0)
    expected.expect(B, W, PROMPT[:1], start=0, now_ns=0)
    expected.end(A)
    assert extra(expected, PROMPT, held=0) == 1
    expected.end(B)
    assert expected.n_blocks(W) == 0
    expected.end(B)


def test_a_prompt_that_is_held_or_too_short_for_a_block_expects_nothing():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, PROMPT, start=5, now_ns=0)
    expected.expect(B, W, PROMPT[:0], start=0, now_ns=0)
    assert expected.n_blocks(W) == 0
    expected.expect(A, W, PROMPT, start=0, now_ns=0)
    assert extra(expected, PROMPT[:0], held=0) == 0


def test_blocks_that_never_show_up_lapse_and_are_counted():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, chain(1, 2), start=0, now_ns=0)
    expected.expect(B, W, chain(3), start=0, now_ns=50)
    expected.stored(W, chain(1))
    assert expected.expire(99) == 0
    assert expected.expire(100) == 1
    assert expected.n_blocks(W) == 1
    assert expected.expire(1000) == 1


@dataclass
class Naive:
    """One entry, told in sets and steps of one block."""

    worker: int
    keys: list[int]
    start: int
    end_ns: int

    def advance(self, stored: set[int]) -> None:
        while self.start < len(self.keys) and self.keys[self.start] in stored:
            self.start += 1


def naive_extra(entries: Sequence[Naive], worker: int, keys: list[int], held: int) -> int:
    to_come = {
        key for e in entries if e.worker == worker for key in e.keys[e.start :]
    }  # fmt: skip
    end = held
    while end < len(keys) and keys[end] in to_come:
        end += 1
    return end - held


BLOCKS = st.lists(st.integers(0, 1), max_size=5)
STEP = st.tuples(
    st.sampled_from(["expect", "expect", "end", "stored", "expire"]),
    st.integers(0, 5),
    st.integers(0, 1),
    BLOCKS,
    st.integers(0, 4),
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(STEP, max_size=40), BLOCKS)
def test_expectations_equal_a_naive_model(steps, asked):
    expected = ExpectedBlocks(ttl_ns=10)
    naive: dict[BookingId, Naive] = {}
    workers = [W, OTHER]
    for now, (verb, n, worker, blocks, start) in enumerate(steps):
        maker, keys = BookingId(str(n), 1), chain(*blocks)
        if verb == "expect" and maker not in naive:
            expected.expect(maker, workers[worker], keys, start=start, now_ns=now)
            naive[maker] = Naive(worker, keys.tolist(), start, now + 10)
        elif verb == "end":
            expected.end(maker)
            naive.pop(maker, None)
        elif verb == "stored":
            expected.stored(workers[worker], keys[start:])
            for entry in naive.values():
                if entry.worker == worker:
                    entry.advance(set(keys[start:].tolist()))
        elif verb == "expire":
            lapsed = [e for e in naive.values() if e.end_ns <= now]
            assert expected.expire(now) == sum(len(e.keys[e.start :]) for e in lapsed)
            naive = {m: e for m, e in naive.items() if e.end_ns > now}
        naive = {m: e for m, e in naive.items() if e.start < len(e.keys)}
        expected.check()
        for number, name in enumerate(workers):
            mine = [e for e in naive.values() if e.worker == number]
            assert expected.n_blocks(name) == sum(len(e.keys) - e.start for e in mine)
        keys = chain(*asked)
        for held in range(len(asked) + 1):
            both = expected.extra_blocks(keys, np.array([held, held], np.int32), {W: 0, OTHER: 1})
            got = [0, 0] if both is None else both.tolist()
            live = list(naive.values())
            assert got == [naive_extra(live, w, keys.tolist(), held) for w in (0, 1)]
