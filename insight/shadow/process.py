"""Shadow process: the process that runs shadows, seen from the router's loop.

Owns it, and what is on its way there: bounded, for who is slower than the live router must neither
fill its memory nor make it wait. Nothing of the loop ever blocks on it.
"""

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from radixroute.insight.shadow.messages import LENGTH, Order, Results, decode_results, framed

MAX_ON_THE_WAY: Final = 32 << 20  # bytes that it has not taken yet
END_S: Final = 2.0

_log = logging.getLogger(__name__)


class ShadowProcess:
    """One. `start`, then `stop`, in one loop."""

    def __init__(self, told: Callable[[Results], None], ended: Callable[[str], None]) -> None:
        """`told` gets its answers; `ended` is called once, if it ends by itself, with why."""
        self._told, self._ended = told, ended
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.to_thread(_spawn, theirs)
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader), name="shadows")

    def send(self, order: Order) -> bool:
        """False: it has too much before it, or has ended; the order is lost."""
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            return False
        if writer.transport.get_write_buffer_size() > MAX_ON_THE_WAY:
            return False
        writer.write(framed(order))
        return True

    async def stop(self) -> None:
        """Ends it. Idempotent."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "it ended"
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                self._told(decode_results(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except msgspec.MsgspecError as error:
            why = f"its answer cannot be read: {error}"
        _log.warning("the process of the shadows is gone: %s", why)
        self._ended(why)


def _spawn(sock: socket.socket) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "radixroute.insight.shadow.child"]
    command += ["--fd", str(sock.fileno())]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, pass_fds=(sock.fileno(),), stdin=subprocess.DEVNULL
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its socket is closed, which ends it between two batches."""
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
