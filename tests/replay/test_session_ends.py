"""Who says that a session is over: which requests of a trace, and what a replay makes of it."""

import numpy as np
import pytest

from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.lab import LabSettings
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.session_ends import SessionEnds, session_ends
from tests.replay.fleets import new_trace

ALL = SessionEnds(told=1.0)
# Two sessions over one beginning, one of three turns that forks, and a prompt of one block.
PROMPTS = [[1, 2], [1, 3], [1, 2, 4], [1, 3, 5, 6], [1, 2, 4, 7], [1, 2, 4, 8], [9]]


def trace_of(prompts):
    n, first = len(prompts), np.cumsum([0, *map(len, prompts)])
    blocks = [block for prompt in prompts for block in prompt]
    lengths = [4 * len(prompt) for prompt in prompts]
    return new_trace(4, list(range(n)), lengths, [1] * n, first.tolist(), blocks)


def told(trace, ends, seed=3):
    found = session_ends(trace, ends, seed)
    assert found is not None
    return found


def test_the_last_turn_of_each_session_says_how_many_there_were():
    assert told(trace_of(PROMPTS), ALL).tolist() == [0, 0, 0, 2, 3, 3, 0]


def test_a_prompt_said_again_goes_on_with_its_session():
    assert told(trace_of([[1, 2], [1, 2]]), ALL).tolist() == [0, 2]


def test_where_nobody_says_so_there_is_nothing():
    assert session_ends(trace_of(PROMPTS), SessionEnds(), seed=0) is None


def test_a_share_of_the_sessions_and_of_those_that_go_on_says_so():
    trace = synthesize("chats", 1)
    all_told = told(trace, ALL)
    some = told(trace, SessionEnds(told=0.5))
    is_told = some > 0
    assert np.array_equal(some[is_told], all_told[is_told])
    assert 0.4 < is_told.sum() / (all_told > 0).sum() < 0.6
    assert np.array_equal(some, told(trace, SessionEnds(told=0.5)))
    assert not np.array_equal(some, told(trace, SessionEnds(told=0.5), seed=4))
    wrong = told(trace, SessionEnds(told=1.0, wrong=0.1))
    others = wrong[all_told == 0] > 0
    assert np.array_equal(wrong[all_told > 0], all_told[all_told > 0])
    assert 0.03 < others.mean() < 0.17


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(InvalidShape, match="0 to 1"):
        SessionEnds(share)
    with pytest.raises(InvalidShape, match="0 to 1"):
        LabSettings(session_ends=share)


def test_workers_that_are_told_reuse_more_and_the_untold_replay_stays_what_it_was():
    trace = synthesize("chats", 1)
    shape = FleetShape(2, 1200, 64)
    plain, better = (
        simulate(trace, "radix", Scenario(shape, session_ends=SessionEnds(share)))
        for share in (0.0, 1.0)
    )
    assert better.reuse > plain.reuse + 0.005
    again = simulate(trace, "radix", Scenario(shape))
    assert np.array_equal(again.first_ns, plain.first_ns)
