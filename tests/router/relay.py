"""A bad wire: a TCP relay that passes, delays, stalls or resets what goes through it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 1 << 16


class Relay:
    """Listens in front of one address."""

    def __init__(self, behind: str) -> None:
        host, _, port = behind.removeprefix("tcp://").rpartition(":")
        self._behind = host, int(port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.delay_s = 0.0

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def stall(self) -> None:
        """Connections stay and nothing gets through, as when a network is cut in two."""
        self._flows.clear()

    def mend(self) -> None:
        """What was held back goes on."""
        self._flows.set()

    def reset(self) -> None:
        """Every connection ends at once, for both sides."""
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            if not writer.transport.is_closing():
                # Closed without the polite end: the other side gets RST.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, out = await asyncio.open_connection(*self._behind)
        self._writers += (writer, out)
        for source, target in ((reader, out), (behind, writer)):
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                target.write(data)
                await target.drain()
            await self._flows.wait()  # an end is held back as well
        except ConnectionError:
            pass
        finally:
            target.close()


@asynccontextmanager
async def relay(behind: str) -> AsyncIterator[Relay]:
    made = Relay(behind)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
