"""A service in an actor: started once, refused with its reason, gone when it fails."""

import asyncio
import gc
import os
import socket
from dataclasses import dataclass, field

import pytest

from radixroute.deploy.actors import service_host
from radixroute.deploy.actors.service_host import EXIT_FAILED, ServiceHost
from radixroute.deploy.state.records import TOLD_TO_END
from radixroute.router.errors import PortInUse


@dataclass
class FakeAddress:
    host: str = "::1"
    port: int = 7


@dataclass
class FakeService:
    """Starts after `refusals` are used up; fails when told."""

    refusals: list[Exception] = field(default_factory=list)
    starts: int = 0
    is_stopped: bool = False
    drained_s: float = 0.0
    loop: asyncio.AbstractEventLoop | None = None
    failure: "asyncio.Future[str] | None" = None

    async def start(self) -> FakeAddress:
        self.starts += 1
        self.loop = asyncio.get_running_loop()
        self.failure = self.loop.create_future()
        if self.refusals:
            raise self.refusals.pop(0)
        return FakeAddress()

    async def wait_failed(self) -> str:
        assert self.failure is not None
        return await asyncio.shield(self.failure)

    async def stop(self, drain_s: float) -> None:
        self.drained_s = drain_s
        self.is_stopped = True

    def fail(self, reason: str) -> None:
        assert self.failure is not None
        self.failure.set_result(reason)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_host, "PORT_RETRY_S", 0.001)
    monkeypatch.setattr(service_host, "FAREWELL_S", 0.001)


async def test_a_second_start_answers_the_same_and_starts_nothing():
    service = FakeService()
    host = ServiceHost("test", lambda: service)
    outcomes = await asyncio.gather(host.start(), host.start())
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].address == "[::1]:7"
    assert outcomes[0].pid == os.getpid()
    assert service.starts == 1
    assert service.loop is not asyncio.get_running_loop()
    await host.stop()
    assert service.is_stopped


async def test_a_refusal_is_an_outcome_with_the_reason():
    host = ServiceHost("test", lambda: FakeService([ValueError("model is torn")]))
    outcome = await host.start()
    assert outcome.error == "ValueError: model is torn"


async def test_a_service_that_cannot_be_made_is_a_refusal_too():
    def make() -> FakeService:
        raise ValueError("no such policy")

    assert (await ServiceHost("test", make).start()).error == "ValueError: no such policy"


async def test_a_port_that_becomes_free_is_waited_for():
    service = FakeService([PortInUse("taken"), PortInUse("taken")])
    outcome = await ServiceHost("test", lambda: service).start()
    assert outcome.error is None
    assert service.starts == 3


async def test_a_port_that_stays_taken_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_host, "PORT_PATIENCE_S", 0.01)
    service = FakeService([PortInUse("port 7 is taken")] * 10_000)
    outcome = await ServiceHost("test", lambda: service).start()
    assert outcome.error == "port 7 is taken"
    assert service.starts > 1


async def test_of_errors_that_are_not_ours_the_kind_is_told_too():
    outcome = await ServiceHost("test", lambda: FakeService([KeyError("x")])).start()
    assert outcome.error == "KeyError: 'x'"


async def test_a_failed_service_takes_its_process_along(monkeypatch: pytest.MonkeyPatch):
    exits: asyncio.Queue[int] = asyncio.Queue()
    here = asyncio.get_running_loop()
    monkeypatch.setattr(os, "_exit", lambda code: here.call_soon_threadsafe(exits.put_nowait, code))
    service = FakeService()
    host = ServiceHost("test", lambda: service)
    await host.start()
    waiting = asyncio.create_task(host.wait_failed())
    await asyncio.sleep(0)
    await host.apply(lambda one: one.fail("engine gone"))
    assert await waiting == "engine gone"
    assert await asyncio.wait_for(exits.get(), 30) == EXIT_FAILED


async def test_a_service_that_ends_because_it_was_stopped_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    service = FakeService()
    host = ServiceHost("test", lambda: service)
    await host.start()
    await host.stop()
    await host.apply(lambda one: one.fail("stopped"))
    for _ in range(20):
        await host.ping()
    assert exits == []
    assert "service failed" not in caplog.text


async def test_a_process_told_to_end_says_so_drains_once_and_exits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    exits: asyncio.Queue[int] = asyncio.Queue()
    here = asyncio.get_running_loop()
    monkeypatch.setattr(os, "_exit", lambda code: here.call_soon_threadsafe(exits.put_nowait, code))
    monkeypatch.setattr(service_host, "NOTICE_S", 0.001)
    service = FakeService()
    host = ServiceHost("test", lambda: service, drain_s=7.0)
    await host.start()
    waiting = asyncio.create_task(host.wait_failed())
    for _ in range(2):  # a second signal changes nothing
        host.leave()
    assert await waiting == TOLD_TO_END
    assert await asyncio.wait_for(exits.get(), 30) == 0
    assert service.is_stopped
    assert service.drained_s == 7.0
    await host.stop()  # the controller's: it waits for the same end
    await host.apply(lambda one: one.fail("stopped"))
    await host.ping()
    assert exits.empty()
    assert "service failed" not in caplog.text


async def test_stop_before_start_does_nothing():
    await ServiceHost("test", FakeService).stop()


def test_an_address_that_is_not_ray_is_refused_at_once():
    from radixroute.deploy.cluster.joined import _probe
    from radixroute.deploy.errors import ConfigError, RayUnreachable

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RayUnreachable, match="ray start --head"):
        _probe(f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="host:port"):
        _probe("nonsense")


async def test_what_a_start_leaves_is_never_looked_at_again_by_the_collector():
    gc.unfreeze()
    host = ServiceHost("test", FakeService)
    await host.start()
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()
