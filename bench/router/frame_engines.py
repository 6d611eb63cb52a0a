"""Fake workers of ours that speak plain frames, in one process.

`python -m bench.router.frame_engines N`: how many. They tick as `http_engines` does and tell their
caches' events. Prints their ports, serves until its input ends.
"""

import asyncio
import sys
from collections import deque
from typing import Final, cast

import grpc
import numpy as np
import uvloop

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, LoadReport, SessionLoad
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, FrameReader, framed
from radixroute.radix.ids import Keys
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.wire import pack_tokens, unpack_tokens
from tests.router.fakes import FakeWorker, chat_tokenizer

TICK_S: Final = 0.010
PROMPT_MS: Final = 0.1  # what computing prompts takes: next to nothing, and so it is told
BLOCK: Final = 16
CONTEXT: Final = 1 << 21
POOL: Final = 20_000  # blocks
SEATS: Final = 8192
_FIRST: Final = 68  # ids of "a" and what follows it in the byte-level vocabulary
LETTERS: Final = tuple((_FIRST + n, chr(97 + n)) for n in range(26))
_MOST_BYTES: Final = 64 << 20
_LENGTH: Final = pb.FINISH_REASON_LENGTH


class _Running:
    """A request; `n` tokens of it are out."""

    def __init__(self, submit: pb.SubmitRequest) -> None:
        self.request_id, self.attempt = submit.request_id, submit.attempt
        self.dispatch_seq = submit.dispatch_seq
        self.left, self.n = submit.sampling.max_tokens, 0
        self.pieces = [submit.prompt_token_ids]

    def row(self, columns: pb.TokenColumns) -> None:
        """One more token, and nothing else to say of it."""
        token_id, letter = LETTERS[self.n % len(LETTERS)]
        columns.dispatch_seqs.append(self.dispatch_seq)
        columns.positions.append(self.n)
        columns.token_ids += pack_tokens([token_id])
        columns.texts.append(letter)
        self.n += 1
        self.left -= 1

    def delta(self, n_prompt: int = 0, batch: int = 0) -> pb.TokenDelta:
        """`n_prompt`: with the first one, which says where in the events its prompt was looked up:
        before `batch`."""
        token_id, letter = LETTERS[self.n % len(LETTERS)]
        delta = pb.TokenDelta(
            request_id=self.request_id,
            attempt=self.attempt,
            position=self.n,
            token_ids=pack_tokens([token_id]),
            text=letter,
        )
        if n_prompt:
            delta.prompt.prompt_tokens = n_prompt
            delta.prompt.event_seq = batch
        self.n += 1
        self.left -= 1
        if not self.left:
            delta.finish_reason = _LENGTH
        return delta


class FrameWorker(FakeWorker):
    """One of them. Prompts are all different: nothing of one is ever cached before."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(worker_id, block_size=BLOCK, make_tokenizer=chat_tokenizer)
        self.sessions: set[_Session] = set()
        self._held: deque[Keys] = deque()
        self._n_held = self._n_batches = 0

    async def listen(self) -> int:
        """Returns the port that a router is told."""
        await self.start()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Session(self), "127.0.0.1", 0)
        self._frames = server
        self._at_s = loop.time()
        self._tick()
        return int(self.port)

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        info: pb.GetInfoResponse = await super().GetInfo(request, context)  # type: ignore[no-untyped-call]
        port = self._frames.sockets[0].getsockname()[1]
        info.session_endpoint = f"tcp://127.0.0.1:{port}"
        info.model = "bench"
        info.max_model_len = CONTEXT
        info.kv_blocks_total = POOL
        info.max_num_seqs = SEATS
        info.max_num_batched_tokens = 1 << 16
        return info

    def store(self, prompt: bytes) -> int:
        """Returns the number of the batch that tells it."""
        tokens = unpack_tokens(prompt)[: POOL * BLOCK // 2]  # of a giant no engine keeps more
        keys = block_keys(tokens, self.block_size, self.scope.seed)
        events: list[BlocksStored | BlocksRemoved] = [BlocksStored(None, keys)]
        self._held.append(keys)
        self._n_held += len(keys)
        while self._n_held > POOL and len(self._held) > 1:
            oldest = self._held.popleft()
            self._n_held -= len(oldest)
            events.append(BlocksRemoved(np.ascontiguousarray(oldest[::-1])))
        self.publisher.publish(tuple(events))
        self._n_batches += 1
        return self._n_batches - 1

    def report(self) -> None:
        loads = tuple(
            SessionLoad(one.router_id, one.acknowledged, len(one.running), 0, 0)
            for one in self.sessions
        )
        self.publisher.report_load(LoadReport(0.0, POOL, self._n_held, loads))

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._at_s = max(self._at_s + TICK_S, loop.time())
        loop.call_at(self._at_s, self._tick)
        for session in self.sessions:
            session.step()
        self.report()


class _Session(asyncio.Protocol):
    """One router's."""

    def __init__(self, worker: FrameWorker) -> None:
        self._worker = worker
        self._reader = FrameReader(_MOST_BYTES)
        self.router_id, self.acknowledged, self._takes_columns = "", 0, False
        self.running: dict[tuple[str, int], _Running] = {}
        self._coming: dict[tuple[str, int], _Running] = {}
        self._step = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HELLO)

    def connection_lost(self, error: Exception | None) -> None:
        self._worker.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        begun = []
        for frame in self._reader.feed(data):
            message = pb.EngineRequest.FromString(frame)
            match message.WhichOneof("kind"):
                case "open":
                    self.router_id = message.open.router_id
                    self._takes_columns = message.open.takes_columns
                    self._worker.sessions.add(self)
                    self._send(pb.StepOutput(opened=True))
                case "submit":
                    submit = message.submit
                    self.acknowledged = submit.dispatch_seq
                    running = _Running(submit)
                    if submit.more_chunks:
                        self._coming[running.request_id, running.attempt] = running
                    else:
                        begun.append(running)
                case "chunk":
                    chunk = message.chunk
                    running = self._coming[chunk.request_id, chunk.attempt]
                    running.pieces.append(chunk.prompt_token_ids)
                    if not chunk.more_chunks:
                        begun.append(self._coming.pop((chunk.request_id, chunk.attempt)))
                case "abort":
                    self.running.pop((message.abort.request_id, message.abort.attempt), None)
        if begun:
            self._begin(begun)

    def step(self) -> None:
        if self.running:
            running, columns, last = list(self.running.values()), pb.TokenColumns(), []
            for one in running:
                if self._takes_columns and one.left > 1:
                    one.row(columns)
                else:
                    last.append(one)
            self._tell([one.delta() for one in last], last, 0, columns)

    def _begin(self, begun: list[_Running]) -> None:
        deltas, n_prompts = [], 0
        for one in begun:
            prompt, one.pieces = b"".join(one.pieces), []
            batch = self._worker.store(prompt)
            self.running[one.request_id, one.attempt] = one
            n_prompts += len(prompt) // 4
            deltas.append(one.delta(len(prompt) // 4, batch))
        self._tell(deltas, begun, n_prompts)

    def _tell(
        self,
        deltas: list[pb.TokenDelta],
        whose: list[_Running],
        n_prompts: int,
        columns: pb.TokenColumns | None = None,
    ) -> None:
        for one in whose:
            if not one.left:
                del self.running[one.request_id, one.attempt]
        self._step += 1
        self._send(
            pb.StepOutput(
                step=self._step,
                columns=columns,
                deltas=deltas,
                step_ms=PROMPT_MS if n_prompts else TICK_S * 1e3,
                prefill_tokens=n_prompts,
                decode_tokens=0 if n_prompts else len(self.running),
                acknowledged_dispatch=self.acknowledged,
            )
        )

    def _send(self, output: pb.StepOutput) -> None:
        self._transport.write(framed(output.SerializeToString()))


async def main(n: int) -> None:
    workers = [FrameWorker(f"w{number}") for number in range(n)]
    print(*[await worker.listen() for worker in workers], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
