"""Chats of a fake engine, and completions as clients write them: tools, images, structured output.

What a chat says is rendered as text and tokenised, so that equal beginnings share blocks. An answer
that names tools is a call of the first one; its arguments come in pieces. Answers and faults may be
scripted, byte by byte.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.engines.fake_cache import Extra
from tests.engines.fake_http import Cut, Reply, Stream
from tests.engines.fake_run import Run
from tests.worker.fakes import make_tokenizer

Send = Callable[[Any], Awaitable[None]]


@dataclass
class Scripted:
    """An answer as it is."""

    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    pieces: tuple[bytes, ...] = ()
    is_cut: bool = False  # behind them
    waits: asyncio.Event | None = None  # before the last one


class FakeChats:
    """Of one engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._tokenizer = make_tokenizer()
        self.bodies: list[bytes] = []  # as they came
        self.headers: list[dict[str, str]] = []
        self.streams: list[Stream] = []  # that were begun
        self.scripted: list[Scripted] = []  # the next answers
        self.renders = ""  # at `/render`, or at `/tokenize`
        self.rendered: list[bytes] = []
        self.takes_apart = False  # --reasoning-parser
        self.takes_ids = False  # of completions: else they are texts

    def prompt_of(self, body: dict[str, Any]) -> list[int]:
        if self.takes_ids:
            return list(body["prompt"])
        told = [body.get("tools"), body.get("messages"), body.get("prompt")]
        text = json.dumps([one for one in told if one is not None])
        tokens: list[int] = self._tokenizer.encode(text).tolist()
        return tokens

    def reply(self, body: dict[str, Any], headers: dict[str, str], raw: bytes) -> Reply:
        engine = self._engine
        self.bodies.append(raw)
        self.headers.append(headers)
        if engine.is_storming:
            engine.rejections += 1
            return _error(503, "Service Unavailable")
        if self.scripted:
            return self._play(self.scripted.pop(0))
        prompt = self.prompt_of(body)
        if len(prompt) >= engine.max_model_len:
            return _error(400, "This model's maximum context length is less.")
        most = body.get("max_completion_tokens") or body.get("max_tokens") or 8
        run = Run(
            body,
            prompt,
            most,
            Extra(body.get("lora_path", ""), body.get("cache_salt", "")),
            temperature=0.0,
            ends=frozenset(),
        )
        engine.enqueue(run)
        if body.get("stream"):
            stream = Stream(lambda send: self._stream(run, body, send), lambda: engine.gone(run))
            self.streams.append(stream)
            return Reply(200, stream)
        stream = Stream(
            lambda send: self._whole(run, body, send),
            lambda: engine.gone(run),
            content_type="application/json",
        )
        self.streams.append(stream)
        return Reply(200, stream)

    def render(self, way: str, body: dict[str, Any], raw: bytes) -> Reply:
        if self.renders != way:
            return _error(403 if way == "/render" else 400, "Not here")
        self.rendered.append(raw)
        name = "token_ids" if way == "/render" else "tokens"
        return Reply(200, {name: self.prompt_of(body), "count": 1})

    def _play(self, script: Scripted) -> Reply:
        async def play(send: Send) -> None:
            *pieces, last = script.pieces or (b"",)
            for piece in pieces:
                await send(piece)
            if script.waits is not None:
                await script.waits.wait()
            if last:
                await send(last)
            if script.is_cut:
                raise Cut

        stream = Stream(play, lambda: None, script.status, script.content_type)
        self.streams.append(stream)
        return Reply(script.status, stream)

    async def _stream(self, run: Any, body: dict[str, Any], send: Send) -> None:
        finish, number = None, 0
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                kind = "InternalServerError" if said >= 500 else "BadRequestError"
                await send({"error": {"message": "failed", "type": kind, "code": said}})
                await send(None)
                return
            token, finish = said
            choice = {"index": 0, "delta": _delta(body, number, token), "logprobs": None}
            choice["finish_reason"] = _ended(body, finish)
            await send(self._told(body, "chat.completion.chunk", [choice]))
            number += 1
        options = body.get("stream_options") or {}
        if options.get("include_usage"):
            told = self._told(body, "chat.completion.chunk", [])
            await send({**told, "usage": self._usage(run)})
        await send(None)

    async def _whole(self, run: Any, body: dict[str, Any], send: Send) -> None:
        finish, text = None, ""
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                await send(json.dumps({"error": {"message": "failed", "code": said}}).encode())
                return
            token, finish = said
            text += f" {token}"
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self.takes_apart:
            message = {"role": "assistant", "content": None, "reasoning": text}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [_call(body, text)]}
        choice = {"index": 0, "message": message, "finish_reason": _ended(body, finish)}
        told = self._told(body, "chat.completion", [choice])
        # Spaced out as nobody would make it again: whoever changes a byte shows.
        await send(json.dumps({**told, "usage": self._usage(run)}, indent=1).encode())

    def _usage(self, run: Any) -> dict[str, Any]:
        self._engine.cached_told.append(run.n_cached)
        return {
            "prompt_tokens": run.n_prompt,
            "completion_tokens": run.n_output,
            "total_tokens": run.n_prompt + run.n_output,
            "prompt_tokens_details": {"cached_tokens": run.n_cached},
        }

    def _told(self, body: dict[str, Any], kind: str, choices: list[Any]) -> dict[str, Any]:
        common = {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": "fake-model"}
        return {**common, "choices": choices}


def _delta(body: dict[str, Any], number: int, token: int) -> dict[str, Any]:
    if not body.get("tools"):
        return {"content": f" {token}"}
    if number == 0:
        return {"role": "assistant", "tool_calls": [{"index": 0, **_call(body, "")}]}
    return {"tool_calls": [{"index": 0, "function": {"arguments": f" {token}"}}]}


def _call(body: dict[str, Any], arguments: str) -> dict[str, Any]:
    name = body["tools"][0]["function"]["name"]
    return {
        "id": "call-1",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _ended(body: dict[str, Any], finish: str | None) -> str | None:
    return "tool_calls" if finish and body.get("tools") else finish


def _error(code: int, message: str) -> Reply:
    return Reply(code, {"error": {"message": message, "type": "x", "param": None, "code": code}})
