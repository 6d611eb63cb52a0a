"""Prompt threads: where a prompt is rendered and tokenised, so that no stream stalls behind one.

Owns the threads, and the processes that read giant prompts (`giants`), which have threads of their
own: others do not wait behind them either. Short prompts are read in the loop.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from msgspec.structs import replace

from radixroute.radix.ids import Tokens
from radixroute.request.pacing import Abandoned
from radixroute.router.api.asked import Asked
from radixroute.router.api.giants.forms import Reading
from radixroute.router.api.giants.readers import GIANT_BYTES, GiantReaders

# Some 2,000 characters tokenise in under a millisecond; a thread's hand-over costs a tenth of that.
INLINE_BYTES: Final = 2048
INLINE_IDS_BYTES: Final = 256 * 1024  # 64k token ids are hashed in a fifth of a millisecond
MESSAGE_BYTES: Final = 64  # what a message costs beside its content
THREADS: Final = 2  # of either kind
# Of a smaller one all that holds the interpreter takes half a millisecond together: encoding lets
# go of it. A pause costs a tenth of one.
PAUSED_BYTES: Final = 16 * 1024
PAUSE_S: Final = 50e-6  # enough to hand the interpreter over: a sleep of zero takes it back at once

Made = TypeVar("Made")


class Pacer:
    """The `pause` of one prompt on a thread: the loop has its turn; ends work nobody wants."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._is_wanted = True

    @property
    def is_wanted(self) -> bool:
        return self._is_wanted

    def give_up(self) -> None:
        self._is_wanted = False

    def __call__(self) -> None:
        if not self._is_wanted:
            raise Abandoned
        if self._pause_s:
            time.sleep(self._pause_s)


class PromptThreads:
    """Of one router."""

    def __init__(self, memo_bytes: int, memo_idle_s: float) -> None:
        """What each reader of giant prompts may remember of them, and for how long."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prompt")
        self._giants = ThreadPoolExecutor(THREADS, thread_name_prefix="giant prompt")
        self.giant_readers = GiantReaders(memo_bytes, memo_idle_s)

    def close(self) -> None:
        self.giant_readers.close()
        for threads in (self._threads, self._giants):
            threads.shutdown(wait=False, cancel_futures=True)

    async def read(
        self, asked: Asked, reading: Reading, root: bytes, made: Callable[[Tokens], Made]
    ) -> Made:
        """What `made` makes of its tokens, where both take no longer than they may.

        `root`: of the names of a giant's pieces. Raises what reading and `made` raise.
        """
        threads = self._threads_for(asked)
        if threads is None:
            return made(asked.tokens(reading))
        loop = asyncio.get_running_loop()
        pacer = Pacer(PAUSE_S if _work(asked) > PAUSED_BYTES else 0.0)
        reading = replace(reading, pause=pacer)
        try:
            return await loop.run_in_executor(
                threads, self._beside, asked, reading, root, pacer, made
            )
        finally:
            pacer.give_up()

    def _beside(
        self,
        asked: Asked,
        reading: Reading,
        root: bytes,
        pacer: Pacer,
        made: Callable[[Tokens], Made],
    ) -> Made:
        """On a thread."""
        giant = asked.giant
        if giant is None:
            return made(asked.tokens(reading))
        tokens = self.giant_readers.read(
            giant,
            reading.tokenizer,
            reading.limits,
            lambda: pacer.is_wanted,
            root,
            reading.today,
        )
        return made(tokens)

    def _threads_for(self, asked: Asked) -> ThreadPoolExecutor | None:
        """None: it takes less time than handing it over."""
        if not asked.is_text:
            return None if asked.n_bytes <= INLINE_IDS_BYTES else self._threads
        work = _work(asked)
        if work <= INLINE_BYTES:
            return None
        return self._threads if work <= GIANT_BYTES else self._giants


def _work(asked: Asked) -> int:
    """Bytes that it comes to."""
    return asked.n_bytes + asked.n_messages * MESSAGE_BYTES
