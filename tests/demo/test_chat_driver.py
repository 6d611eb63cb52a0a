"""The chat driver on virtual time: closed loop, bounded, and no failure unseen."""

import asyncio
import itertools

import pytest

from radixroute.demo.errors import AskFailed
from radixroute.demo.port import Piece
from radixroute.demo.workload.chat_driver import ChatDriver
from radixroute.demo.workload.chats import ChatShape, make_workload
from tests.demo.virtual_time import LoopClock, run

WORKLOAD = make_workload(3, ChatShape(chats=11, min_turns=2, max_turns=4, arrivals_s=2.0))


class FakePort:
    """Answers after a fixed time to the first token, then a token each 10 ms."""

    def __init__(self, first_s=0.5, fail=lambda number: None):
        self.first_s = first_s
        self.fail = fail
        self.numbers = itertools.count()
        self.open = 0
        self.peak = 0

    async def ask(self, messages, max_tokens):
        number = next(self.numbers)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await asyncio.sleep(self.first_s)
            for position in range(3):
                await asyncio.sleep(0.01)
                if position == 1 and self.fail(number):
                    raise AskFailed("UNAVAILABLE: as told")
                yield Piece(
                    f"id-{number}", (7,), f"{number}.", position, position == 2, "w0", 100, 64, 1
                )
        finally:
            self.open -= 1


def drive(port, workload=WORKLOAD, in_flight=9, watch=lambda *_: None):
    clock = LoopClock()
    return run(
        _run(lambda: ChatDriver(port, workload, in_flight=in_flight, clock=clock, watch=watch))
    )


async def _run(make):
    return await make().run()


def test_every_turn_is_sent_once_and_answered():
    outcome = drive(FakePort())
    sent = [(request.chat_id, request.turn) for request in outcome.requests]
    expected = [(chat.chat_id, n) for chat in WORKLOAD.chats for n in range(len(chat.turns))]
    assert sorted(sent) == sorted(expected)
    assert outcome.unsent == 0
    assert outcome.errors == ()
    assert {request.cached_tokens for request in outcome.requests} == {64}


def test_requests_come_in_the_order_sent():
    sent = [request.sent_ns for request in drive(FakePort()).requests]
    assert sent == sorted(sent)


def test_a_turn_is_ready_its_think_time_after_the_answer_before_it():
    by_turn = {(a.chat_id, a.turn): a for a in drive(FakePort()).requests}
    for chat in WORKLOAD.chats:
        assert by_turn[chat.chat_id, 0].ready_ns == pytest.approx(chat.start_s * 1e9, abs=1e3)
        for number, turn in enumerate(chat.turns[1:], start=1):
            waited = (
                by_turn[chat.chat_id, number].ready_ns - by_turn[chat.chat_id, number - 1].end_ns
            )
            assert waited == pytest.approx(turn.think_s * 1e9, abs=1e3)


def test_a_turn_repeats_the_real_answers_of_the_turns_before_it():
    by_turn = {(a.chat_id, a.turn): a for a in drive(FakePort()).requests}
    for (chat_id, turn), request in by_turn.items():
        answers = [m.content for m in request.messages if m.role == "assistant"]
        assert answers == [by_turn[chat_id, before].text for before in range(turn)]


def test_no_more_than_the_cap_are_in_flight_and_the_cap_is_reached():
    port = FakePort(first_s=20.0)
    outcome = drive(port, in_flight=5)
    assert port.peak == 5
    assert max(request.in_flight for request in outcome.requests) == 5
    assert 3.0 < outcome.mean_in_flight <= 5.0


def test_first_ready_is_first_sent():
    requests = drive(FakePort(first_s=20.0), in_flight=3).requests
    ready = [one.ready_ns for one in requests]
    assert ready == sorted(ready)
    assert any(one.sent_ns > one.ready_ns for one in requests)


def test_time_to_first_token_begins_when_the_request_is_sent():
    times = [request.ttft_ms for request in drive(FakePort(first_s=4.0), in_flight=2).requests]
    assert times == pytest.approx([4010.0] * len(times), abs=0.01)


def test_a_failed_turn_is_counted_and_ends_its_chat():
    watched = []
    port = FakePort(fail=lambda number: number == 0)
    outcome = drive(port, watch=lambda *state: watched.append(state))
    first = WORKLOAD.chats[0]
    assert outcome.errors == (f"{first.chat_id}.0 id-0: UNAVAILABLE: as told",)
    assert outcome.unsent == len(first.turns) - 1
    assert watched[-1] == (len(outcome.requests), 0, 1)


class TornPort(FakePort):
    """Sends what it is told to and ends."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    async def ask(self, messages, max_tokens):
        for piece in self.pieces:
            yield piece


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [Piece("r", (1,), "a", 0, False)],
        [Piece("r", (), "", 0, True)],
        [Piece("r", (1,), "a", 0, False), Piece("r", (2,), "b", 2, True)],
        [Piece("r", (1, 2), "ab", 0, False), Piece("r", (2,), "b", 1, True)],
    ],
    ids=["nothing", "no end", "no token", "a lost token", "a repeated token"],
)
def test_an_answer_that_is_not_whole_is_a_failure(pieces):
    one_turn = make_workload(1, ChatShape(chats=1, min_turns=1, max_turns=1))
    assert len(drive(TornPort(pieces), one_turn).errors) == 1
