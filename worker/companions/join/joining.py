"""Joining: asks an engine what it is, tries it out, and says what worker it makes.

Owns no state but what it was given; the questions are the dialect's, the judgement is
`checklist`'s. A warm engine joins in a second or two.
"""

import asyncio
import datetime
import json
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from radixroute.events.warm import warm
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import RequestError, TokenizerError
from radixroute.request.tokenizer import MODEL_FILE, Tokenizer
from radixroute.worker.companions.dialects import detecting
from radixroute.worker.companions.dialects.common.tokenizing import (
    tokenize,
    tokenize_chat,
    tokens_of,
)
from radixroute.worker.companions.dialects.dialect import Answer, Ask, Dialect, Statement
from radixroute.worker.companions.http.client import EngineAddress, EngineHttp
from radixroute.worker.companions.join.checklist import (
    CHATS,
    TEXTS,
    block_size_of,
    check_counts,
    check_statement,
    check_tokens,
    days_near,
    places_of,
)
from radixroute.worker.companions.join.findings import KEYED, JoinRefused, finding
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.notices import Noticing
from radixroute.worker.companions.join.trying_out import (
    PATIENCE,
    Patience,
    TriedCache,
    TryingOut,
)
from radixroute.worker.companions.join.weights import fingerprint_of
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.engine.engine import EngineInfo
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.25
_COUNT_S: Final = 60.0  # the first step of an engine may compile
NO_STATUS: Final = (0, 502, 503, 504)  # of a server that is not there yet, or not up


class Joining:
    """One engine's way in. Each step raises `JoinRefused`, naming the engine."""

    def __init__(
        self,
        settings: CompanionSettings,
        url: str,
        worker: WorkerSettings,
        tokenizer: Tokenizer | None,
        today: Callable[[], datetime.date] = datetime.date.today,
        patience: Patience = PATIENCE,
    ) -> None:
        self._settings = settings
        self._today = today
        self._patience = patience
        self._address = EngineAddress.of(url)
        self._worker = worker
        self._tokenizer = tokenizer
        self._unwell = ""  # what its last answer about its health was, where that was none
        self._unanswered = detecting.FIRST  # what it was asked then
        self._dialect: Dialect = detecting.dialect_named(settings.dialect, worker.cluster_secret)

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
        while not await self._is_up(http):
            if time.monotonic() > give_up_s:
                raise await self._not_up(http)
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _not_up(self, http: EngineHttp) -> JoinRefused:
        """Why it was given up."""
        if self._unwell:
            return self._refused("ill", self._unwell)
        if await self._is_plain():
            return self._refused("no_tls")
        # Nobody waits so long for who takes no connection.
        most_s = self._patience.late_s + self._settings.connect_timeout_s
        began_s, path = time.monotonic(), self._unanswered.path
        answer = await http.ask(self._unanswered, most_s)
        took_s = time.monotonic() - began_s
        if answer.status and took_s >= self._patience.answer_s:
            return self._refused("late", f"{path} after {took_s:.1f} s")
        if not answer.status and took_s >= most_s:
            return self._refused("stalls", f"{path} has no answer in {most_s:g} s")
        return self._refused("unreachable")

    async def _is_up(self, http: EngineHttp) -> bool:
        """What it speaks is found out on the way."""
        if self._settings.dialect == detecting.AUTO:
            first = await http.ask(detecting.FIRST, self._patience.answer_s)
            if first.status in NO_STATUS:
                return self._is_ill(detecting.FIRST, first)
            answers = {**await _answers(http, detecting.REST), detecting.FIRST.path: first}
            try:
                self._dialect = detecting.dialect_of(answers, self._worker.cluster_secret)
            except JoinRefused as error:
                raise JoinRefused(self._keyed(error).finding, self.url) from error
        asked = self._dialect.health()
        answer = await http.ask(asked, self._patience.answer_s)
        # A refusal says more than that it is down.
        return answer.is_ok or 400 <= answer.status < 500 or self._is_ill(asked, answer)

    def _is_ill(self, asked: Ask, answer: Answer) -> bool:
        """False, and kept for whoever asks why."""
        self._unanswered = asked
        self._unwell = f"{asked.path} answers {answer.status}" if answer.status else ""
        return False

    async def _is_plain(self) -> bool:
        """It was asked over TLS, and answers without."""
        if self._address.scheme != "https":
            return False
        http = EngineHttp(replace(self._address, scheme="http"))  # no key: it would be in the clear
        try:
            return bool((await http.ask(detecting.FIRST)).status)
        finally:
            http.close()

    async def health(self, http: EngineHttp) -> tuple[str, int]:
        """Where it is asked whether it is well, and the status of its answer; 0: there is none."""
        asked = self._dialect.health()
        return asked.path, (await http.ask(asked)).status

    async def lives(self, looks: int) -> tuple[tuple[float, ...], int | None]:
        """When its process began, each time that is told over connections of their own once, and
        the steps that it had made at the last look. It says none of it: no times, and None."""
        began: dict[float, None] = {}
        steps: int | None = None
        for _ in range(looks):
            http = self.http()
            try:
                answer = await http.ask(self._dialect.metrics())
            finally:
                http.close()
            if not answer.is_ok:
                break
            numbers = self._dialect.numbers(answer.body)
            steps = numbers.steps
            if numbers.started_s is not None:
                began[numbers.started_s] = None
        return tuple(began), steps

    async def ask(self, http: EngineHttp) -> Joined:
        """What it is, and whether that can be a worker."""
        try:
            statement = await self.statement(http)
            check_statement(statement, self._settings)
            tokenizer = await self.load_tokenizer(statement)
            await self.compare_tokens(http, tokenizer, statement)
            loop = asyncio.get_running_loop()
            fingerprint, _ = await asyncio.gather(
                loop.run_in_executor(None, self._fingerprint, statement, tokenizer),
                loop.run_in_executor(None, warm),
            )
        except JoinRefused as error:
            raise JoinRefused(error.finding, self.url) from error
        return self.joined(statement, tokenizer, fingerprint)

    def _fingerprint(self, statement: Statement, tokenizer: Tokenizer) -> str:
        """Of the model, as settings have it, or as its files are."""
        settings = self._settings
        given = settings.model or self._worker.model
        return settings.fingerprint or fingerprint_of(statement, given, tokenizer)

    async def statement(self, http: EngineHttp) -> Statement:
        """What it says it is."""
        answers = await _answers(http, self._dialect.questions())
        try:
            return self._dialect.statement(answers, self._address.host)
        except JoinRefused as error:
            raise self._keyed(error) from error

    def _keyed(self, error: JoinRefused) -> JoinRefused:
        """The same; where a key is wanted though one was sent, that it is not the engine's."""
        file = self._settings.api_key_file
        if error.finding.code != "key" or not file:
            return error
        return JoinRefused(finding("key", file, kind=KEYED))

    async def load_tokenizer(self, statement: Statement) -> Tokenizer:
        """The one that was given, else that of the folder that settings or engine name."""
        if self._tokenizer is not None:
            return self._tokenizer
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._load_tokenizer, statement)

    def joined(self, statement: Statement, tokenizer: Tokenizer, fingerprint: str = "") -> Joined:
        """What it is as a worker. `fingerprint`: of its model."""
        places = places_of(statement, self._settings)
        ranks = tuple(place.rank for place in places) or tuple(range(statement.ranks))
        info = replace(
            self._info(statement, tokenizer), ranks=len(ranks), model_fingerprint=fingerprint
        )
        return Joined(
            info=info,
            scope=engine_scope(self._worker, info),
            tokenizer=tokenizer,
            statement=statement,
            dialect=self._dialect,
            places=places,
            ranks=ranks,
            keeps_salts_apart=statement.keeps_salts_apart is True,
        )

    async def try_out(
        self, http: EngineHttp, joined: Joined, caches: Sequence[TriedCache]
    ) -> Joined:
        """What it is known as once it was tried out. `caches`: of its ranks."""
        try:
            trying = TryingOut(self._settings, http, joined, self._patience)
            tried = await trying.run(caches)
        except JoinRefused as error:
            raise JoinRefused(error.finding, self.url) from error
        for notice in Noticing(http, tried).said():
            _log.warning("engine %s joins, but %s", self.url, notice.text)
        return tried

    async def compare_tokens(
        self, http: EngineHttp, tokenizer: Tokenizer, statement: Statement
    ) -> None:
        for number, text in enumerate(TEXTS, 1):
            theirs = tokens_of(await http.ask(tokenize(text, statement.model)))
            if theirs is None:
                await self._compare_counts(http, tokenizer, statement)
                return  # a server that cannot be asked which
            ours = tokenizer.encode(text).tolist()
            check_tokens("tokenizer", number, [ours], theirs, statement.kind)
        for number, chat in enumerate(CHATS, 1):
            messages = [ChatMessage(**message) for message in chat]
            try:
                ours = [
                    tokenizer.encode_chat(messages, today=day) for day in days_near(self._today())
                ]
            except RequestError:
                return  # no template here, or none that takes such a chat
            theirs = tokens_of(await http.ask(tokenize_chat(chat, statement.model)))
            if theirs is not None:
                check_tokens(
                    "template", number, [one.tolist() for one in ours], theirs, statement.kind
                )

    async def _compare_counts(
        self, http: EngineHttp, tokenizer: Tokenizer, statement: Statement
    ) -> None:
        theirs: list[int] = []
        for text in TEXTS:
            asked = self._dialect.count(text, statement.model)
            n = None if asked is None else self._dialect.count_of(await http.ask(asked, _COUNT_S))
            if n is None:
                return  # nor how many
            theirs.append(n)
        check_counts([len(tokenizer.encode(text)) for text in TEXTS], theirs, statement.kind)

    async def takes_chats(self, http: EngineHttp, statement: Statement) -> bool | None:
        """Whether it makes tokens of a chat. None: it cannot be asked for tokens at all."""
        if tokens_of(await http.ask(tokenize(TEXTS[0], statement.model))) is None:
            return None
        return tokens_of(await http.ask(tokenize_chat(CHATS[0], statement.model))) is not None

    def _load_tokenizer(self, statement: Statement) -> Tokenizer:
        folder = self._settings.model or self._worker.model or statement.root
        try:
            return Tokenizer.from_dir(folder)
        except TokenizerError as error:
            raise JoinRefused(finding("folder", str(error), kind=statement.kind)) from error

    def _info(self, statement: Statement, tokenizer: Tokenizer) -> EngineInfo:
        settings, config = self._settings, _config_of(tokenizer)
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
        vocab_size = config.get("vocab_size")
        pool = statement.kv_blocks * max(1, statement.block_size)  # tokens
        return EngineInfo(
            model=self._worker.served_model_name or statement.model,
            block_size=block_size_of(statement, settings),
            max_model_len=settings.max_model_len or statement.max_model_len,
            vocab_size=vocab_size if isinstance(vocab_size, int) else tokenizer.vocab_size,
            eos_token_ids=tokenizer.eos_token_ids,
            model_fingerprint="",
            dtype=dtype,
            device=statement.kind,
            kv_blocks_total=settings.kv_blocks or pool // block_size_of(statement, settings),
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            adapters=statement.adapters,
            kv_dtype=settings.kv_dtype or statement.kv_dtype or dtype,
            max_waiting=settings.max_waiting,
            kind=statement.kind,
            resent_is_prompt=True,
            takes_verbatim=True,
        )

    def _refused(self, code: str, detail: str = "") -> JoinRefused:
        return JoinRefused(finding(code, detail, kind=self._dialect.kind), self.url)


async def _answers(http: EngineHttp, questions: Sequence[Ask]) -> dict[str, Answer]:
    answers = await asyncio.gather(*(http.ask(question) for question in questions))
    return {ask.path: answer for ask, answer in zip(questions, answers, strict=True)}


def _config_of(tokenizer: Tokenizer) -> dict[str, Any]:
    try:
        config = json.loads(tokenizer.files().get(MODEL_FILE, b"{}"))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}
