"""A fake vLLM 0.32: its HTTP and its events as noted down from a real one, over a fake model."""

from typing import Any

from tests.engines.fake_cache import Extra
from tests.engines.fake_engine import MODEL, FakeEngine, error
from tests.engines.fake_http import Reply
from tests.engines.fake_run import Run
from tests.worker.fakes import EOS

CORE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class FakeVllm(FakeEngine):
    def may_have(self) -> None:
        self.says_block_size = self.keeps_salts = self.says_places = True
        self.hwm = 100_000
        self.root = f"/models/{MODEL}"
        self.says_ranks = True  # where the events of each are

    def kill_core(self) -> None:
        """Its EngineCore dies: open streams say so, and nothing more is computed."""
        self.core_is_dead = True
        for run in [*self._running, *self._waiting]:
            run.said.put_nowait(500)

    def route(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], body: bytes
    ) -> Reply:
        routes = {
            "/health": lambda: Reply(503 if self.core_is_dead else 200, b""),
            "/version": lambda: Reply(200, {"version": "0.32.0"}),
            "/v1/models": lambda: self.models("vllm", root=self.root),
            "/metrics": lambda: Reply(200, self._metrics().encode()),
            "/kv_event_sources": lambda: (
                Reply(200, self._sources())
                if self.says_places
                else error(404, "NotFoundError", "Not Found")
            ),
            "/tokenize": lambda: (
                self.tokenize(asked)
                if "prompt" in asked
                else self.chats.render("/tokenize", asked, body)
            ),
            "/v1/chat/completions": lambda: self.chats.reply(asked, headers, body),
            "/v1/chat/completions/render": lambda: self.chats.render("/render", asked, body),
            "/v1/completions": lambda: (
                self.asked_rank(headers.get("x-data-parallel-rank"))._complete(asked, headers)
                if "stop_token_ids" in asked
                else self.chats.reply(asked, headers, body)  # as a client wrote it
            ),
        }
        return routes.get(path, lambda: error(404, "NotFoundError", "Not Found"))()

    def _metrics(self) -> str:
        lines = ["# TYPE vllm:num_requests_running gauge"]
        blocks = sum(one.n_blocks + 1 for one in self.ranks)  # each page says it of all
        for one in self.ranks:
            lines += one._rank_metrics(blocks)
        lines.append(f"process_start_time_seconds {self.started_s!r}")
        return "\n".join(lines) + "\n"

    def _rank_metrics(self, blocks: int) -> list[str]:
        label = f'engine="{self.rank}",model_name="{MODEL}"'
        size = f'block_size="{self.block_size}",' if self.says_block_size else ""
        info = f'{size}cache_dtype="auto",num_gpu_blocks="{blocks}"'
        return [
            f"vllm:num_requests_running{{{label}}} {float(self.running)}",
            f"vllm:num_requests_waiting{{{label}}} {float(self.waiting)}",
            f"vllm:kv_cache_usage_perc{{{label}}} {self.cache.pinned / self.n_blocks}",
            f"vllm:iteration_tokens_total_count{{{label}}} {float(self.n_steps)}",
            f"vllm:cache_config_info{{{info}}} 1.0",
        ]

    def _sources(self) -> dict[str, Any]:
        told = self.ranks if self.says_ranks else self.ranks[:1]
        return {str(one.rank): one._source() for one in told if one.events is not None}

    def _source(self) -> dict[str, Any]:
        assert self.events is not None
        pub, router = self.events.ports
        replay = {"replay_endpoint": f"tcp://*:{router}"} if self.has_replay else {}
        return (
            {"enable_kv_cache_events": True, "publisher": "zmq", "topic": "kv-events"}
            | {"endpoint": f"tcp://*:{pub}", "hwm": self.hwm, "max_queue_size": 100_000, **replay}
            | {"buffer_steps": self.buffer_steps}
        )

    def _complete(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        self.received.append(body)
        self.request_ids.append(headers.get("x-request-id", ""))
        if self.is_full():
            return error(503, "ServiceUnavailableError", "Service Unavailable")
        if self.core_is_dead:
            return error(500, "InternalServerError", CORE_DEAD)
        if body["model"] not in (MODEL, *self.adapters):
            return error(404, "NotFoundError", "The model does not exist.")
        prompt, lora = body["prompt"], body["model"] if body["model"] != MODEL else ""
        if len(prompt) + body["max_tokens"] > self.max_model_len or not body["seed"] >= -(2**63):
            return error(400, "BadRequestError", "This model's maximum context length is less.")
        if not body["temperature"] >= 0 or body["seed"] >= 2**63:
            return error(400, "BadRequestError", "out of range")
        salt = body.get("cache_salt", "") if self.keeps_salts else ""
        run = Run(
            body,
            list(prompt),
            body["max_tokens"],
            Extra(lora, salt),
            temperature=body["temperature"],
            seed=body["seed"],
            min_tokens=body["min_tokens"],
            ends=frozenset({*body["stop_token_ids"], *(() if body["ignore_eos"] else (EOS,))}),
            tells_again=body.get("vllm_xargs", {}).get("kv_cache_report_mode") == "full",
        )
        return self.take(run)

    async def stream(self, run: Run, send: Any) -> None:
        finish, is_first = None, True
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                kind = "BadRequestError" if said < 500 else "InternalServerError"
                failed = {"message": CORE_DEAD, "type": kind, "param": None, "code": said}
                await send({"error": failed})
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
