"""The loop that drives an engine inside its own process: messages in, steps out.

I own the socket's child side (`Pipe`) and the order of things: between two steps every waiting
message is taken, with nothing to do the process sleeps in the socket. I decide nothing about
requests and end when the other side is gone. One thread; no asyncio, no torch.
"""

import select
import socket
import struct
from collections.abc import Callable

import numpy as np

from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.engine import Engine, EngineRequest, TokenOutput
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.messages import (
    Abort,
    EndSession,
    Message,
    Refused,
    Stepped,
    Submit,
    decode_message,
    encode_message,
)

HEADER = struct.Struct(">I")
# A prompt of a million tokens has 4 MB, a step's events far less.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024


class PipeClosed(Exception):
    """The face is gone: nobody is left to work for."""


class Pipe:
    """Length-prefixed messages over one end of a socket pair, blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(True)
        self._received = bytearray()

    def send(self, message: Message) -> None:
        """Raises `PipeClosed`. Blocks while the face reads slower than the engine steps."""
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


class EngineLoop:
    """Runs one engine until the pipe closes or the engine gives up."""

    def __init__(self, engine: Engine, pipe: Pipe, clock_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._pipe = pipe
        self._clock_ns = clock_ns

    def run(self) -> None:
        """Raises `PipeClosed` at the end, or what broke the engine."""
        while True:
            for message in self._pipe.receive(wait=not self._engine.has_work):
                self._take(message)
            step = self._engine.step(self._clock_ns())
            if step is not None:
                self._pipe.send(Stepped(step))

    def _take(self, message: Message) -> None:
        match message:
            case Submit(request, arrived_ns):
                self._submit(request, arrived_ns)
            case Abort(request_id, attempt):
                self._engine.abort(request_id, attempt)
            case EndSession(session_id):
                self._engine.end_session(session_id)
            case _:
                raise MalformedMessage(f"{type(message).__name__} is not for the engine")

    def _submit(self, request: EngineRequest, arrived_ns: int) -> None:
        # It may have waited in the pipe for as long as a step takes: that is queueing too.
        try:
            self._engine.submit(request, arrived_ns)
        except InvalidRequest as error:
            self._pipe.send(Refused(refusal(request, str(error))))


def refusal(request: EngineRequest, reason: str) -> TokenOutput:
    """The end of a request that never began."""
    return TokenOutput(
        request_id=request.request_id,
        attempt=request.attempt,
        session_id=request.session_id,
        position=int(np.size(request.emitted)),
        token_ids=(),
        finish=FinishReason.ERROR,
        error=reason,
    )
