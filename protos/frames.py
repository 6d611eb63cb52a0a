"""Frames: the messages of a worker session on a plain byte stream.

Both sides greet with `HELLO`, then each message is a little-endian u32, its length in bytes, and
the protobuf itself: upwards `EngineRequest`, downwards `StepOutput`. Sans I/O.
"""

import struct
from typing import Final

HELLO: Final = b"rr.sess1"
_HEADER: Final = struct.Struct("<I")


class BadFrame(Exception):
    """What came is no frame: hang up, nothing behind it can be read."""


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
        """The messages that are whole by now. Raises `BadFrame`: the stream is over then."""
        data = self._rest + data if self._rest else data
        at = 0
        if not self._is_greeted:
            if not data.startswith(HELLO[: len(data)]):
                raise BadFrame("the other side does not speak frames")
            if len(data) < len(HELLO):
                self._rest = data
                return []
            self._is_greeted, at = True, len(HELLO)
        messages = []
        while len(data) - at >= _HEADER.size:
            (size,) = _HEADER.unpack_from(data, at)
            if not 0 < size <= self._max_bytes:
                raise BadFrame(f"a message announces {size} bytes")
            end = at + _HEADER.size + size
            if end > len(data):
                break
            messages.append(data[at + _HEADER.size : end])
            at = end
        self._rest = data[at:]
        return messages
