"""Load: streams through the client library, as many at once as asked, one after the other.

Owns the prompts and what each client saw. One event loop.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.chaos.verdicts import Expected, Heard, Piece
from radixroute.answer import RawText
from radixroute.client import AsyncRouterClient
from radixroute.errors import FrontDoorError
from radixroute.request.limits import PartialSampling

TIMEOUT_S = 300.0  # of one answer
FLOWS_S = 1.0  # since its last message, of a stream that nothing holds up
HUNG_S = 150.0  # without a message: more than twice what the client waits for a router


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How much is asked."""

    streams: int = 64  # at once
    tokens: int = 200  # of an answer
    prompts: int = 11


def prompt_text(prompt: int) -> str:
    return f"Story {prompt}: " + "once upon a time there was a router. " * 4


class Load:
    """Clients of one router."""

    def __init__(self, address: str, settings: LoadSettings) -> None:
        self._address = address
        self._settings = settings
        self.n_begun = 0
        self.n_running = 0  # streams whose first message has come
        self._open: dict[int, Heard] = {}

    @property
    def is_flowing(self) -> bool:
        """Nobody waits any more for what a fault held up."""
        now_s = time.monotonic()
        return all(now_s - heard.moments[-1] < FLOWS_S for heard in self._open.values())

    async def answers(self) -> list[Expected]:
        """Of every prompt, without faults. Raises what the client raises."""
        found = []
        async with AsyncRouterClient(self._address, timeout_s=TIMEOUT_S) as client:
            for prompt in range(self._settings.prompts):
                heard = await self._stream(client, prompt)
                if not heard.is_finished:
                    raise SystemExit(f"no answer without faults: {heard.error or 'it hung'}")
                ids = [i for piece in heard.pieces for i in piece.token_ids]
                found.append(Expected(tuple(ids), "".join(p.text for p in heard.pieces)))
        return found

    async def run(self, is_over: Callable[[], bool], rng: random.Random) -> list[Heard]:
        """Streams until then."""
        heard: list[Heard] = []

        async def client_of_many() -> None:
            async with AsyncRouterClient(self._address, timeout_s=TIMEOUT_S) as client:
                while not is_over():
                    self.n_begun += 1
                    heard.append(await self._stream(client, rng.randrange(self._settings.prompts)))

        async with asyncio.TaskGroup() as clients:
            for _ in range(self._settings.streams):
                clients.create_task(client_of_many())
        return heard

    async def _stream(self, client: AsyncRouterClient, prompt: int) -> Heard:
        heard = Heard(prompt)
        sampling = PartialSampling(
            temperature=0.0, max_tokens=self._settings.tokens, ignore_eos=True
        )
        stream = client.generate(RawText(prompt_text(prompt)), sampling)
        heard.moments.append(time.monotonic())
        self._open[id(heard)] = heard
        try:
            while True:
                async with asyncio.timeout(HUNG_S):
                    delta = await anext(stream, None)
                if delta is None:
                    break
                heard.moments.append(time.monotonic())
                self.n_running += not heard.pieces
                heard.pieces.append(Piece(delta.position, delta.token_ids, delta.text))
                heard.is_finished = delta.finish is not None
        except TimeoutError:
            heard.is_hung = True
        except FrontDoorError as error:
            heard.error = str(error)
        finally:
            heard.moments.append(time.monotonic())
            self.n_running -= bool(heard.pieces)
            del self._open[id(heard)]
            await stream.aclose()
        return heard
