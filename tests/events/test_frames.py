"""Messages of several frames: whole or not at all, like pyzmq's own verbs."""

import pytest
import zmq

from radixroute.events.net.frames import offer_frames, send_frames, take_frames

MESSAGES = [[b"one"], [b"", b""], [b"a", b"b" * 5000, b""], [bytes([i]) for i in range(20)]]


@pytest.fixture
def pair():
    """What is sent to the first comes out of the second; it takes two messages and no more."""
    context = zmq.Context()
    ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    ours.sndhwm = theirs.rcvhwm = 1
    theirs.bind("inproc://a")
    ours.connect("inproc://a")
    yield ours, theirs
    context.destroy(linger=0)


@pytest.mark.parametrize("send", [send_frames, offer_frames])
@pytest.mark.parametrize("frames", MESSAGES, ids=len)
def test_every_frame_arrives_in_order_and_the_message_ends(pair, send, frames):
    ours, theirs = pair
    send(ours, frames)
    assert theirs.poll(30_000)
    assert take_frames(theirs) == frames
    with pytest.raises(zmq.Again):
        take_frames(theirs)
    send(ours, tuple(frames))
    assert theirs.recv_multipart() == frames


def test_where_there_is_no_room_nothing_is_sent(pair):
    ours, theirs = pair
    sent: list[list[bytes]] = []
    with pytest.raises(zmq.Again):
        offer_until_full(ours, sent)
    assert sent
    assert [take_frames(theirs) for _ in sent] == sent
    assert ours.poll(30_000, zmq.POLLOUT)
    offer_frames(ours, [b"y", b"z"])
    assert theirs.poll(30_000)
    assert take_frames(theirs) == [b"y", b"z"]


def offer_until_full(socket, sent):
    for number in range(1000):
        frames = [b"%d" % number, b"x"]
        offer_frames(socket, frames)
        sent.append(frames)
