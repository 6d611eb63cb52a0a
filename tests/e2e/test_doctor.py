"""`radixroute doctor` as its user runs it, beside a `serve` that is well and ones that are not."""

import asyncio
import json
import os
import signal
import sys

import grpc

from radixroute.protos import radixroute_pb2_grpc as rpc
from tests.e2e.test_serve import ask, engines, folder, serve

assert folder  # a fixture


async def doctor(tmp_path, *arguments):
    """Exit code, and findings by code."""
    environment = {**os.environ, "RADIXROUTE_CLUSTER_RUNTIME_DIR": str(tmp_path / "run")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "radixroute", "doctor", "--json", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await process.communicate()
    told = json.loads(out)
    return process.returncode, {one["code"]: one for one in told["findings"]}, told


async def served(one, prompts):
    """The router's address, once each of these was answered."""
    address = (await one.says("router listens at")).rpartition(" ")[2]
    await one.says("serving with")
    async with grpc.aio.insecure_channel(address) as channel:
        router = rpc.RouterStub(channel)
        for prompt in prompts:
            async for _ in router.Generate(ask(prompt, 4)):
                pass
    return address


REPEATED = [[group, *range(1, 40)] for group in (1, 2, 3) for _ in range(10)]


async def test_a_fleet_that_is_well_has_no_finding_and_one_that_was_killed_has(tmp_path, folder):
    async with (
        engines(2) as (made, (a, b)),
        serve(tmp_path, folder, "--engine", a, "--engine", b) as one,
    ):
        address = await served(one, REPEATED)
        n_asked = [len(engine.received) for engine in made]
        code, found, told = await doctor(tmp_path)
        assert (code, found) == (0, {})
        assert told["looked_at"] == {
            "router": address,
            "workers": ["engine-0", "engine-1"],
            "engines": [a, b],
            "believed": [],
            "roots": [],
        }
        # Two fixed texts each, to see that they answer alike.
        assert [len(engine.received) for engine in made] == [n + 2 for n in n_asked]
        one.process.send_signal(signal.SIGKILL)
        await one.process.wait()
        code, found, told = await doctor(tmp_path)
        assert code == 1
        assert found["state_stale"]["fix"] == "radixroute down"
        assert told["not_seen"]


async def test_what_was_started_wrongly_is_named_with_its_flag(tmp_path, folder):
    blind = (1, {"has_events": False})
    async with (
        engines(blind[0], **blind[1]) as (_, (dark,)),
        engines(1, buffer_steps=9) as (_, (light,)),
        serve(
            *(tmp_path, folder, "--engine", dark, "--engine", light, "--allow-no-events"),
            *("--host", "0.0.0.0", "--insecure-bind", "--policy", "radix"),
        ) as one,
    ):
        await served(one, REPEATED)
        code, found, _ = await doctor(tmp_path)
        assert code == 1
        assert set(found) == {"events_off", "door_open", "door_in_clear", "replay_buffer_small"}
        assert found["events_off"]["where"] == "engine-0"
        assert "--kv-events-config" in found["events_off"]["fix"]
        assert "--insecure-bind" in found["door_open"]["fix"]
        assert "tls_cert_file" in found["door_in_clear"]["fix"]
        assert found["replay_buffer_small"]["where"] == light


async def test_an_engine_that_cannot_join_and_a_policy_that_does_not_suit(tmp_path, folder):
    async with (
        engines(2) as (_, (a, b)),
        engines(1, has_details=False) as (_, (silent,)),
        serve(
            *(tmp_path, folder, "--engine", a, "--engine", b, "--engine", silent),
            *("--policy", "round_robin"),
        ) as one,
    ):
        wanted = ("engine-0 joined", "engine-1 joined", "engine-2 cannot join")
        while not all(any(part in line for line in one.lines) for part in wanted):
            await one.says("")
        address = (next(line for line in one.lines if "router listens" in line)).split()[-1]
        async with grpc.aio.insecure_channel(address) as channel:
            router = rpc.RouterStub(channel)
            for group in range(15):
                for _ in range(3):
                    async for _ in router.Generate(ask([group + 1] * 40, 2)):
                        pass
        code, found, _ = await doctor(tmp_path)
        assert code == 1
        assert set(found) == {"cached_tokens", "policy_unsuited"}
        assert found["cached_tokens"]["where"] == "engine-2"
        assert "--enable-prompt-tokens-details" in found["cached_tokens"]["fix"]
        assert "--policy radix" in found["policy_unsuited"]["fix"]
