"""RouterCore: an answer that was cut off goes on where that changes nothing, or ends clearly."""

import pytest
from msgspec.structs import replace

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Failure
from tests.router.test_core_faults import give_up
from tests.router.worlds import MS, World, request

PENALTIES = [{"presence_penalty": 0.5}, {"frequency_penalty": -0.5}]


def world_of(*foreign, workers="abc", **flags):
    """Those of `foreign` cannot go on with what others began."""
    world = World(*workers)
    for name in foreign:
        member = world.core._state.members.get(WorkerId(name))
        assert member is not None
        for flag in flags or ("resent_is_prompt",):
            setattr(member, flag, True)
            world.core._state.members.had_limited = True
    return world


def begun(world, **sampling):
    """A request with output, and its worker."""
    what = request("r", n=6)
    world.submit(replace(what, sampling=SamplingParams(max_tokens=6, **sampling)))
    worker = next(w for w in world.workers if world.on(w))
    world.step(worker)
    return worker


@pytest.mark.parametrize("sampling", PENALTIES)
def test_penalties_on_output_go_on_where_output_counts_as_such(sampling):
    for able in "abc":
        world = world_of(*set("abc") - {able})
        lost = begun(world, **sampling)
        world.kill(lost)
        assert [w for w in "abc" if world.on(w)] == ([able] if able != lost else [])
        if able == lost:  # it waits for its next life
            world.revive(able)
            world.pass_time(20 * MS)
        world.settle()
        assert world.clients["r"].end is FinishReason.LENGTH


@pytest.mark.parametrize("sampling", PENALTIES)
def test_with_nobody_to_go_on_it_ends_at_once(sampling):
    world = world_of(*"abc")
    world.kill(begun(world, **sampling))
    assert world.clients["r"].end is Failure.NOT_RESUMABLE
    assert world.core._state.counters[Count.NOT_RESUMABLE] == 1
    world.core.check()


@pytest.mark.parametrize("sampling", [{}, {"repetition_penalty": 1.5}, {"min_p": 0.1}])
def test_what_does_not_read_output_goes_on_anywhere(sampling):
    world = world_of(*"abc")
    world.kill(begun(world, **sampling))
    world.settle()
    assert world.clients["r"].end is FinishReason.LENGTH


def test_who_takes_no_output_of_others_gets_none():
    world = world_of(*"abc", cannot_resume=True)
    world.kill(begun(world))
    assert world.clients["r"].end is Failure.NOT_RESUMABLE


def test_of_one_whose_tokens_are_not_those_it_drew_nobody_takes_over():
    world = world_of()
    lost = begun(world)
    member = world.core._state.members.get(WorkerId(lost))
    assert member is not None
    member.cannot_resume = True
    world.kill(lost)
    assert world.clients["r"].end is Failure.NOT_RESUMABLE
    world.core.check()


def test_without_output_there_is_nothing_to_go_on_with():
    world = world_of(*"abc")
    world.submit(replace(request("r"), sampling=SamplingParams(presence_penalty=1.0, max_tokens=5)))
    world.kill(next(w for w in world.workers if world.on(w)))
    world.settle()
    assert world.clients["r"].end is FinishReason.LENGTH


def test_a_refusal_of_what_another_began_is_not_the_requests_fault():
    world = world_of("a", workers="a")
    assert begun(world, presence_penalty=1.0) == "a"
    give_up(world, "a", "r", 1, FinishReason.INVALID)
    assert world.clients["r"].end is Failure.NOT_RESUMABLE
