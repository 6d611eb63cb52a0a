"""A fake vLLM 0.32: its HTTP and its events as noted down from a real one, over a fake model.

Steps, a prefix cache of physical blocks, a queue, replays; tokens are `next_token` of all before
them, greedy whatever the seed at temperature 0, so that a resumed answer is the same anywhere.
What it lacks and how it fails is set by attributes.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.engines.fake_cache import Extra, FakeCache
from tests.engines.fake_events import FakeEvents
from tests.engines.fake_http import FakeHttp, Reply, Stream
from tests.worker.fakes import EOS, VOCAB, make_tokenizer, next_token

MODEL = "fake-model"
CORE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@dataclass(eq=False)
class _Run:
    body: dict[str, Any]
    tokens: list[int]
    n_prompt: int
    extra: Extra
    n_cached: int = 0
    table: list[int] = field(default_factory=list)
    stored: int = 0
    said: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    @property
    def n_output(self) -> int:
        return len(self.tokens) - self.n_prompt


class FakeVllm:
    """`start`, then `kill`; a next life takes the ports of the one before."""

    def __init__(self, *, block_size: int = 4, n_blocks: int = 256, **changes: Any) -> None:
        self.block_size, self.n_blocks = block_size, n_blocks
        self.step_s = 0.002
        self.max_num_seqs, self.max_queued = 64, 1 << 30
        self.max_model_len = 1024
        self.adapters: tuple[str, ...] = ()
        self.api_key = ""
        self.buffer_steps, self.hwm = 10_000, 100_000
        # What it may lack.
        self.has_events = self.has_replay = self.has_details = self.has_prefix_cache = True
        self.says_block_size = self.returns_ids = self.keeps_salts = True
        self.tokenize_offset = 0
        # How it fails.
        self.is_storming = False  # 503 to every request
        self.error_after: dict[int, int] = {}  # output tokens -> code; each once
        self.core_is_dead = False
        self.is_held = False  # makes no step
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.received: list[dict[str, Any]] = []
        self.request_ids: list[str] = []
        self.n_aborted = self.n_steps = self.rejections = 0
        self.cached_told: list[int] = []
        self.started_s = time.time()
        self.cache = FakeCache(n_blocks, block_size, is_on=self.has_prefix_cache)
        self._tokenizer = make_tokenizer()
        self._waiting: list[_Run] = []
        self._running: list[_Run] = []
        self._http = FakeHttp(self._route)
        self.events: FakeEvents | None = None
        self._stepping: asyncio.Task[None] | None = None

    async def start(self, ports: tuple[int, int, int] = (0, 0, 0)) -> str:
        """Its URL."""
        if self.has_events:
            self.events = FakeEvents((ports[1], ports[2]), self.buffer_steps)
        port = await self._http.start(ports[0])
        pub, router = self.events.ports if self.events else (0, 0)
        self.ports = port, pub, router
        self._stepping = asyncio.create_task(self._step_forever())
        return f"http://127.0.0.1:{port}"

    async def kill(self) -> None:
        """SIGKILL: every connection is reset. Idempotent."""
        if self._stepping is not None:
            self._stepping.cancel()
            await asyncio.gather(self._stepping, return_exceptions=True)
        await self._http.kill()
        if self.events is not None:
            self.events.close()
            self.events = None

    def kill_core(self) -> None:
        """Its EngineCore dies: open streams say so, and nothing more is computed."""
        self.core_is_dead = True
        for run in [*self._running, *self._waiting]:
            run.said.put_nowait(500)

    @property
    def running(self) -> int:
        return len(self._running)

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
        events, self.cache.events = self.cache.events, []
        if events and self.events is not None:
            self.events.publish(events)

    def _admit(self) -> bool:
        run = self._waiting[0]
        hit = self.cache.match(run.tokens, run.extra)
        self.cache.pin(hit)
        if hit and run.body.get("vllm_xargs", {}).get("kv_cache_report_mode") == "full":
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

    def _advance(self, run: _Run) -> None:
        code = self.error_after.pop(run.n_output, None)
        if code is not None:
            self._drop(run)
            run.said.put_nowait(code)
            return
        run.stored = self.cache.store(run.table, run.stored, run.tokens, run.extra)
        body = run.body
        ends = {*body["stop_token_ids"], *(() if body["ignore_eos"] else (EOS,))}
        forbidden = ends if run.n_output < body["min_tokens"] else ()
        seed = body["seed"] if body["temperature"] else 0
        token = next_token(run.tokens, seed, forbidden=tuple(sorted(forbidden)))
        run.tokens.append(token)
        if len(run.tokens) > len(run.table) * self.block_size:
            run.table.append(self._block())
        finish = "stop" if token in ends else None
        if finish is None and run.n_output >= body["max_tokens"]:
            finish = "length"
        if finish is not None:
            self._drop(run)
        run.said.put_nowait((token, finish))

    def _drop(self, run: _Run) -> None:
        if run in self._waiting:
            self._waiting.remove(run)
        if run in self._running:
            self._running.remove(run)
            self.cache.release(run.table)

    # -- HTTP

    async def _route(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        is_open = not self.api_key or headers.get("authorization") == f"Bearer {self.api_key}"
        if path.startswith("/v1") and not is_open:
            return Reply(401, {"error": "Unauthorized"})
        asked = json.loads(body) if body else {}
        routes = {
            "/health": lambda: Reply(503 if self.core_is_dead else 200, b""),
            "/version": lambda: Reply(200, {"version": "0.32.0"}),
            "/v1/models": lambda: Reply(200, {"object": "list", "data": self._models()}),
            "/metrics": lambda: Reply(200, self._metrics().encode()),
            "/kv_event_sources": lambda: Reply(200, self._sources()),
            "/tokenize": lambda: self._tokenize(asked),
            "/v1/completions": lambda: self._complete(asked, headers),
        }
        return routes.get(path, lambda: _error(404, "NotFoundError", "Not Found"))()

    def _models(self) -> list[dict[str, Any]]:
        base = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": f"/models/{MODEL}"}
        own = {**base, "parent": None, "max_model_len": self.max_model_len}
        return [own, *({**base, "id": name, "parent": MODEL} for name in self.adapters)]

    def _metrics(self) -> str:
        label = f'engine="0",model_name="{MODEL}"'
        size = f'block_size="{self.block_size}",' if self.says_block_size else ""
        info = f'{size}cache_dtype="auto",num_gpu_blocks="{self.n_blocks + 1}"'
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{label}}} {float(len(self._running))}",
            f"vllm:num_requests_waiting{{{label}}} {float(len(self._waiting))}",
            f"vllm:kv_cache_usage_perc{{{label}}} {self.cache.pinned / self.n_blocks}",
            f"vllm:iteration_tokens_total_count{{{label}}} {float(self.n_steps)}",
            f"vllm:cache_config_info{{{info}}} 1.0",
            f"process_start_time_seconds {self.started_s!r}",
        ]
        return "\n".join(lines) + "\n"

    def _sources(self) -> dict[str, Any]:
        if self.events is None:
            return {}
        pub, router = self.events.ports
        replay = {"replay_endpoint": f"tcp://*:{router}"} if self.has_replay else {}
        return {
            "0": {"enable_kv_cache_events": True, "publisher": "zmq", "topic": "kv-events"}
            | {"endpoint": f"tcp://*:{pub}", "hwm": self.hwm, "max_queue_size": 100_000, **replay}
            | {"buffer_steps": self.buffer_steps}
        }

    def _tokenize(self, body: dict[str, Any]) -> Reply:
        if "prompt" not in body:
            return _error(400, "BadRequestError", "no chat template")
        tokens = [
            (token + self.tokenize_offset) % VOCAB
            for token in self._tokenizer.encode(body["prompt"]).tolist()
        ]
        return Reply(200, {"count": len(tokens), "tokens": tokens, "token_strs": None})

    def _complete(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        self.received.append(body)
        self.request_ids.append(headers.get("x-request-id", ""))
        if self.is_storming or len(self._waiting) >= self.max_queued:
            self.rejections += 1
            return _error(503, "ServiceUnavailableError", "Service Unavailable")
        if self.core_is_dead:
            return _error(500, "InternalServerError", CORE_DEAD)
        if body["model"] not in (MODEL, *self.adapters):
            return _error(404, "NotFoundError", "The model does not exist.")
        prompt, lora = body["prompt"], body["model"] if body["model"] != MODEL else ""
        if len(prompt) + body["max_tokens"] > self.max_model_len or not body["seed"] >= -(2**63):
            return _error(400, "BadRequestError", "This model's maximum context length is less.")
        if not body["temperature"] >= 0 or body["seed"] >= 2**63:
            return _error(400, "BadRequestError", "out of range")
        salt = body.get("cache_salt", "") if self.keeps_salts else ""
        run = _Run(body, list(prompt), len(prompt), Extra(lora, salt))
        self._waiting.append(run)
        return Reply(200, Stream(lambda send: self._stream(run, send), lambda: self._gone(run)))

    def _gone(self, run: _Run) -> None:
        self.n_aborted += run in self._waiting or run in self._running
        self._drop(run)

    async def _stream(self, run: _Run, send: Any) -> None:
        finish, is_first = None, True
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                kind = "BadRequestError" if said < 500 else "InternalServerError"
                error = {"message": CORE_DEAD, "type": kind, "param": None, "code": said}
                await send({"error": error})
                break
            token, finish = said
            choice = {"index": 0, "text": "?", "logprobs": None, "finish_reason": finish}
            n_top = run.body.get("logprobs")
            if n_top is not None:
                # A token is as likely as its number is low; the chosen one comes on top.
                named = {f"token_id:{i}": -float(i + 1) for i in [*range(n_top), token]}
                choice["logprobs"] = {
                    "token_logprobs": [-float(token + 1)],
                    "top_logprobs": [named],
                }
            choice |= {"stop_reason": None, "prompt_token_ids": None}
            choice["token_ids"] = [token] if self.returns_ids else None
            if is_first and self.returns_ids:
                choice["prompt_token_ids"] = run.body["prompt"]
            is_first = False
            await send({"id": "cmpl-x", "object": "text_completion", "choices": [choice]})
        if finish is not None:
            self.cached_told.append(run.n_cached)
            details = {"cached_tokens": run.n_cached} if self.has_details else None
            usage: dict[str, Any] = {
                "prompt_tokens": run.n_prompt,
                "completion_tokens": run.n_output,
            }
            usage |= {"prompt_tokens_details": details}
            await send({"id": "cmpl-x", "choices": [], "usage": usage})
        await send(None)


def _error(code: int, kind: str, message: str) -> Reply:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Reply(code, {"error": error})
