"""What `explain` says of a choice: the term that it names is the one that decided."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.router.policy.decision import Decision
from radixroute.router.policy.forecast import cheapest
from radixroute.router.policy.radix.scores import NAMES, UNITS, radix_scores
from radixroute.router.policy.reasons import reason_of, rivals
from radixroute.router.policy.view import TIE_MS, Scores
from tests.router.fixed_snapshot import decide, make
from tests.router.scalar_score import Row, terms, view


def said(*rows: Row, replica_ms: float = 0.0, draw: int = 0) -> tuple[str, str]:
    """The worker that the default policy's costs choose, and the sentence."""
    what = view(*rows, draw=draw).with_own(terms(replica_ms=replica_ms))
    scores = radix_scores(what)
    decision = Decision(1, "radix", what, cheapest(scores.totals, draw), "")
    return decision.worker_id, reason_of(decision, scores)


@pytest.mark.parametrize(
    ("rows", "replica_ms", "sentence"),
    [
        ([Row("a"), Row("b", 50)], 0.0, r"It costs .* ms less than a, above all prefill .*50 .*0"),
        ([Row("a", backlog_ms=80.0), Row("b")], 0.0, r"less than a, above all queue \(80 ms\)"),
        ([Row("a", decoding=9), Row("b")], 0.0, r"less than a, above all steps"),
        ([Row("a", recent_prefill=1e6), Row("b")], 0.0, r"less than a, above all turnover"),
        ([Row("a", in_flight=9), Row("b")], 0.0, r"less than a, above all slow_down"),
        (
            [Row("a", 60, backlog_ms=900.0), Row("b", 3)],
            0.0,
            r"^a holds more of it \(60 blocks, 3 here\) but costs .* ms more, above all queue",
        ),
        (
            [Row("a", 60, backlog_ms=300.0), Row("b", 3)],
            900.0,
            r"^a holds more of it .*above all replica .*: those who hold more were busy often",
        ),
        ([Row("a"), Row("b")], 0.0, r"^It costs the same as [ab]: one of them was drawn\.$"),
        (
            [Row("a"), Row("b"), Row("c"), Row("d", in_flight=5)],
            0.0,
            r"^It costs the same as [abc] and 1 more: one of them was drawn\. It costs .* than d",
        ),
        ([Row("a")], 0.0, r"^It is the only worker that could take it\.$"),
    ],
)
def test_each_term_that_decides_is_named_in_its_own_words(rows, replica_ms, sentence):
    _, reason = said(*rows, replica_ms=replica_ms)
    assert re.search(sentence, reason), reason


def test_every_term_of_the_default_policy_has_words():
    """Two workers that differ in one term alone: the sentence ends in more than its number."""
    what = view(Row("a"), Row("b"))
    for i, name in enumerate(NAMES):
        table = np.zeros((len(NAMES), 2))
        table[i, 0] = 5.0
        reason = reason_of(Decision(1, "radix", what, 1, ""), Scores(NAMES, UNITS, table))
        assert re.fullmatch(
            rf"It costs 5 ms less than a, above all {name} \(5 ms\): .*\w.*\.", reason
        )


_ROWS = st.lists(
    st.builds(
        Row,
        worker_id=st.just(""),
        overlap=st.sampled_from([0, 0, 3, 30, 60]),
        in_flight=st.integers(0, 20),
        decoding=st.integers(0, 6),
        backlog_ms=st.sampled_from([0.0, 0.0, 20.0, 400.0]),
        recent_prefill=st.sampled_from([0.0, 1e4, 1e6]),
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(rows=_ROWS, replica_ms=st.sampled_from([0.0, 100.0, 1e4]), draw=st.integers(0, 2**64 - 1))
def test_the_named_term_has_the_largest_difference_in_favour(rows, replica_ms, draw):
    named = [Row(f"w{i}", *list(vars(row).values())[1:]) for i, row in enumerate(rows)]
    what = view(*named, draw=draw).with_own(terms(replica_ms=replica_ms))
    scores = radix_scores(what)
    chosen = cheapest(scores.totals, draw)
    reason = reason_of(Decision(1, "radix", what, chosen, ""), scores)
    ties, other = rivals(what, scores, chosen)
    assert ("costs the same as" in reason) == bool(ties)
    assert len(ties) == int((np.abs(scores.totals - scores.totals[chosen]) <= TIE_MS).sum()) - 1
    found = re.search(r"above all (\w+)", reason)
    assert (found is None) == (other is None)
    if found is None or other is None:
        return
    assert what.worker_ids[other] in reason
    favour = scores.terms[:, other] - scores.terms[:, chosen]
    assert favour[NAMES.index(found.group(1))] == favour.max() > 0.0
    longest = int(what.overlap_blocks.max())
    if ("holds more of it" in reason) and not ties:
        assert int(what.overlap_blocks[other]) == longest > int(what.overlap_blocks[chosen])


def test_a_policy_that_goes_by_no_cost_keeps_its_own_sentence():
    rng = random.Random(1)
    what = view(Row("a", in_flight=3), Row("b"), draw=rng.getrandbits(64))
    for name in ("round_robin", "random"):
        policy = make(name)
        decision = decide(policy, what)
        assert reason_of(decision, policy.scores(decision.view)) == decision.reason != ""
