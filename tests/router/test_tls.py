"""TLS at both doors, from one certificate; a wide bind with keys and TLS needs no word more."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from radixroute.client import AsyncRouterClient
from radixroute.errors import FrontDoorError, RouterUnreachable
from radixroute.request.limits import PartialSampling
from radixroute.router.errors import BadSetting, UnsafeBind
from radixroute.router.service import RouterService
from tests.router.clusters import settings
from tests.router.fakes import answer, text_of
from tests.router.http.wire import IDS, chatting
from tests.trust.certificates import cluster, made_in

KEY = "a-key-of-more-than-16-letters"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Settings with a certificate of 127.0.0.1 that signed itself."""
    folder: Path = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=router"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return {"tls_cert_file": str(cert), "tls_key_file": str(key)}


async def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return subprocess.CompletedProcess(
        arguments, process.returncode or 0, out.decode(), err.decode()
    )


async def test_both_doors_speak_tls_and_nothing_else(files):
    async with chatting(**files) as service:
        url = f"https://{service.http_address}/v1/models"
        told = await curl("--cacert", files["tls_cert_file"], url)
        assert '"tiny"' in told.stdout
        assert (await curl(url)).returncode != 0  # nobody it knows signed that
        assert '"tiny"' not in (await curl(url.replace("https", "http"))).stdout
        ca = files["tls_cert_file"]
        async with AsyncRouterClient(str(service.address), ca_file=ca) as client:
            sampling = PartialSampling(max_tokens=3)
            pieces = [one.text async for one in client.generate(IDS, sampling)]
            assert "".join(pieces) == text_of(answer(IDS, 3))
        await fails(service, "set client.ca_file")
        await fails(service, "is not believed", ca_file=cluster().ca)
    async with chatting() as service:
        await fails(service, "speaks no TLS: leave out client.ca_file", ca_file=ca)


async def fails(service: RouterService, said: str, **client) -> None:
    """A client that is made so has no answer, and is told why."""
    address = str(service.address)
    async with AsyncRouterClient(address, lost_router_wait_s=0, **client) as one:
        with pytest.raises(RouterUnreachable, match=said):
            await one.list_workers()
        with pytest.raises(FrontDoorError):
            async for _ in one.generate(IDS):
                pass


async def test_what_is_guarded_may_be_reached_by_others(files, tmp_path):
    """And its metrics, which ask for no key, are not shown to them."""
    keys = tmp_path / "keys"
    keys.write_text(f"me:{KEY}")
    wide = {"host": "0.0.0.0", "keys_file": str(keys)}
    with pytest.raises(UnsafeBind, match="tls_cert_file"):
        await RouterService(settings(**wide)).start()
    service = RouterService(settings(**wide, **files))
    await service.start()
    try:
        assert service.metrics_address is not None
        assert service.http_address is not None
        assert service.metrics_address.host == "127.0.0.1"
        url = f"https://127.0.0.1:{service.http_address.port}/v1/models"
        by_key = await curl(
            "--cacert", files["tls_cert_file"], url, "-H", f"Authorization: Bearer {KEY}"
        )
        assert '"list"' in by_key.stdout
        assert "invalid_api_key" in (await curl("--cacert", files["tls_cert_file"], url)).stdout
    finally:
        await service.stop()


async def test_both_doors_show_renewed_certificates_without_a_restart(tmp_path):
    mine, other = made_in(tmp_path / "certs"), cluster()
    async with chatting(**mine.doors) as service:
        for ca, is_known in ((mine.ca, True), (other.ca, False)):
            assert await knows(service, ca) is is_known
        for name in ("router-key.pem", "router.pem"):
            shutil.copy(other.path(name), mine.path(name))
        for ca, is_known in ((mine.ca, False), (other.ca, True)):
            assert await knows(service, ca) is is_known


async def knows(service: RouterService, ca: str) -> bool:
    """Whether a client with this CA believes both doors; HTTP is agreed on at the one."""
    assert service.http_address is not None
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", service.http_address.port, ssl=context
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
    except ssl.SSLCertVerificationError:
        await fails(service, "is not believed", ca_file=ca)
        return False
    async with AsyncRouterClient(str(service.address), ca_file=ca) as client:
        await client.list_workers()
    return True


async def test_files_that_make_no_sense_are_refused(files, tmp_path):
    with pytest.raises(BadSetting, match="tls_key_file"):
        settings(tls_cert_file="x")
    other = tmp_path / "other"
    other.write_text("no key")
    for wrong in ({"tls_key_file": str(other)}, {"tls_cert_file": str(tmp_path / "none")}):
        service = RouterService(settings(**{**files, **wrong}))
        with pytest.raises(BadSetting, match="tls_cert_file"):
            await service.start()
        await service.stop()
