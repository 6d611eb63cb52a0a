"""Frames: whatever pieces a stream comes in, its messages come out; and nothing else does."""

import random
import struct

import pytest

from radixroute.protos.frames import HELLO, BadFrame, FrameReader, framed


@pytest.mark.parametrize("seed", range(20))
def test_messages_come_out_of_any_pieces(seed):
    rng = random.Random(seed)
    sent = [rng.randbytes(rng.randrange(1, 200)) for _ in range(rng.randrange(1, 30))]
    stream = HELLO + b"".join(map(framed, sent))
    reader, got, at = FrameReader(200), list[bytes](), 0
    while at < len(stream):
        n = rng.choice((1, 3, 50, 1000))
        got += reader.feed(stream[at : at + n])
        at += n
    assert got == sent


@pytest.mark.parametrize("size", [0, 201, 2**32 - 1])
def test_a_message_of_an_impossible_size_is_refused_before_it_is_kept(size):
    reader = FrameReader(200)
    with pytest.raises(BadFrame, match=str(size)):
        reader.feed(HELLO + struct.pack("<I", size))


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1", b"rr.sess2", b"\x00", b"rx"])
def test_who_does_not_greet_is_not_read(first):
    with pytest.raises(BadFrame, match="does not speak"):
        FrameReader(200).feed(first)


@pytest.mark.parametrize("seed", range(50))
def test_any_bytes_are_messages_or_refused_and_never_kept_beyond_the_limit(seed):
    rng = random.Random(seed)
    reader = FrameReader(300)
    reader.feed(HELLO)

    def feed_any() -> None:
        for _ in range(1000):
            reader.feed(rng.randbytes(rng.randrange(1, 100)))
            assert len(reader._rest) < 304

    with pytest.raises(BadFrame):
        feed_any()
