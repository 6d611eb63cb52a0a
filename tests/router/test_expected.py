"""Expected blocks: believed until stored, ended, or too old."""

from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.ids import WorkerId
from radixroute.router.expected import ExpectedBlocks
from radixroute.router.load_book import BookingId

W = WorkerId("w")
A, B = BookingId("a", 1), BookingId("b", 1)


def test_expected_blocks_continue_what_is_held():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, [3, 4, 5], now_ns=0)
    assert expected.extra_blocks(W, [1, 2, 3, 4, 9], held=2) == 2
    assert expected.extra_blocks(W, [1, 2, 3, 4, 9], held=1) == 0
    assert expected.extra_blocks(WorkerId("other"), [3, 4], held=0) == 0


def test_a_stored_event_ends_the_expectation_of_these_blocks_only():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, [3, 4, 5], now_ns=0)
    expected.stored(W, [3, 4])
    assert expected.extra_blocks(W, [3, 4, 5], held=2) == 1
    assert expected.extra_blocks(W, [3, 4, 5], held=0) == 0


def test_two_makers_of_one_block_both_have_to_end():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, [3, 4], now_ns=0)
    expected.expect(B, W, [3], now_ns=0)
    expected.end(A)
    assert expected.extra_blocks(W, [3, 4], held=0) == 1
    expected.end(B)
    assert expected.n_blocks(W) == 0
    expected.end(B)


def test_blocks_that_never_show_up_lapse_and_are_counted():
    expected = ExpectedBlocks(ttl_ns=100)
    expected.expect(A, W, [1, 2], now_ns=0)
    expected.expect(B, W, [3], now_ns=50)
    expected.stored(W, [1])
    assert expected.expire(99) == 0
    assert expected.expire(100) == 1
    assert expected.n_blocks(W) == 1
    assert expected.expire(1000) == 1


STEP = st.tuples(
    st.sampled_from(["expect", "end", "stored", "expire"]),
    st.integers(0, 5),
    st.lists(st.integers(0, 9), unique=True, max_size=5),
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_expectations_equal_a_naive_model(steps):
    expected = ExpectedBlocks(ttl_ns=10)
    naive: dict[BookingId, tuple[set[int], int]] = {}
    for now, (verb, n, keys) in enumerate(steps):
        maker = BookingId(str(n), 1)
        if verb == "expect" and maker not in naive and keys:
            expected.expect(maker, W, keys, now_ns=now)
            naive[maker] = (set(keys), now + 10)
        elif verb == "end":
            expected.end(maker)
            naive.pop(maker, None)
        elif verb == "stored":
            expected.stored(W, keys)
            naive = {m: (k - set(keys), end) for m, (k, end) in naive.items()}
        elif verb == "expire":
            expected.expire(now)
            naive = {m: v for m, v in naive.items() if v[1] > now}
        expected.check()
        assert expected.n_blocks(W) == len(set().union(*(k for k, _ in naive.values())))
