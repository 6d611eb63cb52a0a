"""Pipe: length-prefixed messages over the engine process's end of a socket pair, blocking.

Owns that end of the socket and the bytes of a message that is not whole yet. Never looks into a
message. The server's end is asyncio's (`EngineProcess`) and frames messages alike. Called by the
engine process alone; one thread.
"""

import select
import socket
import struct

from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.messages import Message, decode_message, encode_message

HEADER = struct.Struct(">I")
# A prompt of a million tokens has 4 MB, a step's events far less.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024


class PipeClosed(Exception):
    """The server process is gone: nobody is left to work for."""


class Pipe:
    """One end of a socket pair, message by message."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(True)
        self._received = bytearray()

    def send(self, message: Message) -> None:
        """Raises `PipeClosed`. Blocks while the server reads slower than the engine steps."""
        data = encode_message(message)
        try:
            self._socket.sendall(HEADER.pack(len(data)) + data)
        except OSError as error:
            raise PipeClosed from error

    def receive(self, *, wait: bool) -> list[Message]:
        """Every whole message that is here; with `wait` at least one. Raises `PipeClosed`."""
        messages = self._split()
        while (wait and not messages) or self._has_more():
            self._read()
            messages += self._split()
        return messages

    def _has_more(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise PipeClosed from error
        if not data:
            raise PipeClosed
        self._received += data

    def _split(self) -> list[Message]:
        messages = []
        while len(self._received) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._received)
            if size > MAX_MESSAGE_BYTES:
                raise MalformedMessage(f"a message announces {size} bytes")
            end = HEADER.size + size
            if len(self._received) < end:
                break
            messages.append(decode_message(bytes(self._received[HEADER.size : end])))
            del self._received[:end]
        return messages
