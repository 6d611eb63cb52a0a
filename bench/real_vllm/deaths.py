"""Deaths under greedy streams: what ends, and whether the answers are those without a death.

Two engines, or one engine in another batch, may part where two tokens are nearly as likely: the
first difference of a stream is held against the engine's own log probabilities, and a near-tie is
printed and not counted.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.load import Load, LoadSettings, prompt_text
from bench.chaos.verdicts import Expected, Heard, Verdict, judge
from bench.real_vllm.server import NAME, RealVllm, post

NEAR = 1e-3  # in log probability, float32 on both sides
LOAD = LoadSettings(streams=16, tokens=64, prompts=11)
UNDER_WAY = 12  # streams with output when the death comes
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Fates:
    """Streams by how they ended; near-ties in words."""

    whole: int
    near_ties: tuple[str, ...]
    wrong: tuple[str, ...]
    longest_pause_s: float

    @property
    def is_sound(self) -> bool:
        return not self.wrong and self.whole > 0


@dataclass(eq=False)
class DeathWatch:
    """Streams through one router; `judge_of` is the engine that is asked about near-ties."""

    address: str
    judge_of: RealVllm
    expected: list[Expected] = field(default_factory=list)

    async def learn(self) -> None:
        """The answers without a death."""
        self.expected = await Load(self.address, LOAD).answers()

    async def under(self, death: Callable[[], object]) -> Fates:
        """`death` comes once streams have output; it may block."""
        load = Load(self.address, LOAD)
        is_over = asyncio.Event()

        async def kill() -> None:
            while load.n_running < UNDER_WAY:  # noqa: ASYNC110 - the load tells nobody
                await asyncio.sleep(POLL_S)
            await asyncio.to_thread(death)
            is_over.set()  # what runs ends; nothing new begins

        async with asyncio.TaskGroup() as tasks:
            streams = tasks.create_task(load.run(is_over.is_set, random.Random(1)))
            tasks.create_task(kill())
        return self.fates(streams.result())

    def fates(self, streams: Sequence[Heard]) -> Fates:
        whole, ties, wrong = 0, list[str](), list[str]()
        for heard in streams:
            expected = self.expected[heard.prompt]
            verdict = judge(heard, expected)
            if verdict is Verdict.WHOLE:
                whole += 1
            elif verdict is Verdict.DIFFERENT and (tie := self._near_tie(heard, expected)):
                ties.append(tie)
            else:
                wrong.append(f"{verdict}: {heard.error or 'no error was told'}")
        pause_s = max((heard.longest_pause_s for heard in streams), default=0.0)
        return Fates(whole, tuple(ties), tuple(wrong), pause_s)

    def _near_tie(self, heard: Heard, expected: Expected) -> str:
        """In words, if the first difference is one; empty: it is not."""
        got = [token for piece in heard.pieces for token in piece.token_ids]
        if heard.error or not heard.is_finished or len(got) != len(expected.token_ids):
            return ""
        at = next(i for i, token in enumerate(got) if token != expected.token_ids[i])
        before = [*self._prompt(heard.prompt), *got[:at]]
        body = {"model": NAME, "prompt": before, "max_tokens": 1, "temperature": 0, "logprobs": 5}
        body["return_tokens_as_token_ids"] = True
        answer = self._ask("/v1/completions", body)
        top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        gap = abs(
            top.get(f"token_id:{got[at]}", -1e9)
            - top.get(f"token_id:{expected.token_ids[at]}", -1e9)
        )
        if gap > NEAR:
            return ""
        return f"story {heard.prompt}, token {at}: {gap:.1e} apart in log probability"

    def _prompt(self, prompt: int) -> list[int]:
        asked = {"model": NAME, "prompt": prompt_text(prompt)}
        found: list[int] = self._ask("/tokenize", asked)["tokens"]
        return found

    def _ask(self, path: str, body: Mapping[str, object]) -> Any:
        return json.loads(post(f"{self.judge_of.url}{path}", body))
