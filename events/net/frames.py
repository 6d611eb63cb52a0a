"""Messages of several frames through ZeroMQ sockets, at a third of the cost of pyzmq's own verbs.

Those combine flags that are enumerations and ask for an option after each frame, which takes longer
than the sending. Same meaning, same errors.
"""

from collections.abc import Sequence

import zmq

from radixroute.events.net.socket_thread import Socket

_MORE, _NOBLOCK = int(zmq.SNDMORE), int(zmq.NOBLOCK)


def send_frames(socket: Socket, frames: Sequence[bytes]) -> None:
    """Waits for room, where the socket's kind does."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], 0)


def offer_frames(socket: Socket, frames: Sequence[bytes]) -> None:
    """Raises `zmq.Again` where there is no room; then nothing was sent."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE | _NOBLOCK)
    socket.send(frames[-1], _NOBLOCK)


def take_frames(socket: Socket) -> list[bytes]:
    """The next message. Raises `zmq.Again` if there is none."""
    frame = socket.recv(_NOBLOCK, copy=False)
    frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(frame.bytes)
    return frames
