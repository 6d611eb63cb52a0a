"""Gathering over real routers, workers, engines and files of this machine."""

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from radixroute.config import load
from radixroute.deploy.process_tree import ProcessId, identify
from radixroute.deploy.settings import ClusterSettings, without_secrets
from radixroute.deploy.state.state_file import ClusterState, runtime_dir, write_state
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.gather.engines import _is_open, engines_seen
from radixroute.doctor.gather.gathering import Wanted, gather
from radixroute.doctor.gather.machine import machine_seen
from radixroute.doctor.gather.routers import RouterAt, router_seen
from radixroute.doctor.gather.sockets import certificate, get, is_local, wide, wide_ports
from radixroute.doctor.table import diagnose
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.companions.http.client import EngineAddress
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings
from tests.engines.fake_http import FakeHttp, Reply
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import fleet


def _config(tmp_path: Path, **environ: str) -> Any:
    return load(environ={"RADIXROUTE_CLUSTER_RUNTIME_DIR": str(tmp_path / "run"), **environ})


async def _gathered(tmp_path: Path, address: str, **given: Any) -> Any:
    config = _config(tmp_path)
    wanted = Wanted(config, None, lambda: address, seconds=given.pop("seconds", 0.2), **given)
    return await asyncio.to_thread(gather, wanted)


async def _served(made: Any, prompts: list[list[int]]) -> None:
    for prompt in prompts:
        async for _ in made.ask(prompt, 2):
            pass


async def test_a_fleet_that_serves_is_seen_and_is_well(tmp_path):
    async with fleet("a", "b") as made:
        await _served(made, [[group, *range(1, 30)] for group in (1, 2) for _ in range(15)])
        gathered = await _gathered(tmp_path, str(made.router.address))
        seen = gathered.evidence.router
        assert gathered.not_seen == ()
        assert {one.worker_id: one.state for one in seen.now.workers} == {"a": "live", "b": "live"}
        assert len(seen.log) == 30
        assert set(seen.told) == {"a", "b"}
        assert all(page.text for page in seen.pages.values())
        assert seen.now.page.text
        assert seen.unreached == ()
        assert {one.kind for one in seen.listeners} == {"grpc", "http", "metrics", "worker"}
        assert all(one.is_wide is False for one in seen.listeners)
        assert diagnose(gathered.evidence) == ()


async def test_looking_changes_no_counter_but_that_of_pages(tmp_path):
    async with fleet("a") as made:
        before = made.counters
        await _gathered(tmp_path, str(made.router.address))
        moved = {name for name, n in made.counters.items() if n != before[name]}
        assert moved <= {"loop_lag_over_20ms", "ticks_late", "workers_suspected"}  # a busy machine


async def test_a_worker_that_dies_and_an_engine_that_is_not_there_are_found(tmp_path):
    async with fleet("a", "b") as made:
        await made.workers["b"].stop()
        gathered = await _gathered(tmp_path, str(made.router.address), seconds=1.0)
        found = {one.code: one.where for one in diagnose(gathered.evidence)}
        assert found.get("worker_down", found.get("worker_suspect")) == "b"


async def test_no_router_is_said_and_the_machine_is_looked_at_all_the_same(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = _config(
            tmp_path, RADIXROUTE_ROUTER_PORT=str(port), RADIXROUTE_ROUTER_HTTP_PORT="0"
        )
        wanted = Wanted(config, None, lambda: f"127.0.0.1:{port}", seconds=0.0, timeout_s=0.3)
        gathered = await asyncio.to_thread(gather, wanted)
    assert gathered.evidence.router is None
    assert len(gathered.not_seen) == 1
    assert [one.code for one in diagnose(gathered.evidence)] == ["port_taken"]


def test_the_settings_of_a_running_cluster_are_its_own_and_hold_no_secret(tmp_path):
    secret = "q" * 30
    settings = ClusterSettings(
        router=RouterSettings(cluster_secret=secret, keys_file="keys"),
        engine_args=("--api-key", "k"),
    )
    told = without_secrets(settings)
    assert told["router.keys_file"] == "keys"
    assert told["cluster.workers"] == 2
    assert secret not in repr(told)
    assert "api-key" not in repr(told)
    assert "router.cluster_secret" not in told
    assert asdict(settings)["router"]["cluster_secret"] == secret


async def test_a_cluster_is_found_by_its_router_however_that_is_called(tmp_path):
    folder = runtime_dir(str(tmp_path / "run"))
    told = {"router.max_waiting": 7, "companion.model": "m"}
    me = identify(os.getpid())
    write_state(folder, ClusterState("blue", "0.0.0.0:9", me, settings=told))
    gathered = await _gathered(tmp_path, "127.0.0.1:9", seconds=0.0)
    evidence = gathered.evidence
    assert evidence.settings_are_its_own
    assert evidence.setting("router.max_waiting", 0) == 7
    assert evidence.setting("companion.model", "") == str(Path.cwd() / "m")
    assert diagnose(evidence) == ()
    assert gathered.not_seen


def _machine(tmp_path: Path, cluster: ClusterState | None = None, **settings: Any) -> Any:
    given = {"cluster.runtime_dir": str(tmp_path / "run"), **settings}
    return machine_seen(given, cluster, config_path=None, ports=())


def test_files_with_keys_are_looked_at_where_their_process_sees_them(tmp_path, monkeypatch):
    (tmp_path / "keys").write_text("a:b\n")
    (tmp_path / "keys").chmod(0o640)
    monkeypatch.chdir(tmp_path)
    me = identify(os.getpid())
    cluster = ClusterState("default", "127.0.0.1:1", me)
    seen = _machine(tmp_path, cluster, **{"router.keys_file": "keys"})
    assert [(one.setting, one.mode, one.exists) for one in seen.secrets] == [
        ("router.keys_file", 0o640, True)
    ]
    assert Path(seen.secrets[0].path).is_absolute()
    none: dict[str, Any] = {"companion.api_key_file": str(tmp_path / "none")}
    missing = _machine(tmp_path, **none).secrets[0]
    assert not missing.exists


def test_a_settings_file_counts_only_where_it_holds_a_secret(tmp_path):
    path = tmp_path / "radixroute.toml"
    path.write_text('[router]\npolicy = "radix"\n')
    path.chmod(0o644)

    def seen() -> Any:
        return machine_seen({}, None, config_path=path, ports=()).secrets

    assert seen() == ()
    path.write_text('[router]\ncluster_secret = "x"\n')
    assert [(one.setting, one.mode) for one in seen()] == [("the settings file", 0o644)]


def test_what_was_killed_is_seen_and_stays(tmp_path):
    folder = runtime_dir(str(tmp_path / "run"))
    gone = ProcessId(os.getpid(), 1)
    me = identify(os.getpid())
    assert me is not None
    write_state(folder, ClusterState("blue", "127.0.0.1:1", gone, family=(gone, me)))
    (folder / "torn.json").write_text("{")
    seen = _machine(tmp_path)
    assert [(one.name, one.orphans) for one in seen.stale] == [("blue", (os.getpid(),))]
    assert (folder / "blue.json").exists()
    assert (folder / "torn.json").exists()


def test_a_folder_that_others_may_enter_is_named_and_none_is_made(tmp_path):
    seen = _machine(tmp_path)
    assert not (tmp_path / "run").exists()
    assert seen.folder_problem == ""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    assert "0700" in _machine(tmp_path).folder_problem
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755


def test_this_machine_has_memory_cores_disks_and_files(tmp_path):
    seen = _machine(tmp_path)
    assert seen.n_cpus >= 1
    assert seen.memory_bytes > 1 << 28
    assert seen.max_files
    assert seen.disks
    assert seen.zmq_version >= (4, 3, 0)


@pytest.mark.parametrize(("host", "is_wide"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_port_is_wide_as_it_is_bound_and_not_as_it_is_called(host, is_wide):
    with socket.socket() as one:
        one.bind((host, 0))
        one.listen()
        port = one.getsockname()[1]
        assert wide_ports()[port] is is_wide
        assert wide(f"tcp://127.0.0.1:{port}", wide_ports()) is is_wide
        assert wide(f"0.0.0.0:{port}", wide_ports()) is is_wide


@pytest.mark.parametrize(("days", "words"), [("-1", "expired"), ("2", "")])
def test_a_certificate_that_is_over_is_told(tmp_path, days, words):
    cert, key, asked = (tmp_path / name for name in ("cert.pem", "key.pem", "asked.csr"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for command in (
        ("req", "-new", *curve, "-subj", "/CN=router", "-keyout", key, "-out", asked),
        ("x509", "-req", "-in", asked, "-signkey", key, "-days", days, "-out", cert),
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve_one() -> None:
            one, _ = server.accept()
            with suppress(OSError), context.wrap_socket(one, server_side=True) as secure:
                secure.recv(1)

        serving = threading.Thread(target=serve_one)
        serving.start()
        problem, left_s = certificate(address, str(cert))
        serving.join()
    assert words in problem
    assert bool(problem) is bool(words)
    assert (left_s is None) is bool(words)
    assert left_s is None or 1.9 * 86_400 < left_s <= 2 * 86_400
    assert certificate(address, str(cert)) == ("", None)  # nobody is there


def test_ipv6_is_read_too():
    try:
        one = socket.socket(socket.AF_INET6)
        one.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with one:
        one.listen()
        assert wide_ports()[one.getsockname()[1]] is False
    with socket.socket(socket.AF_INET6) as any_of_them:
        any_of_them.bind(("::", 0))
        any_of_them.listen()
        assert wide_ports()[any_of_them.getsockname()[1]] is True


def test_another_machine_is_not_this_one():
    assert is_local("127.0.0.1")
    assert is_local("localhost")
    assert not is_local("192.0.2.77")
    assert wide("192.0.2.77:5557", {}) is True
    assert wide("ipc:///run/x", {}) is None


async def test_short_exchanges_say_none_where_no_http_is():
    async def route(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return Reply(401 if path == "/v1/models" else 200, b"yes")

    http = FakeHttp(route)
    port = await http.start()
    try:
        address = f"127.0.0.1:{port}"
        assert await asyncio.to_thread(get, address, "/metrics") == (200, b"yes")
        assert await asyncio.to_thread(get, address, "/v1/models") == (401, b"")
        assert await asyncio.to_thread(lambda: get(address, "/", is_tls=True)) is None
    finally:
        await http.kill()
    assert await asyncio.to_thread(get, address, "/metrics") is None


async def _engines_seen(*urls: str) -> Any:
    settings = CompanionSettings()
    return await asyncio.to_thread(
        lambda: engines_seen(urls, settings, WorkerSettings(), sends_prompts=False)
    )


async def test_one_engine_by_two_names_is_seen_and_two_are_two():
    one, other = FakeVllm(), FakeVllm()
    urls = [await each.start() for each in (one, other)]
    try:
        named = urls[0].replace("127.0.0.1", "localhost")
        twice = diagnose(Evidence(engines=await _engines_seen(urls[0], named, urls[1])))
    finally:
        for each in (one, other):
            await each.kill()
    assert [(found.code, found.where) for found in twice] == [("same_engine_twice", named)]
    assert twice[0].seen.endswith("both URLs lead to one address")


@pytest.mark.parametrize(("host", "key", "is_open"), [
    ("0.0.0.0", "", True), ("0.0.0.0", "k", False), ("127.0.0.1", "", False),
])  # fmt: skip
async def test_an_engine_is_open_where_others_reach_it_and_no_key_is_asked_for(host, key, is_open):
    async def route(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        is_known = not key or headers.get("authorization") == f"Bearer {key}"
        return Reply(200 if is_known else 401, {"object": "list", "data": []})

    http = FakeHttp(route, host)
    port = await http.start()
    try:
        at = EngineAddress.of(f"http://127.0.0.1:{port}")
        assert await asyncio.to_thread(_is_open, at, wide_ports()) is is_open
    finally:
        await http.kill()


async def test_a_wide_door_is_tried_for_its_keys():
    service = RouterService(
        RouterSettings(host="0.0.0.0", port=0, http_port=0, metrics_port=0, insecure_bind=True)
    )
    address = await service.start()
    try:
        at = RouterAt(f"127.0.0.1:{address.port}")
        seen = await asyncio.to_thread(lambda: router_seen(at, 0.0, wants_key=None))
    finally:
        await service.stop()
    doors = [one for one in seen.listeners if one.kind in ("grpc", "http")]
    assert [(one.is_wide, one.wants_key, one.speaks_tls) for one in doors] == [
        (True, False, False)
    ] * 2
    assert [one.is_wide for one in seen.listeners if one.kind == "metrics"] == [True]


def test_a_shell_with_a_low_limit_that_may_be_raised_is_no_fault(tmp_path):
    asked = (
        "import resource;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 8192));"
        "from radixroute.doctor.gather.machine import machine_seen;"
        f"given = {{'cluster.runtime_dir': {str(tmp_path / 'run')!r}}};"
        "print(machine_seen(given, None, config_path=None, ports=()).max_files)"
    )
    said = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert int(said.stdout) == 8192
