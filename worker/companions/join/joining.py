"""Joining: asks an engine what it is, tries it out, and says what worker it makes.

Owns no state but what it was given; the questions are the dialect's, the judgement is
`checklist`'s. A warm engine joins in a second or two.
"""

import asyncio
import hashlib
import json
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

import numpy as np

from radixroute.events.warm import warm
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import RequestError, TokenizerError
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.tokenizer import MODEL_FILE, Tokenizer
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Dialect,
    EventPlace,
    Heard,
    Statement,
)
from radixroute.worker.companions.dialects.vllm import VllmDialect
from radixroute.worker.companions.http_client import EngineAddress, EngineHttp
from radixroute.worker.companions.join.checklist import (
    CHATS,
    TEXTS,
    Trial,
    canary_prompt,
    check_statement,
    check_tokens,
    check_trial,
    places_of,
)
from radixroute.worker.companions.join.findings import JoinRefused, finding
from radixroute.worker.companions.listening import Listening
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.engine.engine import EngineInfo, EngineRequest
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings

_ASK_AGAIN_S: Final = 0.25
_REPLAY_S: Final = 3.0  # vLLM looks for questions each 100 ms
_HEARD_S: Final = 2.0  # events of a step follow it
_CANARY_S: Final = 60.0  # the first step of an engine may compile
_POLL_S: Final = 0.01
_FINGERPRINT_BYTES: Final = 16
_NO_TOKENS: Final = np.empty(0, np.uint32)


class Followed(Protocol):
    """What is known of an engine's event link."""

    is_begun: bool
    has_replay: bool
    batches: int


class Mirrored(Protocol):
    """What an engine holds by its events."""

    def cached_tokens(self, tokens: Any, scope: Any) -> int: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """What is known of an engine that passed."""

    info: EngineInfo
    scope: Scope
    tokenizer: Tokenizer
    statement: Statement
    dialect: Dialect
    place: EventPlace | None  # of its events; None: they are not followed


class Joining:
    """One engine's way in. Each step raises `JoinRefused`, naming the engine."""

    def __init__(
        self,
        settings: CompanionSettings,
        url: str,
        worker: WorkerSettings,
        tokenizer: Tokenizer | None,
    ) -> None:
        self._settings = settings
        self._address = EngineAddress.of(url)
        self._worker = worker
        self._tokenizer = tokenizer
        self._dialect: Dialect = VllmDialect(worker.cluster_secret)

    @property
    def url(self) -> str:
        return self._address.url

    def http(self) -> EngineHttp:
        settings = self._settings
        key = ""
        if settings.api_key_file:
            try:
                key = Path(settings.api_key_file).read_text().strip()
            except OSError as error:
                raise self._refused("key", str(error.strerror)) from error
        tls = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None
        return EngineHttp(
            self._address, key=key, tls=tls, connect_timeout_s=settings.connect_timeout_s
        )

    async def await_engine(self, http: EngineHttp) -> None:
        """Until it answers that it is well: it may still load its model."""
        give_up_s = time.monotonic() + self._settings.start_timeout_s
        while not (await http.ask(self._dialect.health())).is_ok:
            if time.monotonic() > give_up_s:
                raise self._refused("unreachable")
            await asyncio.sleep(_ASK_AGAIN_S)

    async def health_status(self, http: EngineHttp) -> int:
        """Of the answer whether it is well; 0: there is none."""
        return (await http.ask(self._dialect.health())).status

    async def ask(self, http: EngineHttp) -> Joined:
        """What it is, and whether that can be a worker."""
        try:
            statement = await self.statement(http)
            check_statement(statement, self._settings)
            tokenizer = await self.load_tokenizer(statement)
            await self.compare_tokens(http, tokenizer, statement)
            await asyncio.get_running_loop().run_in_executor(None, warm)
        except JoinRefused as error:
            raise JoinRefused(error.finding, self.url) from error
        return self.joined(statement, tokenizer)

    async def statement(self, http: EngineHttp) -> Statement:
        """What it says it is."""
        questions = self._dialect.questions()
        answers = await asyncio.gather(*(http.ask(question) for question in questions))
        by_path = {ask.path: answer for ask, answer in zip(questions, answers, strict=True)}
        return self._dialect.statement(by_path, self._address.host)

    async def load_tokenizer(self, statement: Statement) -> Tokenizer:
        """The one that was given, else that of the folder that settings or engine name."""
        if self._tokenizer is not None:
            return self._tokenizer
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._load_tokenizer, statement)

    def joined(self, statement: Statement, tokenizer: Tokenizer) -> Joined:
        """What it is as a worker."""
        info = self._info(statement, tokenizer)
        places = places_of(statement, self._settings)
        return Joined(
            info=info,
            scope=engine_scope(self._worker, info),
            tokenizer=tokenizer,
            statement=statement,
            dialect=self._dialect,
            place=places[0] if len(places) == 1 else None,
        )

    async def try_out(
        self, http: EngineHttp, joined: Joined, mirror: Mirrored, follower: Followed | None
    ) -> None:
        """A prompt of a few blocks, twice: it must be cached, and events must say so."""
        if follower is not None:
            await _until(lambda: follower.is_begun, _REPLAY_S)
            if not follower.has_replay and not self._settings.allow_no_replay:
                raise self._refused("replay")
        info = joined.info
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len)
        ends = [await self.send_canary(http, joined, prompt) for _ in range(2)]
        try:
            check_trial(_trial(ends), self._settings, info.block_size)
        except JoinRefused as error:
            raise JoinRefused(error.finding, self.url) from error
        if follower is None:
            return
        wanted = (len(prompt) - 1) // info.block_size * info.block_size
        if not await _until(lambda: mirror.cached_tokens(prompt, UNSCOPED) >= wanted, _HEARD_S):
            if self._settings.allow_no_events:
                return
            raise self._refused("events_differ" if follower.batches else "events_silent")

    async def send_canary(
        self, http: EngineHttp, joined: Joined, prompt: Tokens, scope: RequestScope = UNSCOPED
    ) -> list[Heard]:
        """One token after this prompt: all that was heard, in some time."""
        sampling = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
        call_id = f"rr-canary-{time.monotonic_ns():x}"
        request = EngineRequest(call_id, 0, "", prompt, sampling, _NO_TOKENS, scope=scope)
        heard: list[Heard] = []
        is_over = asyncio.Event()

        def hear(one: Heard) -> None:
            heard.append(one)
            if one.finish is not None:
                is_over.set()

        ask = joined.dialect.call(request, call_id, joined.statement.model)
        exchange = http.send(ask, Listening(joined.dialect, hear))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CANARY_S):
                    await is_over.wait()
        finally:
            exchange.cancel()
        return heard

    async def compare_tokens(
        self, http: EngineHttp, tokenizer: Tokenizer, statement: Statement
    ) -> None:
        for number, text in enumerate(TEXTS, 1):
            theirs = await self._tokens(http.ask(self._dialect.tokenize(text, statement.model)))
            if theirs is None:
                return  # a server that cannot be asked
            check_tokens("tokenizer", number, tokenizer.encode(text).tolist(), theirs)
        for number, chat in enumerate(CHATS, 1):
            try:
                ours = tokenizer.encode_chat([ChatMessage(**message) for message in chat])
            except RequestError:
                return  # no template here, or none that takes such a chat
            asked = self._dialect.tokenize_chat(chat, statement.model)
            theirs = await self._tokens(http.ask(asked))
            if theirs is not None:
                check_tokens("template", number, ours.tolist(), theirs)

    async def takes_chats(self, http: EngineHttp, statement: Statement) -> bool | None:
        """Whether it makes tokens of a chat. None: it cannot be asked for tokens at all."""
        if await self._tokens(http.ask(self._dialect.tokenize(TEXTS[0], statement.model))) is None:
            return None
        asked = self._dialect.tokenize_chat(CHATS[0], statement.model)
        return await self._tokens(http.ask(asked)) is not None

    async def _tokens(self, asking: Any) -> list[int] | None:
        answer: Answer = await asking
        return self._dialect.tokens_of(answer)

    def _load_tokenizer(self, statement: Statement) -> Tokenizer:
        folder = self._settings.model or self._worker.model or statement.root
        try:
            return Tokenizer.from_dir(folder)
        except TokenizerError as error:
            raise JoinRefused(finding("folder", str(error))) from error

    def _info(self, statement: Statement, tokenizer: Tokenizer) -> EngineInfo:
        settings, config = self._settings, _config_of(tokenizer)
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
        vocab_size = config.get("vocab_size")
        return EngineInfo(
            model=self._worker.served_model_name or statement.model,
            block_size=statement.block_size or settings.block_size,
            max_model_len=statement.max_model_len,
            vocab_size=vocab_size if isinstance(vocab_size, int) else tokenizer.vocab_size,
            eos_token_ids=tokenizer.eos_token_ids,
            model_fingerprint=settings.fingerprint or _fingerprint(statement, tokenizer),
            dtype=dtype,
            device=statement.kind,
            kv_blocks_total=settings.kv_blocks or statement.kv_blocks,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            adapters=statement.adapters,
            kv_dtype=settings.kv_dtype or statement.kv_dtype or dtype,
            max_waiting=settings.max_waiting,
            kind=statement.kind,
            resent_is_prompt=True,
        )

    def _refused(self, code: str, detail: str = "") -> JoinRefused:
        return JoinRefused(finding(code, detail), self.url)


def _trial(ends: list[list[Heard]]) -> Trial:
    whole = (FinishReason.LENGTH, FinishReason.STOP)
    lasts = [heard[-1] if heard else Heard() for heard in ends]
    return Trial(
        has_ended=all(last.finish in whole for last in lasts),
        has_token_ids=all(any(one.token_ids for one in heard) for heard in ends),
        first_cached=lasts[0].cached_tokens,
        second_cached=lasts[-1].cached_tokens,
    )


async def _until(holds: Any, timeout_s: float) -> bool:
    give_up_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > give_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _config_of(tokenizer: Tokenizer) -> dict[str, Any]:
    try:
        config = json.loads(tokenizer.files().get(MODEL_FILE, b"{}"))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _fingerprint(statement: Statement, tokenizer: Tokenizer) -> str:
    """Of the model's name and files; its weights are read by nobody here."""
    digest = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES, person=b"rr-named-model")
    name = PurePosixPath(statement.root or statement.model).name
    for part in (name.encode(), tokenizer.fingerprint.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
