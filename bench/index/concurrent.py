"""Dynamo's concurrent index as its standalone indexer runs it, for `bench.index.exact`.

`SelectionService` with four threads, in this process: the same listeners and the same index, fed
over ZeroMQ in vLLM's form, without the indexer's HTTP server, which listens on every interface (in
a network of its own it gave the same figures to the last, for seed 0). It has no way to say when
an event is applied, so `settle` sends a block of its own on every stream and waits until all of
them are known: each stream is applied in order.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import numpy as np
import zmq

from radixroute.events.wire.compat import TOPIC
from radixroute.radix.ids import Tokens

BLOCK_SIZE = 16
THREADS = 4
PATIENCE_S = 20.0
# Above every key of a forest's node: sentinels never meet one.
_SENTINEL = 2**63


class ConcurrentPeer:
    """A few workers' streams into one index, and what it answers."""

    def __init__(self, workers: int) -> None:
        from dynamo.llm import SelectionService  # type: ignore[import-not-found]

        self._loop = asyncio.new_event_loop()
        self._context = zmq.Context()
        self._sockets = [self._context.socket(zmq.PUB) for _ in range(workers)]
        self._seqs = [0] * workers
        self._settled = 0
        self._service: Any = SelectionService(indexer_threads=THREADS)
        for worker, socket in enumerate(self._sockets):
            socket.set_hwm(0)
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            self._run(self._service.upsert_worker, _registration(worker, port))
        self.settle()

    def store(self, worker: int, parent: int | None, keys: list[int]) -> None:
        """Blocks of a chain; a block's tokens follow from its key."""
        self._send(
            worker,
            {
                "type": "BlockStored",
                "block_hashes": keys,
                "parent_block_hash": parent,
                "token_ids": tokens_of(keys).tolist(),
                "block_size": BLOCK_SIZE,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
            },
        )

    def remove(self, worker: int, keys: list[int]) -> None:
        """All in one event, as the other sides are told."""
        self._send(worker, {"type": "BlockRemoved", "block_hashes": keys, "medium": "GPU"})

    def settle(self) -> None:
        """Everything sent is applied."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._settled += 1
            sentinel = [_SENTINEL + 2 * self._settled]
            for worker in range(len(self._sockets)):
                self.store(worker, None, sentinel)
            # The first ones are sent before its subscriptions are there, and lost.
            for _ in range(200):
                if all(self.overlaps(sentinel)):
                    return
                time.sleep(0.001)
            if time.monotonic() > deadline:
                raise SystemExit("the peer's index does not hear its streams")

    def overlaps(self, keys: list[int]) -> list[int]:
        """Leading blocks it believes each worker to hold."""
        request = {"model_name": "m", "token_ids": tokens_of(keys).tolist()}
        answer = self._run(self._service.overlap_scores, request)
        found = {one["worker_id"]: one["device_blocks"] for one in answer["workers"]}
        return [found.get(worker + 1, 0) for worker in range(len(self._sockets))]

    def stop(self) -> None:
        self._service.shutdown()
        self._loop.close()
        self._context.destroy(linger=0)

    def _send(self, worker: int, event: dict[str, Any]) -> None:
        seq = self._seqs[worker].to_bytes(8, "big")
        self._seqs[worker] += 1
        self._sockets[worker].send_multipart([TOPIC, seq, msgpack.packb([0.0, [event], 0])])

    def _run(self, method: Callable[[Any], Awaitable[Any]], request: dict[str, Any]) -> Any:
        async def called() -> Any:  # its methods want to be called inside a running loop
            return await method(request)

        return self._loop.run_until_complete(called())


def tokens_of(keys: list[int]) -> Tokens:
    """One block for each key: the key's halves, then zeros."""
    tokens = np.zeros((len(keys), BLOCK_SIZE), np.uint32)
    tokens[:, :2] = np.array(keys, dtype="<u8").view("<u4").reshape(-1, 2)
    return tokens.reshape(-1)


def _registration(worker: int, port: int) -> dict[str, Any]:
    return {
        "worker_id": worker + 1,
        "model_name": "m",
        "block_size": BLOCK_SIZE,
        "endpoint": "http://127.0.0.1:9",  # nobody asks it
        "kv_events_endpoint": f"tcp://127.0.0.1:{port}",
        "data_parallel_size": 1,
        "total_kv_blocks": 100_000,
        "max_num_batched_tokens": 8192,
    }
