"""A fake SGLang 0.5: its native HTTP and its events as its published protocol has them, over a fake
model. A radix tree holds no block twice; a closed connection alone frees nothing in time.
"""

import os
import socket
from contextlib import ExitStack, suppress
from typing import Any

from tests.engines.fake_cache import Extra, FakeCache, Hash
from tests.engines.fake_engine import MODEL, FakeEngine, error
from tests.engines.fake_events import FakeEvents
from tests.engines.fake_http import Reply
from tests.engines.fake_run import Run
from tests.worker.fakes import EOS

_KNOWN = {
    *("max_new_tokens", "min_new_tokens", "temperature", "top_p", "top_k", "min_p", "logit_bias"),
    *("sampling_seed", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("stop", "stop_token_ids", "ignore_eos", "skip_special_tokens", "n"),
}  # of sampling_params; others are refused


class RadixCache(FakeCache):
    """No block twice; hashes are signed, and adjacent removals are one event, parents first."""

    names_adapters = False

    def store(self, table: list[int], done: int, tokens: list[int], extra: Extra) -> int:
        chain = self.hashes(tokens, extra)
        for at in range(done, len(chain) if self.is_on else 0):
            held = self._by_hash.get(chain[at])
            if held:
                self.pin(held)
                self.release([table[at]])
                table[at] = held[0]
                done = at + 1
        return super().store(table, done, tokens, extra)

    def take_events(self) -> list[dict[str, Any]]:
        joined: list[dict[str, Any]] = []
        for event in super().take_events():
            is_removal = event["type"] == "BlockRemoved"
            if is_removal and joined and joined[-1]["type"] == "BlockRemoved":
                joined[-1]["block_hashes"].insert(0, *event["block_hashes"])
            else:
                joined.append(event)
        return joined

    def _tell(self, chain: list[Hash], done: int, tokens: list[int], extra: Extra) -> None:
        super()._tell(chain, done, tokens, extra)
        event = self.events[-1]
        for name in ("lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind"):
            del event[name]
        event["lora_id"] = None
        if extra.salt:
            event["cache_salt"] = extra.salt
        if self.names_adapters and extra.lora:
            event["lora_name"] = extra.lora
        event["block_hashes"] = [_signed(one) for one in event["block_hashes"]]
        if event["parent_block_hash"] is not None:
            event["parent_block_hash"] = _signed(event["parent_block_hash"])

    def _evict(self, block: int) -> None:
        super()._evict(block)
        event = self.events[-1]
        del event["group_idx"]
        event["block_hashes"] = [_signed(one) for one in event["block_hashes"]]


class FakeSglang(FakeEngine):
    cache_of = RadixCache

    def may_have(self) -> None:
        self.is_incremental = False  # --incremental-streaming-output
        self.has_metrics = False
        self.has_new_info = True  # /server_info, not only /get_server_info
        self.says_events = True  # there
        self.knows_salts = True
        self.reasoning_parser = ""
        self.names_adapters = False  # "format":"dynamo"
        self.error_text = ""  # of an error in a stream that has no code
        self.n_proofs = 0
        self._by_rid: dict[str, Run] = {}

    def make_events(self, ports: tuple[int, int]) -> FakeEvents:
        assert isinstance(self.cache, RadixCache)
        self.cache.names_adapters = self.names_adapters
        number = self.rank if self.dp_size > 1 or self.rank else None
        events = FakeEvents(ports, self.buffer_steps, topic=b"", rank=number)
        events.publish([{"type": "AllBlocksCleared"}])
        return events

    def ports_of(self, rank: int, ports: tuple[int, int]) -> tuple[int, int]:
        """They follow one another."""
        if rank == 0:
            first = _free_run(2 * self.dp_size)
            return ports if self.dp_size == 1 else (first, first + self.dp_size)
        assert self.events is not None
        pub, router = self.events.ports
        return pub + rank, router + rank

    def is_guarded(self, path: str) -> bool:
        return not path.startswith(("/health", "/metrics"))

    def route(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], body: bytes
    ) -> Reply:
        routes: dict[str, Any] = {
            "/v1/models": lambda: self.models("sglang", root=MODEL),
            "/get_server_info": lambda: Reply(200, self._info()),
            "/health_generate": self._prove,
            "/tokenize": lambda: self.tokenize(asked),
            "/v1/chat/completions": lambda: self.chats.reply(asked, headers, body),
            "/v1/completions": lambda: self.chats.reply(asked, headers, body),
            "/generate": lambda: self.asked_rank(asked.get("routed_dp_rank"))._generate(asked),
            "/abort_request": lambda: self._abort(asked["rid"]),
        }
        if self.has_new_info:
            routes["/server_info"] = routes["/get_server_info"]
        if self.has_metrics:
            routes["/metrics"] = lambda: Reply(200, self._metrics().encode())
        reply: Reply = routes.get(path, lambda: Reply(404, {"detail": "Not Found"}))()
        return reply

    def _prove(self) -> Reply:
        self.n_proofs += 1
        return Reply(503 if self.is_held or self.core_is_dead else 200, b"")

    def _metrics(self) -> str:
        label = f'model_name="{MODEL}"'
        return (
            f"sglang:num_running_reqs{{{label}}} {float(self.running)}\n"
            f"sglang:num_queue_reqs{{{label}}} {float(self.waiting)}\n"
            f"sglang:token_usage{{{label}}} {self.cache.pinned / self.n_blocks}\n"
        )

    def _info(self) -> dict[str, Any]:
        pub, router = self.events.ports if self.events else (0, 0)
        events = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": pub, "topic": ""}
        events |= {"block_size": self.block_size, "dp_size": self.dp_size}
        config = f'{{"publisher":"zmq","endpoint":"tcp://*:{pub}"'
        if self.has_replay:
            events["replay_endpoint_port_base"] = router
            config += f',"replay_endpoint":"tcp://*:{router}"'
        config += ',"format":"dynamo"}' if self.names_adapters else "}"
        return {
            "model_path": f"/models/{MODEL}",
            "tokenizer_path": f"/models/{MODEL}",
            "served_model_name": MODEL,
            "page_size": self.block_size,
            "context_length": None,
            "dp_size": self.dp_size,
            "kv_cache_dtype": "auto",
            "reasoning_parser": self.reasoning_parser or None,
            "disable_radix_cache": not self.has_prefix_cache,
            "kv_events_config": config if self.events else None,
            "kv_events": events if self.events and self.says_events else None,
            "max_total_num_tokens": self.n_blocks * self.block_size,
            "internal_states": [{"last_gen_throughput": 0.0}],
            "version": "0.5.23",
        }

    def _abort(self, rid: str) -> Reply:
        for known, run in list(self._by_rid.items()):
            if known.startswith(rid) and self.frees_cancelled:  # as its scheduler matches them
                self.abort(run)
        return Reply(200, b"")

    def gone(self, run: Run) -> None:
        """It notices a closed connection after two seconds only: longer than any test waits."""

    def _generate(self, body: dict[str, Any]) -> Reply:
        self.received.append(body)
        self.request_ids.append(body["rid"])
        params = body["sampling_params"]
        if self.is_full():
            return error(503, "SERVICE_UNAVAILABLE", "The request queue is full.")
        if set(params) - _KNOWN:
            return Reply(400, {"error": {"message": f"Unexpected keyword argument {params}"}})
        salt = body.get("cache_salt", "") if self.knows_salts else ""
        lora = body.get("lora_path", "")
        if lora and lora not in self.adapters:
            return Reply(400, {"error": {"message": "not loaded"}})
        run = Run(
            body,
            list(body["input_ids"]),
            params["max_new_tokens"],
            Extra(lora, salt),
            temperature=params["temperature"],
            seed=params["sampling_seed"],
            min_tokens=params["min_new_tokens"],
            ends=frozenset({*params["stop_token_ids"], *(() if params["ignore_eos"] else (EOS,))}),
        )
        self._by_rid[body["rid"]] = run
        return self.take(run)

    async def stream(self, run: Run, send: Any) -> None:
        finish = None
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                failed: dict[str, Any] = {"message": "it failed"}
                if not self.error_text:
                    failed |= {"code": said, "retryable": said >= 500}
                await send({"error": failed})
                break
            token, finish = said
            output = run.tokens[run.n_prompt :]
            new = output[-1:] if self.is_incremental else output
            meta: dict[str, Any] = {
                "id": run.body["rid"],
                "prompt_tokens": run.n_prompt,
                "completion_tokens": len(output),
                "cached_tokens": run.n_cached,
                "finish_reason": None,
            }
            if finish == "stop":
                meta["finish_reason"] = {"type": "stop", "matched": token}
            elif finish == "length":
                meta["finish_reason"] = {"type": "length", "length": run.max_tokens}
            if run.body.get("return_logprob"):
                n_top = run.body["top_logprobs_num"]
                meta["output_token_logprobs"] = [[-float(t + 1), t, None] for t in new]
                tops = [[[-float(i + 1), i, None] for i in range(n_top)] for _ in new]
                meta["output_top_logprobs"] = tops if n_top else []
            await send({"text": "?", "output_ids": new, "meta_info": meta})
        if finish is not None:
            self.cached_told.append(run.n_cached)
        await send(None)


def _free_run(n: int) -> int:
    """The first of so many ports that nobody has."""
    for first in range(21_000 + os.getpid() % 1_000 * 10, 32_000, n):
        with suppress(OSError), ExitStack() as stack:
            for port in range(first, first + n):
                one = stack.enter_context(socket.socket())
                one.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
