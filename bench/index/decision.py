"""A whole decision for prompts of 11k tokens among 64 workers, beside Dynamo's `SelectionService`.

Ours: block keys, match, score and booking, by the real `RouterCore`. The peer's `select` hashes and
scores as well, in its own process' threads, and books nothing; its workers are 64 publishers of
stored events here, as its documentation has them. Both get token ids in the form they take fastest.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from statistics import mean
from typing import Any

import msgpack
import zmq

from bench.index.sides import Ours, our_events
from bench.index.trace import (
    BLOCK_SIZE,
    BLOCKS_AN_ID,
    SEED,
    Ids,
    KeyBook,
    Placed,
    load_trace,
    place_round_robin,
    prompt_of,
    tokens_of,
)
from bench.rows import Row, timed
from radixroute.radix.ids import Tokens, WorkerId
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.sampling import SamplingParams
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.inputs import MemberSpec, RequestSpec, WorkerFacts
from radixroute.router.settings import RouterSettings

WORKERS = 64
FILL, QUERIES = 800, 150
LONGEST = 64  # ids: 32k tokens


def rows(rounds: int) -> Iterator[Row]:
    """Microseconds of one decision."""
    requests = [ids[:LONGEST] for ids in load_trace(FILL + QUERIES)]
    placed = place_round_robin(requests[:FILL], WORKERS)
    prompts = [prompt_of(ids) for ids in requests[FILL:]]
    ours, peers = asyncio.run(_both(placed, requests, prompts, rounds))
    yield timed("decision.w64", ours, peers, bar=5.0)


async def _both(
    placed: list[Placed], requests: list[Ids], prompts: list[Tokens], rounds: int
) -> tuple[list[float], list[float]]:
    core = _our_core(placed, requests)
    service, sockets = await _peer(placed)
    ids = [prompt.tolist() for prompt in prompts]
    ours, peers = list[float](), list[float]()
    number = 0
    for _ in range(rounds):
        # Each side answers the whole list in its turn, as in the other rows: whoever has just been
        # kept waiting by half a millisecond of the other's work finds its caches cold.
        mine, theirs = list[float](), list[float]()
        for prompt in prompts:
            number += 1
            started = time.perf_counter()
            core.submit(_spec(f"r{number}", prompt), number)
            mine.append(time.perf_counter() - started)
            core.abort(f"r{number}", number)
        for tokens in ids:
            started = time.perf_counter()
            await service.select({"model_name": "m", "token_ids": tokens})
            theirs.append(time.perf_counter() - started)
        ours.append(mean(mine) * 1e6)
        peers.append(mean(theirs) * 1e6)
    service.shutdown()
    for socket in sockets:
        socket.close(linger=0)
    print(f"decision: {mean(map(len, prompts)):,.0f} tokens on average", flush=True)
    return ours, peers


def _spec(request_id: str, prompt: Tokens) -> RequestSpec:
    keys = block_keys(prompt, BLOCK_SIZE, SEED)
    sampling = SamplingParams(max_tokens=16)
    return RequestSpec(request_id, prompt, keys, sampling, "radix", 0, 10**15)


def _our_core(placed: list[Placed], requests: list[Ids]) -> RouterCore:
    book = KeyBook()
    for ids in requests:
        book.learn(ids)
    ours = Ours(WORKERS)
    ours.store(our_events(placed, book))
    core = RouterCore(RouterSettings(router_id="bench"), ours.index, random.Random(0))
    names = [holder.worker for holder in ours.holders]
    core.set_members([MemberSpec(WorkerId(name), f"{name}:1", 1) for name in names], 0)
    for name in names:
        facts = WorkerFacts(name, "epoch", BLOCK_SIZE, frozenset({2}), 100_000, 8192)
        core.joined(facts, 0)
        core.cache_believed(name, True)
    return core


async def _peer(placed: list[Placed]) -> tuple[Any, list[zmq.Socket[bytes]]]:
    from dynamo.llm import SelectionService  # type: ignore[import-not-found]

    context = zmq.Context()
    sockets = []
    service = SelectionService(indexer_threads=1)
    for worker in range(WORKERS):
        socket = context.socket(zmq.PUB)
        socket.set_hwm(0)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        sockets.append(socket)
        await service.upsert_worker(
            {
                "worker_id": worker + 1,
                "model_name": "m",
                "block_size": BLOCK_SIZE,
                "endpoint": "http://127.0.0.1:9",  # nobody asks it
                "kv_events_endpoint": f"tcp://127.0.0.1:{port}",
                "data_parallel_size": 1,
                "total_kv_blocks": 100_000,
                "max_num_batched_tokens": 8192,
            }
        )
    await asyncio.sleep(2.0)  # its subscribers connect; it has no way to tell
    seqs = [0] * WORKERS
    for number, one in enumerate(placed):
        parent = None if one.above is None else one.above * BLOCKS_AN_ID + BLOCKS_AN_ID
        for piece in one.new:
            first = piece * BLOCKS_AN_ID + 1
            hashes = list(range(first, first + BLOCKS_AN_ID))
            event = ["BlockStored", hashes, parent, tokens_of(piece).tolist(), BLOCK_SIZE, None]
            payload = msgpack.packb([time.time(), [event], 0])
            seq = seqs[one.worker].to_bytes(8, "big")
            sockets[one.worker].send_multipart([b"", seq, payload])
            seqs[one.worker] += 1
            parent = hashes[-1]
        if number % 50 == 0:
            await asyncio.sleep(0.02)
    await asyncio.sleep(4.0)
    return service, sockets
