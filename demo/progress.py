"""Progress: whether anything still comes from the router, for any of the requests of a run.

Owns when that was last so. A busy machine may take minutes to answer one request while others go
on: what ends a request is that nothing came for anybody, not how long it took itself.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

from radixroute.demo.errors import AskFailed

T = TypeVar("T")

# Without a single token for any request. A cold step of a worker that shares two cores with a
# compiler took half a minute; nothing that goes on takes this long.
STALL_S = 180.0


class Progress:
    """Of one run. One event loop, whose time it goes by."""

    def __init__(self, stall_s: float = STALL_S) -> None:
        self._stall_s = stall_s
        self._last_s = 0.0  # when anything came last

    async def watched(self, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The same pieces. Raises `AskFailed` once nothing came for too long, here or elsewhere."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        coming: asyncio.Future[T] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(pieces))
                while not coming.done():
                    left_s = max(asked_s, self._last_s) + self._stall_s - loop.time()
                    if left_s <= 0:
                        raise AskFailed(
                            f"no token came for {self._stall_s:.0f} s, for this or any other"
                            " request: the router or its workers hang"
                        )
                    await asyncio.wait({coming}, timeout=left_s)
                try:
                    piece = coming.result()
                except StopAsyncIteration:
                    return
                self._last_s = loop.time()
                yield piece
        finally:
            if coming is not None and not coming.done():
                coming.cancel()
                await asyncio.wait({coming})
            await pieces.aclose()
