"""Identity: both sides prove themselves by their roles, and files may change while it listens."""

import asyncio
import logging
import shutil
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from radixroute.trust.authority import Role
from radixroute.trust.errors import BadPem
from radixroute.trust.identity import Identity
from radixroute.trust.pem_files import PemFiles
from tests.trust.certificates import cluster, made_in


def files(one, role: Role) -> PemFiles:
    return PemFiles(one.path(f"{role.value}.pem"), one.path(f"{role.value}-key.pem"), one.ca)


@asynccontextmanager
async def listening(identity: Identity):
    """Tells each who comes its own name."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("ssl_object").getpeercert()["subject"]
        writer.write(subject[0][0][1].encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=identity.server_context())
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port: int, identity: Identity) -> tuple[str, bytes]:
    """The serial number of who listens, and what was said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=identity.client_context())
    shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    try:
        return shown, await reader.readline()
    finally:
        writer.close()


@asynccontextmanager
async def grpc_listening(identity: Identity):
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", identity.server_credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def answers(port: int, identity: Identity) -> bool:
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = identity.channel_credentials()
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_router_comes_to_a_worker_and_a_worker_does_not():
    one, other = cluster(), cluster("other")
    worker, router = Identity(files(one, Role.WORKER)), Identity(files(one, Role.ROUTER))
    stranger = Identity(replace(files(other, Role.ROUTER), ca=one.ca))
    async with listening(worker) as port:
        assert (await greeting(port, router))[1] == b"radixroute router\n"
        for refused in (worker, stranger):
            with suppress(OSError):  # or the end alone: the alert may be lost with it
                assert (await greeting(port, refused))[1] == b""
        with pytest.raises(ssl.SSLCertVerificationError):  # nor does it believe that worker
            await greeting(port, Identity(files(other, Role.ROUTER)))
    async with grpc_listening(worker) as port:
        assert await answers(port, router)
        assert not await answers(port, worker)
        assert not await answers(port, stranger)
        assert not await answers(port, Identity(files(other, Role.ROUTER)))


async def test_what_is_renewed_is_shown_to_whoever_comes_next(tmp_path, caplog):
    """Certificates, and whom to trust: even another CA."""
    caplog.set_level(logging.INFO)
    one = made_in(tmp_path / "certs")
    router = Identity(files(cluster(), Role.ROUTER))
    worker = Identity(files(one, Role.WORKER))
    async with listening(worker) as port, grpc_listening(worker) as grpc_port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await greeting(port, router)
        assert not await answers(grpc_port, router)
        for name in ("worker-key.pem", "worker.pem", "ca.pem"):
            shutil.copy(cluster().path(name), one.path(name))
        assert (await greeting(port, router))[1] == b"radixroute router\n"
        assert await answers(grpc_port, router)
        assert "is in force" in caplog.text
        before = (await greeting(port, router))[0]
        (tmp_path / "certs" / "worker.pem").write_text("half of one")
        assert (await greeting(port, router))[0] == before  # what cannot be read changes nothing
        assert "tls_cert_file" in caplog.text
        (tmp_path / "certs" / "worker.pem").unlink()
        assert (await greeting(port, router))[0] == before
        assert await answers(grpc_port, router)


def test_what_cannot_be_used_is_named(tmp_path):
    good = files(cluster(), Role.WORKER)
    torn = tmp_path / "torn"
    torn.write_text("no PEM")
    for wrong, name in (
        (replace(good, cert=str(torn)), "tls_cert_file"),
        (replace(good, key=files(cluster(), Role.ROUTER).key), "tls_key_file"),
        (replace(good, key=str(tmp_path / "none")), "tls_key_file"),
        (replace(good, ca=str(torn)), "tls_ca_file"),
        (replace(good, ca=str(tmp_path / "none")), "tls_ca_file"),
    ):
        with pytest.raises(BadPem, match=name):
            Identity(wrong)
