"""Faults of clients and engines in fleets that run: found by what routers and engines tell."""

import asyncio
import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from radixroute.client import RouterClient
from radixroute.config import load
from radixroute.doctor.gather.gathering import Wanted, gather
from radixroute.doctor.table import diagnose
from radixroute.errors import RequestRefused
from radixroute.request.limits import PartialSampling
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import Fleet, fleet

Asked: TypeAlias = list[tuple[list[int], dict[str, Any]]]  # prompts and what goes with them
SAMPLING = PartialSampling(max_tokens=2)
ROOM = 4096  # blocks of an engine: nothing is evicted


def tokens(n: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(1, 90) for _ in range(n)]


async def found_in(made: Fleet, folder: Path, asked: Asked) -> dict[str, str]:
    """What is found after these prompts: by code, what was seen."""
    address = str(made.router.address)
    config = load(environ={"RADIXROUTE_CLUSTER_RUNTIME_DIR": str(folder / "run")})

    def ask_and_look() -> dict[str, str]:
        with RouterClient(address) as client:
            for prompt, scope in asked:
                with suppress(RequestRefused):
                    list(client.generate(prompt, SAMPLING, **scope))
        gathered = gather(Wanted(config, None, lambda: address, seconds=0.05))
        return {one.code: f"{one.where}: {one.seen}" for one in diagnose(gathered.evidence)}

    return await asyncio.to_thread(ask_and_look)


async def test_prompts_that_vary_at_their_beginning_are_told_from_those_that_never_repeat(tmp_path):
    shared = tokens(900, 0)
    varying: Asked = [(tokens(13 + at, 100 + at) + shared, {}) for at in range(24)]
    async with fleet("a", "b", n_blocks=ROOM) as made:
        found = await found_in(made, tmp_path, varying)
    assert set(found) == {"prefix_varies"}
    share = re.search(r"; (\d+)% repeat what an earlier prompt had behind", found["prefix_varies"])
    assert share is not None
    assert abs(int(share[1]) - 93) <= 10  # by a sample that is another at each start
    async with fleet("a", "b", n_blocks=ROOM) as made:
        found = await found_in(made, tmp_path, [(tokens(100, at), {}) for at in range(52)])
    assert set(found) == {"prompts_never_repeat"}


async def test_a_salt_for_each_request_is_told_by_what_it_costs(tmp_path):
    shared = tokens(900, 0)
    asked: Asked = [(shared, {"cache_salt": f"s{at}"} if at % 2 else {}) for at in range(30)]
    async with fleet("a", n_blocks=ROOM) as made:
        found = await found_in(made, tmp_path, asked)
    assert set(found) == {"scopes_split"}
    assert "15 salts" in found["scopes_split"]
    assert "50% repeat what a request of another salt" in found["scopes_split"]


async def test_salts_are_told_of_a_text_that_repeats_itself_whatever_the_seed(tmp_path):
    """A sentence again and again, as padding and tables are: each router has a seed of its own."""
    shared = tokens(28, 0) * 20
    asked: Asked = [(shared + tokens(7, 100 + at), {"cache_salt": f"s{at}"}) for at in range(40)]
    async with fleet("a", "b", n_blocks=ROOM) as made:
        found = await found_in(made, tmp_path, asked)
    assert set(found) == {"scopes_split"}
    assert "40 salts" in found["scopes_split"]
    share = re.search(r"; (\d+)% repeat what a request of another salt", found["scopes_split"])
    assert share is not None
    assert int(share[1]) >= 90


async def test_an_engine_that_is_much_slower_and_one_that_lacks_an_adapter_are_named(tmp_path):
    async with fleet(n_blocks=ROOM, router={"policy": "round_robin"}) as made:
        for worker_id, step_s, adapters in (("a", 0.01, ("x",)), ("b", 0.15, ())):
            engine = FakeVllm(n_blocks=ROOM, step_s=step_s, adapters=adapters)
            await made.start_engine(worker_id, engine)
            await made.join(worker_id)
        asked: Asked = [(tokens(40, at % 4), {"policy": "round_robin"}) for at in range(30)]
        found = await found_in(made, tmp_path, asked)
    assert {"worker_slow", "adapter_alone"} <= set(found)
    assert found["worker_slow"].startswith("b: ")
    assert found["adapter_alone"] == "a: of 2 it alone serves the adapter 'x'"


async def test_prompts_that_no_engine_takes_are_counted(tmp_path):
    asked: Asked = [(tokens(2000 if at % 3 == 0 else 40, at % 2), {}) for at in range(24)]
    async with fleet("a", n_blocks=ROOM) as made:
        found = await found_in(made, tmp_path, asked)
    assert found == {
        "requests_too_long": "clients: 8 of 24 requests had more tokens than the 1,024 taken"
    }
