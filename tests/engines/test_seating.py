"""Prompts of answers that come whole: they count as waiting no longer than they may wait."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from radixroute.request.verbatim.records import PATHS, Passage, Verbatim
from radixroute.worker.companions.calls import Call, Calls
from radixroute.worker.companions.dialects.dialect import EngineNumbers, Heard, RankNumbers
from radixroute.worker.companions.verbatim.seating import ENOUGH_NS, Seating
from tests.engines.bodies import WITH_TOOLS
from tests.engines.fleets import fleet
from tests.engines.test_calls import request
from tests.router.clusters import until
from tests.router.http.wire import CHATS, connected

N_TOKENS = 30


def waiting(*of_ranks: int) -> EngineNumbers:
    return EngineNumbers(tuple(RankNumbers(waiting=n) for n in of_ranks))


def begun(calls: Calls, number: int, *, is_verbatim: bool = True, rank: int = 0) -> Call:
    asked = request(number)
    if is_verbatim:
        asked = replace(asked, verbatim=Verbatim(PATHS[0], b"{}", N_TOKENS))
    calls.acknowledge(asked)
    call = calls.begin(asked, uncached_tokens=N_TOKENS, now_ns=0, rank=rank)
    relayed: Any = SimpleNamespace(is_paused=False) if is_verbatim else None
    call.relaying = relayed
    return call


def queued(calls: Calls) -> int:
    calls.check()
    return sum(one.queued_tokens for one in calls.progress())


def test_who_is_past_the_queue_for_a_while_is_computed():
    calls, seating = Calls(4), Seating()
    for number in range(3):
        begun(calls, number)
    assert not seating.looked(calls, waiting(1), 0)
    assert not seating.looked(calls, waiting(1), ENOUGH_NS - 1), "not for long enough"
    assert queued(calls) == 3 * N_TOKENS
    assert seating.looked(calls, waiting(1), ENOUGH_NS)
    assert queued(calls) == N_TOKENS, "the last one may wait"
    assert not seating.looked(calls, waiting(0), ENOUGH_NS), "it has just been seated"
    assert seating.looked(calls, waiting(0), 2 * ENOUGH_NS)
    assert queued(calls) == 0
    for call in list(calls):
        calls.hear(call, Heard(passage=Passage(b"x", 1, 200, "text/event-stream")), 1)
        assert queued(calls) == 0
        calls.cancel(call)


def test_whoever_else_waits_there_may_be_before_it():
    calls, seating = Calls(4), Seating()
    begun(calls, 0)
    for at_ns in range(0, 4 * ENOUGH_NS, ENOUGH_NS):
        assert not seating.looked(calls, waiting(7), at_ns)
    seating.looked(calls, waiting(0), 5 * ENOUGH_NS)
    assert not seating.looked(calls, waiting(7), 6 * ENOUGH_NS), "it was preempted, or nobody knows"
    assert not seating.looked(calls, waiting(0), 7 * ENOUGH_NS), "its time begins anew"
    assert queued(calls) == N_TOKENS


def test_each_rank_has_a_queue_of_its_own():
    calls, seating = Calls(4), Seating()
    for number, rank in enumerate((0, 1, 1)):
        begun(calls, number, rank=rank)
    for at_ns in (0, ENOUGH_NS):
        seating.looked(calls, waiting(1, 0), at_ns)
    assert [call.uncached_tokens for call in calls] == [N_TOKENS, 0, 0]


def test_engines_that_do_not_say_and_answers_that_tell_their_first_token_count_as_before():
    calls, seating = Calls(4), Seating()
    begun(calls, 0, is_verbatim=False)
    for at_ns in (0, ENOUGH_NS, 2 * ENOUGH_NS):
        assert not seating.looked(calls, waiting(0), at_ns)
        assert not seating.looked(calls, EngineNumbers(), at_ns)
    assert queued(calls) == N_TOKENS


async def test_a_router_hears_that_a_prompt_of_a_whole_answer_waits_no_more(monkeypatch):
    monkeypatch.setattr("radixroute.worker.companions.verbatim.seating.ENOUGH_NS", 1)
    async with fleet("a", companion={"poll_s": 0.02}, step_s=0.1) as made:
        companion: Any = made.workers["a"]._engine
        calls = companion._hearing.calls
        async with connected(made.router) as client:
            client.post(CHATS, {**WITH_TOOLS, "max_tokens": 200})
            await until(lambda: len(calls) == 1)
            assert queued(calls) > 0
            await until(lambda: queued(calls) == 0)
            (call,) = calls
            assert call.first_ns is None, "nothing came of it yet"
