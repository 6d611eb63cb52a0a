"""LMetric: the product of what a worker would compute and how many it runs."""

from tests.router.fixed_snapshot import decide, make
from tests.router.scalar_score import Row, view


def choice(*rows: Row, tokens: int = 1000) -> str:
    return decide(make("lmetric"), view(*rows, tokens=tokens)).worker_id


def test_the_product_is_uncached_tokens_times_the_batch_with_this_request_in_it():
    policy = make("lmetric")
    decision = decide(policy, view(Row("a", 10, in_flight=3), Row("b"), tokens=1000))
    terms = policy.scores(decision.view).terms
    assert terms.tolist() == [[(1000 - 160) * 4.0, 1000 * 1.0]]
    assert decision.worker_id == "b"


def test_a_prefix_weighs_more_the_longer_it_is():
    assert choice(Row("a", 60, in_flight=3), Row("b", in_flight=0)) == "a", "40 tokens for 4"
    assert choice(Row("a", 30, in_flight=3), Row("b", in_flight=0)) == "b", "520 tokens for 4"


def test_idle_workers_differ_by_what_they_hold():
    assert choice(Row("a"), Row("b", 5), Row("c")) == "b"
