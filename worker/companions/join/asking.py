"""Asking: one request to an engine that is being looked at, heard to its end or not for long.

Owns the call for as long as it lasts: a call that is given up is cancelled. Called by whoever tries
an engine out.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.sampling import SamplingParams
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.listening import Listening
from radixroute.worker.engine.engine import EngineRequest

_NO_TOKENS: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Canary:
    """What is asked. `told`: how many likely tokens come beside each; None: none."""

    prompt: Tokens
    sampling: SamplingParams
    rank: int | None
    scope: RequestScope = UNSCOPED
    told: int | None = None


async def heard_out(
    http: EngineHttp,
    joined: Joined,
    canary: Canary,
    hear: Callable[[Heard], None],
    most_s: float,
    refusal: Callable[[int, bytes], Heard] | None = None,
) -> None:
    """Ask, and `hear` all of the answer until its end, for `most_s` seconds at most.

    `refusal` reads a bad status, instead of the dialect.
    """
    call_id = f"rr-canary-{time.monotonic_ns():x}"
    request = EngineRequest(
        call_id, 0, "", canary.prompt, canary.sampling, _NO_TOKENS, scope=canary.scope
    )
    dialect, is_over = joined.dialect, asyncio.Event()

    def hear_one(one: Heard) -> None:
        hear(one)
        if one.finish is not None:
            is_over.set()

    ask = dialect.call(request, call_id, joined.statement.model, rank=canary.rank)
    reader = dialect.reader() if canary.told is None else dialect.reader(canary.told)
    exchange = http.send(ask, Listening(reader, refusal or dialect.refusal, hear_one))
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await is_over.wait()
    finally:
        exchange.cancel()
