"""Faults of engines and of room in fleets that run, each told once and as what it is."""

import asyncio
from typing import Any

import grpc
import pytest

from radixroute.doctor.kinds.serving import answering
from tests.doctor.test_planted_fleets import ROOM, Asked, found_in, tokens
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import Fleet, fleet
from tests.router.clusters import collect, until


async def asked_at_once(made: Fleet, prompts: list[list[int]], **sampling: Any) -> None:
    """Whatever becomes of them."""
    calls = (collect(made.ask(prompt, 4, **sampling)) for prompt in prompts)
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert error is None or isinstance(error, (list, grpc.aio.AioRpcError))


def many(n: int = 24) -> Asked:
    return [(tokens(40, at % 4), {}) for at in range(n)]


async def test_an_engine_that_answers_503_to_all_is_told_as_that_and_not_as_starved(tmp_path):
    async with fleet("a", "b", n_blocks=ROOM) as made:
        made.engines["b"].is_storming = True
        companion: Any = made.workers["b"]._engine
        for at in range(100):
            # One that is full is asked again when it is heard of: how often is the clock's.
            await asked_at_once(made, [tokens(40, 8 * at + one) for one in range(8)])
            if companion._counters.errors_in_a_row >= answering.NEVER_ANSWERED:
                break
        found = await found_in(made, tmp_path, many(48))
    assert set(found) == {"engine_refuses"}
    assert found["engine_refuses"].startswith("b: its engine answers with 503 (Service Unavail")


async def test_a_house_that_is_full_is_told_with_the_limit_that_refuses(tmp_path):
    async with fleet("a", n_blocks=ROOM, router={"max_in_flight": 2}, step_s=0.02) as made:
        await asked_at_once(made, [tokens(40, at % 4) for at in range(20)])
        found = await found_in(made, tmp_path, [])
    assert set(found) == {"queue_full"}
    assert "router.max_in_flight was reached by" in found["queue_full"]


async def test_a_queue_that_is_full_is_told_with_the_limit_that_refuses(tmp_path):
    given: dict[str, Any] = {"router": {"max_waiting": 1}, "companion": {"max_num_seqs": 1}}
    async with fleet("a", n_blocks=ROOM, step_s=0.02, **given) as made:
        await asked_at_once(made, [tokens(40, at % 4) for at in range(80)])
        found = await found_in(made, tmp_path, [])
    assert "router.max_waiting was reached by" in found["queue_full"]


async def test_what_clients_ask_for_wrongly_is_told_as_theirs(tmp_path):
    async with fleet("a", n_blocks=ROOM) as made:
        await asked_at_once(made, [tokens(40, at % 4) for at in range(20)], temperature=-1.0)
        found = await found_in(made, tmp_path, many())
    assert set(found) == {"requests_rejected"}
    assert found["requests_rejected"].startswith(
        "clients: 20 of 44 requests were rejected as they "
    )
    assert "'temperature'" in found["requests_rejected"]


async def test_a_core_that_stands_still_is_told_though_clients_leave(tmp_path, monkeypatch):
    """Each waits a moment and goes: no one of them waits for long."""
    monkeypatch.setattr(answering, "STILL_S", 0.5)
    async with fleet("a", "b", n_blocks=ROOM) as made:
        await asked_at_once(made, [tokens(40, at % 4) for at in range(8)])
        made.engines["b"].is_held = True
        for at in range(12):
            calls = [made.ask(tokens(40, 100 + 9 * at + one), 4) for one in range(4)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            await until(lambda: made.state.admission.house.requests == 0)
        found = await found_in(made, tmp_path, [])
    assert set(found) == {"worker_stuck"}
    assert found["worker_stuck"].startswith("b: requests waited for its engine for")


@pytest.mark.parametrize(
    ("answers_replays", "said"), [(True, "a replay mended all"), (False, "could not be mended")]
)
async def test_batches_that_are_lost_are_told_mended_or_not(tmp_path, answers_replays, said):
    async with fleet("a", n_blocks=ROOM) as made:
        events = made.engines["a"].events
        events.answers_replays = answers_replays
        for at in range(12):
            events.loses = at % 2
            await collect(made.ask(tokens(40, at), 4))
        companion: Any = made.workers["a"]._engine
        (follower,) = companion.followers
        await until(lambda: follower.gaps >= 3 and follower.is_whole)
        found = await found_in(made, tmp_path, [])
    assert "events_lost" in found
    assert said in found["events_lost"]


async def test_a_plain_server_that_keeps_nothing_is_not_said_to_evict(tmp_path):
    given: dict[str, Any] = {"kind": FakeOpenAi, "companion": {"allow_no_events": True}}
    async with fleet("a", n_blocks=ROOM, has_prefix_cache=False, **given) as made:
        found = await found_in(made, tmp_path, many())
    assert set(found) == {"keeps_nothing"}
    assert found["keeps_nothing"].startswith("a: ")


async def test_an_engine_that_ignores_salts_is_told_by_what_it_finds_cached(tmp_path):
    async with fleet("a", n_blocks=ROOM, keeps_salts=False) as made:
        shared = tokens(80, 0)
        salted: Asked = [(shared, {"cache_salt": f"salt-{at % 12}"}) for at in range(36)]
        found = await found_in(made, tmp_path, [(shared, {}), *salted])
    assert {"salts_ignored"} <= set(found) <= {"salts_ignored", "scopes_split"}
    assert found["salts_ignored"].startswith("a: for 12 salts or tenants")


async def test_a_pool_that_is_far_smaller_than_the_others_is_named(tmp_path):
    async with fleet("a", "b", n_blocks=ROOM) as made:
        await made.start_engine("c", FakeVllm(n_blocks=ROOM // 13))
        await made.join("c")
        found = await found_in(made, tmp_path, many())
    assert set(found) == {"pools_uneven"}
    assert found["pools_uneven"].startswith("c: its KV pool has 1,2")
