"""What clients over HTTP are told when no answer comes: status, body, when to come back."""

import asyncio
import logging
import random

from radixroute.router.api.http import completion
from radixroute.router.api.http.openapi import DESCRIPTION
from tests.router.clusters import until
from tests.router.fakes import FakeWorker
from tests.router.http.wire import CHATS, COMPLETIONS, IDS, ask, chatting, connected, nobody_is_in

CANARY = "a-canary-that-no-log-may-have"
BODY = {"prompt": IDS, "max_tokens": 300}


async def test_a_full_queue_says_when_to_come_back():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, max_in_flight=1) as service, connected(service) as first:
        first.post(COMPLETIONS, BODY)
        await until(lambda: len(worker.live) == 1)
        told = await ask(service, COMPLETIONS, BODY)
        assert told.status == 429
        assert int(told.headers["retry-after"]) >= 1
        assert told.json["error"]["type"] == "rate_limit_error"


async def test_a_draining_router_says_so_and_ends_what_it_has():
    worker = FakeWorker("a", hold_after=2)
    async with chatting(worker) as service, connected(service) as first:
        first.post(COMPLETIONS, {**BODY, "stream": True})
        await first.reader.readuntil(b"\r\n\r\n")
        service.reception.drain()
        told = await ask(service, COMPLETIONS, BODY)
        assert (told.status, told.json["error"]["code"]) == (503, "draining")
        assert "retry-after" in told.headers
        async with connected(service) as other:
            assert (await other.get("/readyz")).status == 503
            assert (await other.get("/healthz")).status == 200
        worker.hold_after = None
        assert b"[DONE]" in await first._chunks()


async def test_without_workers():
    async with chatting(no_worker_wait_s=0.1) as service:
        service.set_members([])
        await until(lambda: not service.runtime.core.is_serving)
        told = await ask(service, COMPLETIONS, BODY)
        assert (told.status, told.json["error"]["code"]) == (503, "no_workers")
        async with connected(service) as client:
            assert (await client.get("/readyz")).status == 503


async def test_a_deadline_before_and_after_the_first_token():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, request_timeout_s=0.5) as service:
        told = await ask(service, COMPLETIONS, BODY)
        assert (told.status, told.json["error"]["type"]) == (504, "timeout_error")
        worker.never_prefill, worker.hold_after = False, 2
        async with connected(service) as client:
            answer = await client.ask(COMPLETIONS, {**BODY, "stream": True, "n": 2})
            assert answer.status == 200
            assert answer.events[-1]["error"]["type"] == "timeout_error"
            assert await client.at_end()
        await until(lambda: nobody_is_in(service) and not worker.live)


async def test_a_dead_worker_is_not_seen_by_clients():
    workers = [FakeWorker("a", hold_after=5), FakeWorker("b", hold_after=5)]
    async with chatting(*workers) as service, connected(service) as client:
        client.post(COMPLETIONS, {"prompt": IDS, "max_tokens": 20})
        await until(lambda: any(worker.live for worker in workers))
        (busy,) = [worker for worker in workers if worker.live]
        (other,) = [worker for worker in workers if worker is not busy]
        other.hold_after = None
        await busy.server.stop(None)
        told = await client.answer()
        assert told.json["usage"]["completion_tokens"] == 20


async def test_a_bug_is_an_internal_error_and_no_text_of_it_travels(monkeypatch, caplog):
    def broken(*args, **more):
        raise RuntimeError("secret words")

    async with chatting() as service:
        monkeypatch.setattr(completion, "read_body", broken)
        told = await ask(service, COMPLETIONS, BODY)
        assert told.status == 500
        assert b"secret" not in told.body
        assert "failed inside the router" in caplog.text
        assert nobody_is_in(service)


def _strange(rng: random.Random, depth: int = 3) -> object:
    match rng.randrange(5 if depth else 3):
        case 0:
            return rng.choice([CANARY, None, True, False, 0.5, -0.0, 1e308, 1e-308])
        case 1:
            return rng.choice([0, -1, 1, 2**31, 2**63, 2**64, 10**400])
        case 3:
            return [_strange(rng, depth - 1) for _ in range(rng.randrange(4))]
        case 4:
            return {rng.choice(NAMES): _strange(rng, depth - 1) for _ in range(rng.randrange(4))}
    return None


NAMES = (
    "prompt", "messages", "model", "stream", "stream_options", "temperature", "top_p", "top_k",
    "seed", "max_tokens", "min_tokens", "stop", "n", "logit_bias", "logprobs", "role", "content",
    "type", "text", "cache_salt", "tools", "user", CANARY,
)  # fmt: skip


async def test_whatever_comes_in_the_door_stands_and_no_log_has_it(caplog):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    caplog.set_level(logging.DEBUG)
    async with chatting(FakeWorker("a", step_s=0.0001), request_timeout_s=5) as service:
        for _ in range(400):
            body = {name: _strange(rng) for name in rng.sample(NAMES, rng.randrange(1, 8))}
            if rng.random() < 0.7:
                body["prompt"] = rng.choice([CANARY, IDS, [CANARY]])
                body["messages"] = [{"role": "user", "content": CANARY}]
            path = rng.choice([COMPLETIONS, CHATS])
            told = await ask(service, path, body)
            assert told.status in (200, 400, 404), (seed, body, told)
            assert str(told.status) in DESCRIPTION["paths"][path]["post"]["responses"]
            if told.status != 200:
                assert set(told.json["error"]) == {"message", "type", "param", "code"}
        await until(lambda: nobody_is_in(service))
        service.runtime.core.check()
        await asyncio.sleep(0)
    assert CANARY not in caplog.text
