"""Dynamo's side of `bench.compat`: its listeners and its index, behind its `SelectionService`.

Owns how the service is told of our publishers and asked for overlaps. Decides nothing.
"""

from collections.abc import Sequence
from typing import Any

from bench.compat.chats import BLOCK_SIZE
from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.radix.ids import Tokens

WORKERS = 4
BLOCKS = 6000  # each worker's pool


class Listener:
    """Dynamo's side, in this process."""

    def __init__(self, service: Any) -> None:
        self._service = service

    async def listen(self, publishers: Sequence[CompatPublisher]) -> None:
        for worker, publisher in enumerate(publishers):
            await self._service.upsert_worker(
                {
                    "worker_id": worker + 1,
                    "model_name": "m",
                    "block_size": BLOCK_SIZE,
                    "endpoint": "http://127.0.0.1:9",  # nobody asks it
                    "kv_events_endpoint": publisher.endpoints.events,
                    "replay_endpoint": publisher.endpoints.control,
                    "data_parallel_size": 1,
                    "total_kv_blocks": BLOCKS,
                    "max_num_batched_tokens": 8192,
                }
            )

    async def overlaps(self, tokens: Tokens) -> list[int]:
        """Leading blocks it believes each worker to hold."""
        request = {"model_name": "m", "token_ids": tokens.tolist()}
        answer = await self._service.overlap_scores(request)
        found = {one["worker_id"]: one["device_blocks"] for one in answer["workers"]}
        return [found.get(worker + 1, 0) for worker in range(WORKERS)]
