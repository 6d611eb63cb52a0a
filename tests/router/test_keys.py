"""Bearer keys: the same at both doors, exchanged while the router runs, in no log."""

import logging
import os
from pathlib import Path

import grpc
import pytest

from radixroute.client import AsyncRouterClient
from radixroute.errors import FrontDoorError
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.limits import PartialSampling
from radixroute.router.api.guard import inspect_guard
from radixroute.router.api.guard.keys import Keys
from radixroute.router.counters import Count
from radixroute.router.errors import BadSetting
from tests.router.clusters import collect, request, until
from tests.router.fakes import FakeWorker
from tests.router.http.wire import COMPLETIONS, IDS, Answer, ask, chatting, connected

RED, BLUE, NEW = (f"{name}-key-of-32-letters-and-digits" for name in ("red", "blue", "new"))
BODY = {"prompt": IDS, "max_tokens": 2}


def write(path: Path, text: str) -> None:
    """As editors do: another file takes its place."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    write(path, f"# who may ask\nred:{RED}\n\nblue: {BLUE}\nred:{NEW}\n")
    return path


def test_names_of_keys(file):
    keys = Keys(file)
    assert [keys.name_of(f"Bearer {key}") for key in (RED, BLUE, NEW)] == ["red", "blue", "red"]
    assert keys.name_of(f"bearer  {BLUE} ") == "blue"
    for header in ("", RED, "Bearer ", f"Basic {RED}", f"Bearer {RED[:-1]}", f"Bearer {RED}x"):
        assert keys.name_of(header) is None
    assert RED not in repr(vars(keys))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key"),
        ("red", "line 1"),
        (f":{RED}", "line 1"),
        ("red:short", "line 1"),
        (f"red:{RED}\nblue:{RED}", "line 2"),
        (f"{'r' * 129}:{RED}", "line 1"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_without_its_words(file, text, words):
    write(file, text)
    with pytest.raises(BadSetting, match=words) as raised:
        Keys(file)
    assert RED not in str(raised.value)
    assert "short" not in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadSetting, match="keys_file"):
        Keys(tmp_path / "none")


def test_a_file_that_breaks_leaves_the_keys_as_they_were(file, caplog):
    keys = Keys(file)
    for break_it in (lambda: write(file, f"red:{RED}\nnonsense {NEW}"), file.unlink):
        break_it()
        for _ in range(3):
            keys.refresh()
        assert keys.name_of(f"Bearer {BLUE}") == "blue"
    assert len(caplog.records) == 2
    write(file, f"red:{NEW}\n")
    keys.refresh()
    assert keys.name_of(f"Bearer {BLUE}") is None
    assert keys.name_of(f"Bearer {NEW}") == "red"
    assert NEW not in caplog.text


async def by_http(service, key: str = "") -> Answer:
    headers = (f"Authorization: Bearer {key}",) if key else ()
    return await ask(service, COMPLETIONS, BODY, *headers)


async def test_http_asks_for_a_key_before_it_reads_a_body(file, caplog):
    caplog.set_level(logging.DEBUG)
    worker = FakeWorker("a")
    async with chatting(worker, keys_file=str(file), tenants_share_cache=False) as service:
        async with connected(service) as client:
            client.send(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
            told = await client.answer()
        assert told.status == 401
        assert told.json["error"]["type"] == "authentication_error"
        assert "www-authenticate" in told.headers
        assert (await by_http(service, RED + "x")).status == 401
        assert (await by_http(service, RED)).status == 200
        assert worker.seen[0].scope.tenant == "red"
        async with connected(service) as client:
            assert (await client.get("/healthz")).status == 200
        for path in ("/v1/models", "/metrics"):
            async with connected(service) as client:
                assert (await client.get(path)).status == 401
            async with connected(service) as client:
                assert (await client.get(path, f"Authorization: Bearer {BLUE}")).status == 200
        assert service.runtime.core._state.counters[Count.KEYS_REFUSED] == 4
        keys = service.reception.keys
        assert keys is not None
        write(file, f"red:{NEW}\n")
        await until(lambda: keys.name_of(f"Bearer {RED}") is None)
        assert (await by_http(service, RED)).status == 401
        assert (await by_http(service, NEW)).status == 200
    assert RED not in caplog.text
    assert NEW not in caplog.text


async def test_grpc_asks_for_the_same_keys(file, monkeypatch):
    worker = FakeWorker("a")
    async with (
        chatting(worker, keys_file=str(file), tenants_share_cache=False) as service,
        grpc.aio.insecure_channel(str(service.address)) as channel,
    ):
        router, inspect = rpc.RouterStub(channel), rpc.InspectStub(channel)
        red = (("authorization", f"Bearer {RED}"),)
        await collect(router.Generate(request(), metadata=red))
        await collect(router.Generate(request(tenant="red"), metadata=red))
        assert [one.scope.tenant for one in worker.seen] == ["red", "red"]
        wanted = pb.RouteRequest(request=request())
        for call, code in (
            (router.Generate(request()), grpc.StatusCode.UNAUTHENTICATED),
            (router.Generate(request(tenant="blue"), metadata=red), _INVALID),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await collect(call)
            assert raised.value.code() == code
        for call in (router.Route(wanted), router.Release(pb.ReleaseRequest(lease_id="x"))):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert (await router.Route(wanted, metadata=red)).worker_id == "a"
        # On the router's machine `up` and the command line look without a key; others do not.
        await inspect.RouterInfo(pb.RouterInfoRequest())
        monkeypatch.setattr(inspect_guard, "NEAR", ("unix:",))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await inspect.RouterInfo(pb.RouterInfoRequest())
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        await inspect.RouterInfo(pb.RouterInfoRequest(), metadata=red)


async def test_our_own_client_sends_a_key(file):
    async with chatting(keys_file=str(file)) as service:
        async with AsyncRouterClient(str(service.address), api_key=BLUE) as client:
            pieces = [one async for one in client.generate(IDS, PartialSampling(max_tokens=2))]
            assert pieces[-1].usage is not None
        async with AsyncRouterClient(str(service.address)) as client:
            with pytest.raises(FrontDoorError, match="key is needed"):
                async for _ in client.generate(IDS):
                    pass


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
