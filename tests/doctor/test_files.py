"""Files that were overwritten while a fleet runs: what it would refuse is told, and no word of a
secret."""

import asyncio
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from radixroute.config import load
from radixroute.deploy.process_tree import identify
from radixroute.deploy.state.state_file import ClusterState, runtime_dir, write_state
from radixroute.doctor.evidence import UnusableFile
from radixroute.doctor.gather.files import secrets_of, unusable_of
from radixroute.doctor.gather.gathering import Gathered, Wanted, gather
from radixroute.doctor.table import diagnose
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.trust.authority import Role
from tests.trust.certificates import LOOPBACK, Cluster, cluster, made_in

KEY = "a-key-of-more-than-16-letters"
OTHER = "another-key-of-more-than-16"
SHORT = "too-short"


def unusable(**settings: str) -> list[UnusableFile]:
    return list(unusable_of(in_dots(settings), None))


def in_dots(settings: dict[str, Any]) -> dict[str, Any]:
    """`router__x` names router.x."""
    return {name.replace("__", ".", 1): value for name, value in settings.items()}


def in_section(section: str, settings: dict[str, str]) -> dict[str, str]:
    return {f"{section}__{name}": value for name, value in settings.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a:{KEY}\n\nb:{SHORT}\n", "line 3 is no `name:key`"),
        (f"# whose\n{KEY}\n", "line 2 is no `name:key`"),
        (f"a:{KEY}\nb:{KEY}\n", "line 2 has a key that another name has, too"),
        ("# nobody\n", "has no key"),
        (f"a:{KEY}\xff", "is no UTF-8"),
    ],
)
def test_a_keys_file_that_no_router_takes_is_told_without_a_key(tmp_path, text, words):
    path = tmp_path / "keys"
    path.write_bytes(text.encode("latin-1"))
    (found,) = unusable(router__keys_file=str(path))
    assert found.setting == "router.keys_file"
    assert found.problem.startswith(f"{path}: {words}")
    assert not any(one in found.problem for one in (KEY, SHORT))


def test_files_that_can_be_used_are_no_finding(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"a:{KEY}\na:{OTHER}\n")
    made = cluster()
    settings = in_section("router", made.router) | in_section("worker", made.worker)
    assert unusable(router__keys_file=str(path), companion__ca_file=made.ca, **settings) == []
    assert unusable(**in_section("router", made.doors), **in_section("router", made.link)) == []
    assert unusable() == []


def test_a_secret_that_is_gone_is_told_once(tmp_path):
    gone = in_dots({"router__keys_file": str(tmp_path / "keys"),
                    **in_section("router", cluster().doors),
                    "router__tls_key_file": str(tmp_path / "key.pem")})  # fmt: skip
    assert list(unusable_of(gone, None)) == []
    assert [one.exists for one in secrets_of(gone, None, None)] == [False, False]


def _swapped(made: Cluster, name: str) -> None:
    """The certificate of another key in its place."""
    shutil.copy(cluster("other").path(name), made.path(name))


def _dated(made: Cluster, later: timedelta) -> None:
    signed = made.authority().issue(Role.ROUTER, LOOPBACK, 1, datetime.now(UTC) + later)
    Path(made.path("router.pem")).write_bytes(signed.cert)
    Path(made.path("router-key.pem")).write_bytes(signed.key)


def _garbled(made: Cluster, name: str) -> None:
    Path(made.path(name)).write_text("no PEM\n")


def _gone(made: Cluster, name: str) -> None:
    Path(made.path(name)).unlink()


@pytest.mark.parametrize(
    ("of", "spoil", "name", "told"),
    [
        ("doors", _swapped, "router.pem", ("router.tls_cert_file", "KEY_VALUES_MISMATCH")),
        ("doors", _garbled, "router.pem", ("router.tls_cert_file", "PEM")),
        ("doors", _garbled, "router-key.pem", ("router.tls_cert_file", "PEM")),
        ("doors", _gone, "router.pem", ("router.tls_cert_file", "No such file")),
        ("link", _swapped, "router.pem", ("router.link_cert_file", "KEY_VALUES_MISMATCH")),
        ("link", _garbled, "ca.pem", ("router.link_ca_file", "")),
        ("router", _garbled, "ca.pem", ("router.link_ca_file", "")),
        ("router", _swapped, "router.pem", ("router.tls_cert_file", "KEY_VALUES_MISMATCH")),
        ("worker", _swapped, "worker.pem", ("worker.tls_cert_file", "KEY_VALUES_MISMATCH")),
        ("worker", _garbled, "ca.pem", ("worker.tls_ca_file", "")),
        ("worker", _gone, "ca.pem", ("worker.tls_ca_file", "No such file")),
    ],
)
def test_certificates_that_nobody_could_start_with_are_told(tmp_path, of, spoil, name, told):
    setting, words = told
    section = setting.partition(".")[0]
    made = made_in(tmp_path / "certs")
    given = in_section(section, getattr(made, of))
    assert unusable(**given) == []
    spoil(made, name)
    (found,) = unusable(**given)
    assert found.setting == setting
    assert made.path(name) in found.problem
    assert words in found.problem


@pytest.mark.parametrize("spoil", [_garbled, _gone])
def test_whom_to_believe_behind_an_engine_is_read_too(tmp_path, spoil):
    made = made_in(tmp_path / "certs")
    spoil(made, "ca.pem")
    (found,) = unusable(companion__ca_file=made.ca)
    assert found.setting == "companion.ca_file"
    assert made.ca in found.problem


def test_who_may_not_read_a_file_cannot_say_whether_it_can_be_used(tmp_path, monkeypatch):
    """But that of a cluster of one's own."""
    path = tmp_path / "keys"
    path.write_text(f"a:{KEY}\n")
    own = ClusterState("default", "127.0.0.1:1", identify(os.getpid()))
    whole = Path.open

    def denied(self: Path, *given: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return whole(self, *given, **more)

    monkeypatch.setattr(Path, "open", denied)
    settings = {"router.keys_file": str(path)}
    assert list(unusable_of(settings, None)) == []
    assert [one.problem for one in unusable_of(settings, own)] == [f"{path}: Permission denied"]


async def _gathered(folder: Path, settings: dict[str, Any], made: Cluster, spoil: Any) -> Gathered:
    """A router that was started with these files, and looked at after they were spoiled."""
    service = RouterService(RouterSettings(port=0, http_port=0, metrics_port=0, **settings))
    address = f"127.0.0.1:{(await service.start()).port}"
    told = {f"router.{name}": value for name, value in settings.items()}
    state = ClusterState("default", address, identify(os.getpid()), settings=told)
    write_state(runtime_dir(str(folder / "run")), state)
    environ = {
        "RADIXROUTE_CLUSTER_RUNTIME_DIR": str(folder / "run"),
        "RADIXROUTE_CLIENT_API_KEY": KEY,
        "RADIXROUTE_CLIENT_CA_FILE": made.ca,
    }
    spoil()
    try:
        wanted = Wanted(load(environ=environ), None, lambda: address, seconds=0.0)
        return await asyncio.to_thread(gather, wanted)
    finally:
        await service.stop()


async def test_what_was_spoiled_under_a_router_is_told_and_the_router_is_seen(tmp_path):
    made, keys = made_in(tmp_path / "certs"), tmp_path / "keys"
    keys.write_text(f"team:{KEY}\n")
    keys.chmod(0o600)

    def spoil() -> None:
        keys.write_text(f"team:{SHORT}\n")
        _swapped(made, "router.pem")

    gathered = await _gathered(tmp_path, {**made.router, "keys_file": str(keys)}, made, spoil)
    assert gathered.evidence.router is not None  # with the key and certificate of before
    found = {one.code: one for one in diagnose(gathered.evidence) if one.where == "this machine"}
    assert set(found) >= {"keys_unusable", "certificate_unusable"}
    assert found["keys_unusable"].fix.startswith("mend line 1 ")
    assert found["certificate_unusable"].fix.startswith("put both files of one pair there")
    assert not any(one in repr(found) for one in (KEY, SHORT))


@pytest.mark.parametrize(("days", "is_early"), [(3, True), (-3, False)])
async def test_a_certificate_that_is_not_valid_yet_may_be_a_clock_that_is_behind(
    tmp_path, days, is_early
):
    made = made_in(tmp_path / "certs")
    _dated(made, timedelta(days))
    gathered = await _gathered(tmp_path, made.doors, made, lambda: None)
    found = {one.code: one for one in diagnose(replace(gathered.evidence, machine=None))}
    assert ("not yet valid" in found["certificate_bad"].seen) is is_early
    assert ("clock" in found["certificate_bad"].fix) is is_early
    assert "radixroute certs --renew" in found["certificate_bad"].fix
