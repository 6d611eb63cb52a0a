"""What all fake engines share: steps, a prefix cache of physical blocks, a queue, and a fake model.

Tokens are `next_token` of all before them, greedy whatever the seed at temperature 0, so that a
resumed answer is the same anywhere. What it lacks and how it fails is set by attributes. How it is
asked is its subclass's: `_route`, and what to `said` of a run.
"""

import asyncio
import json
import time
from typing import Any

from tests.engines.fake_cache import FakeCache
from tests.engines.fake_chats import FakeChats
from tests.engines.fake_events import FakeEvents
from tests.engines.fake_http import FakeHttp, Reply, Stream
from tests.engines.fake_run import Run
from tests.worker.fakes import VOCAB, make_tokenizer, next_token

MODEL = "fake-model"


class FakeEngine:
    """`start`, then `kill`; a next life takes the ports of the one before."""

    cache_of = FakeCache
    forbidden: tuple[int, ...] = ()  # tokens that its model never draws

    def __init__(self, *, block_size: int = 4, n_blocks: int = 256, **changes: Any) -> None:
        self.block_size, self.n_blocks = block_size, n_blocks
        self.step_s = 0.002
        self.max_num_seqs, self.max_queued = 64, 1 << 30
        self.max_model_len = 1024
        self.dp_size = 1
        self.frees_cancelled = True  # once its client has closed the connection
        self.takes_ranks = True  # else a request for a rank goes where others go
        self.adapters: tuple[str, ...] = ()
        self.api_key = ""
        self.buffer_steps = 10_000
        # What it may lack.
        self.has_events = self.has_replay = self.has_details = self.has_prefix_cache = True
        self.returns_ids = True
        self.tokenize_offset = 0
        # How it fails.
        self.is_storming = False  # 503 to every request
        self.error_after: dict[int, int] = {}  # output tokens -> code; each once
        self.core_is_dead = False
        self.is_held = False  # makes no step
        self.may_have()
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.received: list[dict[str, Any]] = []
        self.request_ids: list[str] = []
        self.headers: list[dict[str, str]] = []  # of those
        self.n_aborted = self.n_steps = self.rejections = 0
        self.cached_told: list[int] = []
        self.started_s = time.time()
        self.cache = self.cache_of(n_blocks, block_size, is_on=self.has_prefix_cache)
        self.tokenizer = make_tokenizer()
        self.chats = FakeChats(self)
        self.rank = 0
        self.ranks: list[Any] = [self]  # all, each with steps, cache and events of its own
        for rank in range(1, self.dp_size):
            given = {**changes, "dp_size": 1, "block_size": block_size, "n_blocks": n_blocks}
            self.ranks.append(type(self)(**given))
            self.ranks[-1].rank = rank
        self._waiting: list[Run] = []
        self._running: list[Run] = []
        self._http = FakeHttp(self._guarded)
        self.events: FakeEvents | None = None
        self._stepping: asyncio.Task[None] | None = None

    def may_have(self) -> None:
        """Attributes of its kind alone."""

    async def start(self, ports: tuple[int, int, int] = (0, 0, 0)) -> str:
        """Its URL."""
        for one in self.ranks:
            if self.has_events:
                one.events = one.make_events(self.ports_of(one.rank, (ports[1], ports[2])))
            one._stepping = asyncio.create_task(one._step_forever())
        port = await self._http.start(ports[0])
        pub, router = self.events.ports if self.events else (0, 0)
        self.ports = port, pub, router
        return f"http://127.0.0.1:{port}"

    def ports_of(self, rank: int, ports: tuple[int, int]) -> tuple[int, int]:
        """Of its events and their replay; 0: any."""
        return ports if rank == 0 else (0, 0)

    def make_events(self, ports: tuple[int, int]) -> FakeEvents:
        return FakeEvents(ports, self.buffer_steps, rank=self.rank)

    def asked_rank(self, asked: Any) -> Any:
        """Who computes a request for that rank; None: the least busy."""
        if asked is None or not self.takes_ranks:
            return min(self.ranks, key=lambda one: (one.in_flight, one.n_steps))
        return self.ranks[int(asked)]

    async def kill(self) -> None:
        """SIGKILL: every connection is reset. Idempotent."""
        await self._http.kill()
        for one in self.ranks:
            if one._stepping is not None and one._stepping.cancel():
                await asyncio.gather(one._stepping, return_exceptions=True)
            elif one._stepping is not None and not one._stepping.cancelled():
                one._stepping.result()  # why it stopped by itself: a fault of the test's
            if one.events is not None:
                one.events.close()
                one.events = None

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return len(self._running) + len(self._waiting)

    # -- the engine

    async def _step_forever(self) -> None:
        while True:
            await asyncio.sleep(self.step_s)
            if not (self.core_is_dead or self.is_held):
                self._step()

    def _step(self) -> None:
        while self._waiting and len(self._running) < self.max_num_seqs and self._admit():
            pass
        if self._running:
            self.n_steps += 1
        for run in list(self._running):
            self._advance(run)
        events = self.cache.take_events()
        if events and self.events is not None:
            self.events.publish(events)

    def _admit(self) -> bool:
        run = self._waiting[0]
        hit = self.cache.match(run.tokens, run.extra)
        self.cache.pin(hit)
        if hit and run.tells_again:
            self.cache.tell_again(run.tokens, len(hit), run.extra)
        n_needed = -(-len(run.tokens) // self.block_size) - len(hit)
        if n_needed > self.cache.room():
            self.cache.release(hit)
            return False
        run.table = [*hit, *[self._block() for _ in range(n_needed)]]
        run.stored = len(hit)
        run.n_cached = len(hit) * self.block_size
        self._running.append(self._waiting.pop(0))
        return True

    def _block(self) -> int:
        block = self.cache.allocate()
        assert block is not None, "the fake's pool is too small for the test"
        return block

    def _advance(self, run: Run) -> None:
        code = self.error_after.pop(run.n_output, None)
        if code is not None:
            self._drop(run)
            run.said.put_nowait(code)
            return
        run.stored = self.cache.store(run.table, run.stored, run.tokens, run.extra)
        ends = run.ends if run.n_output < run.min_tokens else ()
        forbidden = tuple(sorted({*self.forbidden, *ends}))
        token = next_token(run.tokens, run.seed if run.temperature else 0, forbidden=forbidden)
        run.tokens.append(token)
        if len(run.tokens) > len(run.table) * self.block_size:
            run.table.append(self._block())
        finish = "stop" if token in run.ends else None
        if finish is None and run.n_output >= run.max_tokens:
            finish = "length"
        if finish is not None:
            self._drop(run)
        run.said.put_nowait((token, finish))

    def _drop(self, run: Run) -> None:
        if run in self._waiting:
            self._waiting.remove(run)
        if run in self._running:
            self._running.remove(run)
            self.cache.release(run.table)

    # -- HTTP

    async def _guarded(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        is_open = not self.api_key or headers.get("authorization") == f"Bearer {self.api_key}"
        if self.is_guarded(path) and not is_open:
            return Reply(401, {"error": "Unauthorized"})
        try:
            asked = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            return error(400, "BadRequestError", "no JSON")
        reply = self.route(path, headers, asked, body)
        if len(self.received) > len(self.headers):
            self.headers.append(headers)
        return reply

    def is_guarded(self, path: str) -> bool:
        return path.startswith("/v1")

    def route(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], body: bytes
    ) -> Reply:
        raise NotImplementedError

    def models(self, owner: str, **more: Any) -> Reply:
        base = {"id": MODEL, "object": "model", "owned_by": owner, **more}
        own = {**base, "parent": None, "max_model_len": self.max_model_len}
        adapters = [{**base, "id": name, "parent": MODEL} for name in self.adapters]
        return Reply(200, {"object": "list", "data": [own, *adapters]})

    def tokenize(self, body: dict[str, Any]) -> Reply:
        if "prompt" not in body:
            return error(400, "BadRequestError", "no chat template")
        tokens = [
            (token + self.tokenize_offset) % VOCAB
            for token in self.tokenizer.encode(body["prompt"]).tolist()
        ]
        return Reply(200, {"count": len(tokens), "tokens": tokens, "token_strs": None})

    def is_full(self) -> bool:
        """Then it is refused, and that is counted."""
        is_full = self.is_storming or len(self._waiting) >= self.max_queued
        self.rejections += is_full
        return is_full

    def take(self, run: Run) -> Reply:
        self.enqueue(run)
        return Reply(200, Stream(lambda send: self.stream(run, send), lambda: self.gone(run)))

    def enqueue(self, run: Run) -> None:
        self._waiting.append(run)

    async def stream(self, run: Run, send: Any) -> None:
        raise NotImplementedError

    def gone(self, run: Run) -> None:
        """Its client closed the connection, or the answer is over."""
        if self.frees_cancelled:
            self.abort(run)

    def abort(self, run: Run) -> None:
        self.n_aborted += run in self._waiting or run in self._running
        self._drop(run)


def error(code: int, kind: str, message: str) -> Reply:
    said = {"message": message, "type": kind, "param": None, "code": code}
    return Reply(code, {"error": said})
