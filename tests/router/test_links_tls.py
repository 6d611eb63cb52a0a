"""TLS between router and workers: sessions, gRPC and events; and what is said where it fails."""

import asyncio
import logging
import shutil
import ssl
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from radixroute.doctor.gather.routers import RouterAt, router_seen
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.protos.frames import HELLO
from radixroute.radix.ids import WorkerId
from radixroute.router.errors import BadSetting
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.trust.authority import Role
from radixroute.worker.errors import BadSetting as BadWorkerSetting
from radixroute.worker.errors import UnsafeBind
from radixroute.worker.service import WorkerService
from tests.router.clusters import all_live, collect, request, settings, states, until
from tests.router.real_fleet import SECRET, fleet
from tests.trust.certificates import cluster, made_in
from tests.worker.fakes import FAKE_RUNNER, make_tokenizer
from tests.worker.serving import worker_settings


@asynccontextmanager
async def started_worker(**changes):
    service = WorkerService(
        worker_settings(worker_id="w", incarnation=3, cluster_secret=SECRET, **changes),
        runner=FAKE_RUNNER,
        tokenizer=make_tokenizer(),
    )
    try:
        yield service, MemberSpec(WorkerId("w"), str(await service.start()), 3)
    finally:
        await service.stop()


async def why_refused(spec: MemberSpec, **changes) -> str:
    """What this router says of that worker."""
    service = RouterService(settings(cluster_secret=SECRET, **changes))
    await service.start()
    try:
        service.set_members([spec])
        await until(lambda: states(service) == {"w": "refused"})
        return next(iter(service.runtime.core._state.members)).reason
    finally:
        await service.stop()


async def test_a_request_goes_through_with_everything_proved():
    """Sessions in frames, `GetInfo`, tokens and events, beyond loopback without --insecure-bind."""
    one = cluster()
    wide = one.worker | {"host": "0.0.0.0"}
    router = one.link | {"link_name": "127.0.0.1"}
    async with fleet("a", worker=wide, router=router) as (service, workers, stub):
        messages = await collect(stub.Generate(request(list(range(40)), 6)))
        assert messages[-1].finish_reason == pb.FINISH_REASON_LENGTH
        a, events = WorkerId("a"), service.runtime.events
        await until(lambda: (now := events.status(a)) is not None and now.indexed_blocks > 0)
        port = workers["a"].address.port
        assert workers["a"].metrics_address.startswith("127.0.0.1:")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await rpc.EngineStub(channel).GetInfo(pb.GetInfoRequest(), timeout=5)
        await asyncio.to_thread(look_around, service, router)


def look_around(service: RouterService, links: dict[str, Any]) -> None:
    """Whoever has the router's files may ask its workers; others see that it is asked for them."""
    address = str(service.address)
    theirs = RouterSettings(**links)
    for whose, is_told in ((theirs, True), (RouterSettings(), False)):
        seen = router_seen(RouterAt(address, links=whose), 0.0, wants_key=None)
        assert bool(seen.told) is is_told
        ends = [one for one in seen.listeners if one.kind == "worker"]
        assert {(one.is_wide, one.speaks_tls) for one in ends} == {(True, True)}


async def test_what_is_wrong_between_them_is_named(tmp_path):
    one, other = cluster(), cluster("other")
    async with started_worker(**one.worker) as (_service, spec):
        assert "router.link_ca_file" in await why_refused(spec)  # a plain router
        reason = await why_refused(spec, **other.router)
        assert "unable to get local issuer" in reason
        assert "router.link_ca_file" in reason
        stranger = other.router | {"link_ca_file": one.ca}
        assert "worker.tls_ca_file" in await why_refused(spec, **stranger)
        cert, key = one.issue(Role.ROUTER, tmp_path / "old", ended=True)
        ended = one.router | {"link_cert_file": cert, "link_key_file": key}
        assert "router.link_cert_file must be in force" in await why_refused(spec, **ended)
        as_worker = {"link_cert_file": one.path("worker.pem")}
        as_worker |= {"link_key_file": one.path("worker-key.pem")}
        assert "for a router" in await why_refused(spec, **one.router, **as_worker)
        reason = await why_refused(spec, **one.router, link_name="elsewhere.example")
        assert "elsewhere.example" in reason
    async with started_worker() as (_service, spec):
        assert "it speaks no TLS: set worker.tls_cert_file" in await why_refused(spec, **one.router)


@pytest.mark.parametrize(
    ("names", "ended", "said"),
    [(["10.9.8.7"], False, "IP address mismatch"), (["127.0.0.1"], True, "has expired")],
)
async def test_a_worker_s_certificate_must_be_its_own_and_in_force(names, ended, said, tmp_path):
    one = cluster()
    cert, key = one.issue(Role.WORKER, tmp_path, names, ended=ended)
    files = one.worker | {"tls_cert_file": cert, "tls_key_file": key}
    async with started_worker(**files) as (_service, spec):
        reason = await why_refused(spec, **one.router)
        assert said in reason
        assert "worker.tls_cert_file" in reason


async def test_a_name_for_all_workers_stands_for_addresses_nobody_knows(tmp_path):
    one = cluster()
    cert, key = one.issue(Role.WORKER, tmp_path, ["workers.cluster"])
    files = one.worker | {"tls_cert_file": cert, "tls_key_file": key}
    router = one.link | {"link_name": "workers.cluster"}
    async with fleet("a", worker=files, router=router) as (service, _workers, _stub):
        assert all_live(service)


async def test_who_comes_in_the_clear_is_told_off_and_noted(caplog):
    """At the port of sessions, the worker's side says what it wants."""
    one = cluster()
    async with started_worker(**one.worker) as (service, _spec):
        endpoint = service._engine_server._info.session_endpoint
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        with caplog.at_level(logging.WARNING):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(HELLO)
            assert not (await reader.read(100)).startswith(HELLO)
            writer.close()
            await until(lambda: "worker.tls_ca_file" in caplog.text)
        assert service.unproven == 1
        # Whoever shows nothing hears nothing of sessions.
        context = ssl.create_default_context(cafile=one.ca)
        try:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            assert await reader.read(100) == b""
            writer.close()
        except OSError:
            pass


async def test_renewed_certificates_are_shown_without_a_restart(tmp_path):
    one = made_in(tmp_path / "certs")
    cert, key = one.issue(Role.WORKER, tmp_path / "old", ended=True)
    for name, path in (("worker.pem", cert), ("worker-key.pem", key)):
        shutil.copy(path, one.path(name))
    async with started_worker(**one.worker) as (_service, spec):
        service = RouterService(settings(cluster_secret=SECRET, **one.router))
        await service.start()
        try:
            service.set_members([spec])
            await until(lambda: states(service) == {"w": "refused"})
            cert, key = one.issue(Role.WORKER, tmp_path / "new")
            for name, path in (("worker-key.pem", key), ("worker.pem", cert)):
                shutil.copy(path, one.path(name))
            await until(lambda: all_live(service))
        finally:
            await service.stop()


async def test_settings_that_make_no_sense_are_refused(tmp_path):
    one = cluster()
    for wrong, name in (
        ({"link_ca_file": one.ca}, "link_cert_file"),
        ({"link_name": "x"}, "link_ca_file"),
        ({"link_cert_file": "x"}, "link_key_file"),
        ({"link_cert_file": "x", "link_key_file": "y"}, "link_ca_file"),
    ):
        with pytest.raises(BadSetting, match=name):
            settings(**wrong)
    with pytest.raises(BadWorkerSetting, match="tls_ca_file"):
        worker_settings(**one.worker | {"tls_ca_file": ""})
    with pytest.raises(UnsafeBind, match=r"worker\.tls_cert_file"):
        WorkerService(worker_settings(host="0.0.0.0"), tokenizer=make_tokenizer())
    with pytest.raises(BadWorkerSetting, match="tls_ca_file"):
        WorkerService(
            worker_settings(**one.worker | {"tls_ca_file": str(tmp_path / "none")}),
            tokenizer=make_tokenizer(),
        )
    service = RouterService(settings(**one.router | {"link_ca_file": str(tmp_path / "none")}))
    with pytest.raises(BadSetting, match="link_ca_file"):
        await service.start()
    await service.stop()
