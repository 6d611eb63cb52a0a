"""Pacing of resends and snapshots against peers that are full, slow or gone."""

import zmq

from radixroute.events.publish.transfers import Transfers

SECOND = 1_000_000_000


class FakeRouterSocket:
    """Takes messages until a peer is full; knows which peers are gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, ...]] = []
        self.full: set[bytes] = set()
        self.gone: set[bytes] = set()
        self._frames: list[bytes] = []

    def send(self, frame, flags):
        assert flags & zmq.NOBLOCK
        if not self._frames and frame in self.full:
            raise zmq.Again
        if not self._frames and frame in self.gone:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self._frames.append(frame)
        if not flags & zmq.SNDMORE:
            self.sent.append(tuple(self._frames))
            self._frames.clear()


def messages(count: int):
    return ((b"part", bytes([index])) for index in range(count))


def make(max_active: int = 2):
    socket = FakeRouterSocket()
    return socket, Transfers(socket, max_active)  # type: ignore[arg-type]


def test_a_long_transfer_is_sent_over_several_turns():
    socket, transfers = make()
    transfers.start(b"a", messages(20), 0)
    assert not transfers.advance(0)
    assert 0 < len(socket.sent) < 20
    for _ in range(5):
        transfers.advance(0)
    assert [message[2] for message in socket.sent] == [bytes([index]) for index in range(20)]
    assert transfers.active == 0


def test_a_full_peer_loses_nothing_and_holds_nobody_up():
    socket, transfers = make()
    transfers.start(b"a", messages(4), 0)
    transfers.start(b"b", messages(4), 0)
    socket.full = {b"a"}
    assert not transfers.advance(0)  # b moved
    transfers.advance(0)
    assert {message[0] for message in socket.sent} == {b"b"}
    assert transfers.advance(0)  # only a is left, and it takes nothing
    socket.full = set()
    transfers.advance(0)
    transfers.advance(0)
    assert [message[2] for message in socket.sent if message[0] == b"a"] == [
        bytes([index]) for index in range(4)
    ]


def test_a_peer_that_stays_full_is_given_up_and_counted():
    socket, transfers = make()
    transfers.start(b"a", messages(4), 0)
    socket.full = {b"a"}
    transfers.advance(9 * SECOND)
    assert transfers.active == 1
    transfers.advance(11 * SECOND)
    assert (transfers.active, transfers.failed) == (0, 1)


def test_a_peer_that_is_gone_is_given_up_and_counted():
    socket, transfers = make()
    transfers.start(b"a", messages(4), 0)
    socket.gone = {b"a"}
    transfers.advance(0)
    assert (transfers.active, transfers.failed, socket.sent) == (0, 1, [])


def test_one_transfer_a_peer_and_a_bound_over_all():
    _, transfers = make(max_active=2)
    assert transfers.may_start(b"a")
    transfers.start(b"a", messages(100), 0)
    assert not transfers.may_start(b"a")
    transfers.start(b"b", messages(100), 0)
    assert not transfers.may_start(b"c")
