"""Frames: the messages of a worker session on a plain byte stream.

Both sides greet with `HELLO`, then each message is a little-endian u32, its length in bytes, and
the protobuf itself: upwards `EngineRequest`, downwards `StepOutput`. Sans I/O.
"""

import struct
from typing import Final

from radixroute.request.errors import MalformedFrames

HELLO: Final = b"rr.sess1"
_HEADER: Final = struct.Struct("<I")


def framed(message: bytes) -> bytes:
    return _HEADER.pack(len(message)) + message


class FrameReader:
    """One direction of one stream."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of one message; what announces more is refused before it is kept."""
        self._max_bytes = max_bytes
        self._rest = b""
        self._is_greeted = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole by now. Raises `MalformedFrames`: the stream is over then."""
        data = self._rest + data if self._rest else data
        at = 0
        if not self._is_greeted:
            if not data.startswith(HELLO[: len(data)]):
                raise MalformedFrames("the other side does not speak frames")
            if len(data) < len(HELLO):
                self._rest = data
                return []
            self._is_greeted, at = True, len(HELLO)
        messages = []
        while len(data) - at >= _HEADER.size:
            (size,) = _HEADER.unpack_from(data, at)
            if not 0 < size <= self._max_bytes:
                raise MalformedFrames(f"a message announces {size} bytes")
            end = at + _HEADER.size + size
            if end > len(data):
                break
            messages.append(data[at + _HEADER.size : end])
            at = end
        self._rest = data[at:]
        return messages
