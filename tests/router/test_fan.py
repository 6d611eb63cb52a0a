"""One prompt, several answers: requests that differ in id and seed alone, and one prompt in sum."""

import pytest
from msgspec.structs import replace

from radixroute.radix.ids import WorkerId
from radixroute.router.api.fan import fan_out, usage_of
from radixroute.router.messages.actions import Usage
from tests.router.worlds import request


def test_each_answer_is_a_request_of_its_own_over_the_same_prompt():
    ids = iter(["b", "c"])
    first = request("a")
    first = replace(first, sampling=replace(first.sampling, seed=2**64 - 2))
    answers = fan_out(first, 3, lambda: next(ids))
    assert answers[0] is first
    assert [one.request_id for one in answers] == ["a", "b", "c"]
    assert [one.sampling.seed for one in answers] == [2**64 - 2, 2**64 - 1, 0]
    for one in answers:
        names = one.__struct_fields__
        differing = {name for name in names if getattr(one, name) is not getattr(first, name)}
        assert differing <= {"request_id", "sampling"}
        assert replace(one.sampling, seed=0) == replace(first.sampling, seed=0)


def test_one_answer_draws_no_id():
    first = request("a")
    assert fan_out(first, 1, lambda: pytest.fail("an id is drawn")) == (first,)


def test_the_prompt_of_all_answers_counts_once():
    usage = Usage(7, 4, 3, 0, 1, WorkerId("w"), 1.5, 0.5)
    each = [usage_of(usage, index) for index in range(3)]
    assert sum(one.prompt_tokens for one in each) == 7
    assert sum(one.cached_tokens for one in each) == 4
    assert sum(one.output_tokens for one in each) == 9
    assert each[0] is usage
