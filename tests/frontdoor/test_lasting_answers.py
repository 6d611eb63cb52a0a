"""Several answers across the death of their router: none is lost, mixed up or drawn otherwise."""

from functools import partial

import pytest

from radixroute.errors import RequestFailed
from radixroute.lasting_answers import LastingAnswers
from radixroute.lasting_stream import LastingStream
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import pack_tokens
from tests.frontdoor.test_lasting_stream import BROKEN, NOBODY, REFUSED, Clock

STOP = pb.FINISH_REASON_STOP


def answers(n=3, clock=None, **sampling) -> LastingAnswers:
    request = pb.GenerateRequest(text="tell me")
    request.sampling.MergeFrom(pb.SamplingParams(max_tokens=9, **sampling))
    if n is not None:
        request.sampling.n = n
    keeping = partial(LastingStream, timeout_s=100.0, patience_s=10.0, clock_s=clock or Clock())
    return LastingAnswers(request, keeping)


def message(index=0, position=0, seed=None, **more) -> pb.GenerateResponse:
    told = pb.SamplingParams(max_tokens=9, seed=seed) if seed is not None else None
    ids = pack_tokens([30 + position, 31 + position])
    return pb.GenerateResponse(
        request_id=f"id {index}",
        token_ids=ids,
        text="ab",
        position=position,
        index=index,
        sampling=told,
        **more,
    )


def test_together_each_is_whole_and_then_nothing_is_asked():
    all_of = answers()
    assert all_of.request is not None
    assert all_of.request.sampling.n == 3
    for index in (2, 0, 1):
        all_of.take(message(index, seed=5 + index))
        all_of.take(message(index, 2, finish_reason=STOP))
    all_of.ended()
    assert all_of.request is None


def test_what_had_not_ended_goes_on_alone_one_after_another_with_its_own_seed():
    all_of = answers()
    all_of.take(message(1, seed=6))
    all_of.take(message(2, seed=7, finish_reason=STOP))
    assert all_of.pause_s(BROKEN) is not None
    first = all_of.request
    assert first is not None
    assert (first.resume.request_id, first.resume.number) == ("id 1", 1)
    assert first.resume.emitted_token_ids == pack_tokens([30, 31])
    assert (first.sampling.seed, first.sampling.HasField("n")) == (6, False)
    resumed = message(1, 2, finish_reason=STOP)
    resumed.index = 0  # alone it is the first
    got = all_of.take(resumed)
    assert got.index == 1
    all_of.ended()
    second = all_of.request
    assert second is not None
    assert not second.HasField("resume")
    assert (second.sampling.seed, second.sampling.HasField("n")) == (5, False)
    assert all_of.take(message(0, finish_reason=STOP)).index == 0
    all_of.ended()
    assert all_of.request is None


def test_two_that_had_begun_are_both_resumed():
    all_of = answers(2)
    for index in range(2):
        all_of.take(message(index, seed=index))
    assert all_of.pause_s(BROKEN) is not None
    for index in range(2):
        request = all_of.request
        assert request is not None
        assert (request.resume.request_id, request.resume.number) == (f"id {index}", 1)
        rest = message(index, 2, finish_reason=STOP)
        rest.index = 0
        rest.usage.prompt_tokens = 7
        assert all_of.take(rest).usage.prompt_tokens == (0 if index else 7)
        all_of.ended()
    assert all_of.request is None


def test_before_anything_has_come_all_are_asked_for_again():
    all_of = answers(seed=2**64 - 1)
    before = all_of.request
    assert all_of.pause_s(BROKEN) is not None
    assert all_of.request == before
    assert all_of.pause_s(REFUSED) is None


def test_a_router_that_gives_one_answer_is_asked_for_each_of_the_others():
    """An older one does not know n."""
    all_of = answers(3, seed=2**64 - 2)
    all_of.take(message(0, seed=2**64 - 2, finish_reason=STOP))
    all_of.ended()
    seeds = []
    while (request := all_of.request) is not None:
        seeds.append(request.sampling.seed)
        one = message(0, finish_reason=STOP)
        assert all_of.take(one).index == len(seeds)
        all_of.ended()
    assert seeds == [2**64 - 1, 0]


def test_what_breaks_behind_the_last_message_is_no_error():
    all_of = answers(2)
    for index in range(2):
        all_of.take(message(index, seed=index, finish_reason=STOP))
    assert all_of.pause_s(BROKEN) == 0.0
    assert all_of.request is None


def test_answers_that_had_begun_wait_for_a_router_as_long_as_one_does():
    clock = Clock()
    all_of = answers(2, clock)
    all_of.take(message(1, seed=4))
    assert all_of.pause_s(BROKEN) is not None
    assert all_of.pause_s(NOBODY) is not None
    clock.now_s = 10.0
    assert all_of.pause_s(NOBODY) is None


def test_an_answer_nobody_asked_for_is_refused():
    with pytest.raises(RequestFailed, match="nobody asked for answer 3"):
        answers(3).take(message(3, seed=1))


@pytest.mark.parametrize("n", [None, 0, 1, 2**32 - 1])
def test_a_number_of_answers_that_is_refused_costs_nothing(n):
    request = answers(n).request
    assert request is not None
    assert request.sampling.HasField("n") == (n is not None)
