"""Fake engines that speak HTTP as vLLM does, in one process: `python -m bench.router.http_engines`.

`N FOLDER`: how many, and where the tokenizer lies that they name. A stream's first token comes at
once, each next one with the engine's tick of 10 ms, in a chunk of its own. Prints their ports,
serves until its input ends.
"""

import asyncio
import sys
from typing import Any, Final, cast

import httptools
import msgspec
import uvloop

from bench.router.bodies import MODEL
from bench.router.frame_engines import BLOCK, CONTEXT, LETTERS, POOL, TICK_S

_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
_COMMON: Final = b'data: {"id":"cmpl-bench","object":"%b","created":1,"model":"bench","choices":['
_DONE: Final = b"data: [DONE]\n\n"


class _Options(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None  # what a router makes of the other one in chats
    stream: bool = False
    return_token_ids: bool = False
    stream_options: _Options | None = None


_decode = msgspec.json.Decoder(_Body).decode


class Engine:
    """One of them: the streams that it ticks."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.n_steps = 0
        self.running: dict[_Stream, None] = {}

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=4096)
        self._at_s = loop.time()
        self._tick()
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._at_s = max(self._at_s + TICK_S, loop.time())
        loop.call_at(self._at_s, self._tick)
        self.n_steps += bool(self.running)
        for stream in list(self.running):
            stream.step()

    def page(self, path: str) -> Any:
        """What a router asks of an engine before it serves."""
        if path == "/v1/models":
            model = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": self.folder}
            return {"object": "list", "data": [{**model, "parent": None, "max_model_len": CONTEXT}]}
        if path == "/version":
            return {"version": "0.32.0"}
        if path in ("/get_model_info", "/model_info"):
            return {"model_path": MODEL, "is_generation": True}
        if path in ("/get_server_info", "/server_info"):
            return {"model_path": MODEL, "dp_size": 1, "tp_size": 1}
        return {} if path == "/health" else None

    def metrics(self) -> bytes:
        return (
            f"vllm:num_requests_running {float(len(self.running))}\n"
            "vllm:num_requests_waiting 0.0\nvllm:kv_cache_usage_perc 0.1\n"
            f"vllm:iteration_tokens_total_count {float(self.n_steps)}\n"
            f'vllm:cache_config_info{{block_size="{BLOCK}",num_gpu_blocks="{POOL + 1}"}} 1.0\n'
            "process_start_time_seconds 1.0\n"
        ).encode()


class _Stream:
    """One answer on its way."""

    def __init__(self, connection: "_Connection", engine: Engine, body: _Body, kind: str) -> None:
        self._connection, self._engine = connection, engine
        self._left, self._n = body.max_completion_tokens or body.max_tokens or 1, 0
        is_chat = kind == "chat.completion.chunk"
        self._start = _COMMON % kind.encode() + b'{"index":0,'
        self._start += b'"delta":{"content":"%b"},' if is_chat else b'"text":"%b",'
        self._start += b'"logprobs":null,"finish_reason":%b,"stop_reason":null,'
        self._start += b'"token_ids":%b,"prompt_token_ids":null}]}\n\n'
        self._tells_ids = body.return_token_ids
        usage = body.stream_options is not None and body.stream_options.include_usage
        self._usage = _COMMON % kind.encode() + b'],"usage":{"prompt_tokens":1,"total_tokens":2,'
        self._usage += b'"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":0}}}\n\n'
        self._last = (self._usage if usage else b"") + _DONE

    def step(self) -> None:
        token_id, letter = LETTERS[self._n % len(LETTERS)]
        self._n += 1
        self._left -= 1
        ids = b"[%d]" % token_id if self._tells_ids else b"null"
        finish = b"null" if self._left else b'"length"'
        event = self._start % (letter.encode(), finish, ids)
        if self._left:
            self._connection.send(event)
        else:
            self._engine.running.pop(self, None)
            self._connection.finish(event, self._last)


class _Connection(asyncio.Protocol):
    """One client of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._stream is not None:
            self._engine.running.pop(self._stream, None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # a router that tries whether it speaks HTTP/2
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.decode().partition("?")[0]
        kinds = {
            "/v1/completions": "text_completion",
            "/v1/chat/completions": "chat.completion.chunk",
        }
        if path not in kinds:
            self._answer(path)
            return
        body = _decode(self._body)
        if not body.stream:  # a router that tries whether it answers
            choice = {"index": 0, "text": "a", "finish_reason": "length"}
            told = {"id": "x", "object": kinds[path], "created": 1, "model": MODEL}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._json(msgspec.json.encode({**told, "choices": [choice], "usage": usage}))
            return
        self._transport.write(_HEAD + b"transfer-encoding: chunked\r\n\r\n")
        stream = self._stream = _Stream(self, self._engine, body, kinds[path])
        self._engine.running[stream] = None
        stream.step()

    def send(self, event: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def finish(self, event: bytes, last: bytes) -> None:
        self._stream = None
        self.send(event)
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))

    def _answer(self, path: str) -> None:
        page = self._engine.page(path)
        if path == "/metrics":
            self._json(self._engine.metrics(), b"text/plain")
        elif page is None:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        else:
            self._json(msgspec.json.encode(page))

    def _json(self, body: bytes, kind: bytes = b"application/json") -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % (kind, len(body)) + body)


async def main(n: int, folder: str) -> None:
    engines = [Engine(folder) for _ in range(n)]
    print(*[await engine.start() for engine in engines], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
