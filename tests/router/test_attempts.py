"""Columns of tokens at a router's link: the same as a delta each, and nothing else gets through."""

import asyncio
from typing import Any

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, framed
from radixroute.request.wire import pack_tokens
from radixroute.router.links.attempts import Attempts
from radixroute.router.links.frame_wire import FrameWire
from radixroute.router.links.session_place import SessionPlace
from radixroute.router.links.session_wire import SessionEnded
from radixroute.router.links.wire import step_reports
from radixroute.router.messages.inputs import Delta

NUMBERS = (4, 9, 2**40)
ROWS = [("a", 1, 7, (5,), "x"), ("b", 3, 0, (6, 7), "\u20ac"), ("a", 2, 300, (8, 9, 10), "")]


def attempts() -> Attempts:
    begun = Attempts()
    for number, (request_id, attempt, *_) in zip(NUMBERS, ROWS, strict=True):
        begun.begin(submit(number, request_id, attempt))
    return begun


def submit(number: int, request_id: str, attempt: int) -> pb.SubmitRequest:
    return pb.SubmitRequest(request_id=request_id, attempt=attempt, dispatch_seq=number)


def columns_of(rows, numbers=NUMBERS, *, counts=True) -> pb.TokenColumns:
    return pb.TokenColumns(
        dispatch_seqs=numbers,
        positions=[row[2] for row in rows],
        counts=[len(row[3]) for row in rows] if counts else (),
        token_ids=pack_tokens([token for row in rows for token in row[3]]),
        texts=[row[4] for row in rows],
    )


def as_deltas(rows) -> tuple[Delta, ...]:
    made = [
        pb.TokenDelta(
            request_id=request_id,
            attempt=attempt,
            position=position,
            token_ids=pack_tokens(token_ids),
            text=text,
        )
        for request_id, attempt, position, token_ids, text in rows
    ]
    return next(step_reports(pb.StepOutput(deltas=made))).deltas


def test_a_row_is_what_a_delta_would_be():
    assert tuple(attempts().deltas(columns_of(ROWS))) == as_deltas(ROWS)
    one_each = [(*row[:3], row[3][:1], row[4]) for row in ROWS]
    assert tuple(attempts().deltas(columns_of(one_each, counts=False))) == as_deltas(one_each)
    assert attempts().deltas(pb.TokenColumns()) == []


def test_what_has_ended_has_no_number_any_more():
    begun = attempts()
    begun.end("b", 3)
    begun.end("b", 3)
    begun.end("never", 1)
    assert len(begun) == 2
    names = [(delta.request_id, delta.attempt) for delta in begun.deltas(columns_of(ROWS))]
    assert names == [("a", 1), ("", 0), ("a", 2)]


TORN = {
    "a position less": {"positions": [1, 2]},
    "a text more": {"texts": ["x"] * 4},
    "a count less": {"counts": [1, 2]},
    "no counts for so many ids": {"counts": []},
    "half a token": {"token_ids": b"abcdefghijklmnopqrstuv"},
    "no ids": {"token_ids": b""},
    "rows without a name": {"dispatch_seqs": []},
}


@pytest.mark.parametrize("changed", TORN.values(), ids=TORN)
def test_columns_that_do_not_fit_end_the_session(changed):
    told: dict[str, Any] = {
        field.name: value if field.name == "token_ids" else list(value)
        for field, value in columns_of(ROWS).ListFields()
    }
    with pytest.raises(SessionEnded, match="columns"):
        attempts().deltas(pb.TokenColumns(**{**told, **changed}))


class Socket:
    """What a wire says, and whether it hung up."""

    def __init__(self) -> None:
        self.said = b""
        self.is_aborted = False

    def get_extra_info(self, name):
        return None

    def write(self, data):
        self.said += data

    def abort(self):
        self.is_aborted = True


async def test_a_wire_hands_rows_on_before_deltas_and_hangs_up_on_torn_ones(monkeypatch):
    monkeypatch.setattr("radixroute.router.links.frame_wire.keep_alive", lambda stream: None)
    socket: Any = Socket()
    wire, reports = FrameWire(SessionPlace(), 1 << 20), list[Delta]()
    wire.connection_made(socket)
    for number, name in enumerate("ab", start=1):
        wire.send(pb.EngineRequest(submit=submit(number, name, 1)))
    relaying = asyncio.create_task(wire.relay(lambda report: reports.extend(report.deltas)))
    await asyncio.sleep(0)
    rows = [("a", 1, 3, (5,), "x"), ("b", 1, 4, (6,), "y")]
    last = pb.TokenDelta(
        request_id="a", attempt=1, position=4, finish_reason=pb.FINISH_REASON_LENGTH
    )
    output = pb.StepOutput(columns=columns_of(rows, (1, 2)), deltas=[last])
    wire.data_received(HELLO + framed(output.SerializeToString()))
    assert [(one.request_id, one.position, one.text) for one in reports] == [
        ("a", 3, "x"),
        ("b", 4, "y"),
        ("a", 4, ""),
    ]
    assert len(wire._attempts) == 1
    wire.send(pb.EngineRequest(abort=pb.AbortRequest(request_id="b", attempt=1)))
    assert not len(wire._attempts)
    wire.data_received(framed(pb.StepOutput(columns=columns_of(rows, (1,))).SerializeToString()))
    assert socket.is_aborted
    wire.connection_lost(None)
    with pytest.raises(SessionEnded, match="columns"):
        await relaying
    wire.close()
