"""A router and its workers in one process: real gRPC, real cache arithmetic, no model.

Each fake worker has an infinite cache; an answer is a few words that depend on the prompt. What it
reports is exact, so every number of the demo can be checked. `spoil` makes it lie or fail.
"""

import asyncio
import threading
import zlib

import grpc
import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as stubs
from radixroute.replay.analysis.infinite_cache import InfiniteCache

WORKERS = ("worker-0", "worker-1")
BLOCK = 16


class ByteTokenizer:
    """One token for each byte: text and ids say the same."""

    def encode(self, text):
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32)

    def encode_chat(self, messages, *, today=None):
        return self.encode("".join(f"<{m.role}>{m.content}</>" for m in messages) + "<assistant>")


class FakeRouter(stubs.RouterServicer, stubs.InspectServicer):
    """Round robin, or by chat when asked for `radix`."""

    def __init__(self, policy, pool_blocks, spoil):
        self.policy = policy
        self.pool_blocks = pool_blocks
        self.spoil = spoil
        self.caches = {worker: InfiniteCache(BLOCK) for worker in WORKERS}
        self.rows = {worker: pb.WorkerHits(worker_id=worker) for worker in WORKERS}
        self.n_requests = 0

    async def Generate(self, request, context):
        self.n_requests += 1
        if self.spoil == "fail" and self.n_requests == 35:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no worker left (request 35)")
        prompt = ByteTokenizer().encode_chat(request.messages.messages)
        worker = WORKERS[self.choose(request.messages.messages)]
        cached = self.caches[worker].cached_tokens(prompt)
        row = self.rows[worker]
        row.requests += 1
        row.prompt_tokens += len(prompt)
        row.cached_tokens += cached + (self.spoil == "miscount")
        row.predicted_tokens += cached
        text = f"answer {zlib.crc32(prompt.tobytes()):08x}"[: request.sampling.max_tokens]
        ids = ByteTokenizer().encode(text)
        usage = pb.Usage(
            worker_id=worker, prompt_tokens=len(prompt), cached_tokens=cached, attempts=1
        )
        await asyncio.sleep(60.0 if self.spoil == "hang" and self.n_requests > 40 else 0.002)
        for at, letter in enumerate(text):
            last = at == len(text) - 1
            yield pb.GenerateResponse(
                token_ids=ids[at : at + 1].astype("<u4").tobytes(),
                text=letter,
                position=at,
                finish_reason=(pb.FINISH_REASON_LENGTH if last else pb.FINISH_REASON_UNSPECIFIED),
                usage=usage,
            )
        self.caches[worker].store(np.concatenate([prompt, ids[:-1]]))

    def choose(self, messages):
        if self.policy == "radix" and len(messages) > 1:
            return zlib.crc32(messages[1].content.encode()) % len(WORKERS)
        return self.n_requests % len(WORKERS)

    async def HitRates(self, request, context):
        return pb.HitRatesResponse(workers=self.rows.values())

    async def ListWorkers(self, request, context):
        return pb.ListWorkersResponse(
            workers=[
                pb.WorkerStatus(worker_id=worker, kv_blocks_total=self.pool_blocks)
                for worker in WORKERS
            ]
        )

    async def RouterInfo(self, request, context):
        return pb.RouterInfoResponse(policy=self.policy)


class FakeCluster:
    """Start, restart and stop as `LocalCluster` has them; the server runs in a thread."""

    def __init__(self, first_policy, pool_blocks, spoil=""):
        self.policy = first_policy
        self.pool_blocks = pool_blocks
        self.spoil = spoil
        self.router_address = ""
        self.stops = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server = None

    def start(self, progress=None):
        self._thread.start()
        self._call(self._serve())

    def restart(self, *, policy=None, progress=None):
        self.policy = policy or self.policy
        self._call(self._end())
        self._call(self._serve())

    def stop(self):
        self.stops += 1
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self):
        router = FakeRouter(self.policy, self.pool_blocks, self.spoil)
        self._server = grpc.aio.server()
        stubs.add_RouterServicer_to_server(router, self._server)
        stubs.add_InspectServicer_to_server(router, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.router_address = f"127.0.0.1:{port}"

    async def _end(self):
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
