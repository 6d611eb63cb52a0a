"""Ray's own processes killed under a cluster: clients hear of it, and nothing is left running."""

import asyncio
import signal
import time
from pathlib import Path

import grpc
import pytest

from radixroute.deploy.process_tree import ProcessId, await_gone
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from tests.e2e.test_up_down import Front, front  # noqa: F401 - a fixture

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.deep, pytest.mark.timeout(400)]

TOLD_WITHIN_S = 10.0
GONE_WITHIN_S = 30.0
ENDLESS = 3500  # tokens of an answer: more than come in that time


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_clients_are_told_and_nothing_is_left_running(front: Front, name: str):  # noqa: F811
    up = front.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    state, family = front.state, front.family()
    assert state is not None
    (victim,) = (process for process in family if _program(process) == name)
    told_s, code = asyncio.run(_told_after(state.router_address, victim))
    print(f"{name} killed: told {code} after {told_s:.1f} s")
    began_s = time.monotonic()
    assert await_gone(family, GONE_WITHIN_S) == set()
    print(f"all gone {time.monotonic() - began_s:.1f} s later")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert told_s <= TOLD_WITHIN_S
    assert front.state is None
    assert not Path(state.temp_dir).exists()
    assert "the cluster's Ray is gone" in Path(state.log_path).read_text()


async def _told_after(address: str, victim: ProcessId) -> tuple[float, grpc.StatusCode]:
    """From the kill until a client is told that there is no router: asked again and again."""
    async with grpc.aio.insecure_channel(address) as channel:
        router = rpc.RouterStub(channel)
        request = pb.GenerateRequest(text="Hello", sampling=pb.SamplingParams(max_tokens=4))
        async for _ in router.Generate(request, timeout=30):
            pass
        victim.send(signal.SIGKILL)
        began_s = time.monotonic()
        while time.monotonic() - began_s < 4 * TOLD_WITHIN_S:
            try:
                async for _ in router.Generate(request, timeout=30):
                    pass
            except grpc.aio.AioRpcError as error:
                return time.monotonic() - began_s, error.code()
    raise AssertionError("the router goes on")


def _program(process: ProcessId) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().strip()
