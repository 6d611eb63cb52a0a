"""Cluster settings: impossible ones are refused, records survive JSON."""

import json
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from radixroute.deploy.cluster.joined import join
from radixroute.deploy.errors import ConfigError
from radixroute.deploy.settings import (
    ClusterSettings,
    check_startable,
    from_record,
    settle,
    with_secret,
)
from radixroute.router.settings import RouterSettings
from radixroute.worker.settings import WorkerSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../x"},
        {"name": ""},
        {"workers": 0},
        {"num_cpus_per_worker": -1.0},
        {"start_timeout_s": 0.0},
        {"spread": True},
    ],
)
def test_settings_that_can_never_work_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ConfigError):
        ClusterSettings(**wrong)


def test_a_record_survives_json():
    settings = ClusterSettings(
        name="a",
        workers=3,
        worker=WorkerSettings(model="/m", kv_memory=7),
        router=RouterSettings(port=0, http_port=0, policy="random"),
        address="auto",
    )
    assert from_record(json.loads(json.dumps(asdict(settings)))) == settings


def test_a_relative_model_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    settled = settle(ClusterSettings(worker=WorkerSettings(model="model")))
    assert settled.worker.model == str(tmp_path / "model")


@pytest.mark.parametrize("model", ["", "/nowhere/at/all"])
def test_a_model_that_is_not_here_is_refused_before_anything_starts(model: str):
    with pytest.raises(ConfigError, match=r"worker\.model"):
        settle(ClusterSettings(worker=WorkerSettings(model=model)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (ClusterSettings(router=RouterSettings(policy="best")), "least_loaded"),
        (ClusterSettings(router=RouterSettings(host="0.0.0.0")), r"router\.host.*insecure-bind"),
        (ClusterSettings(worker=WorkerSettings(host="example.org")), r"worker\.host"),
    ],
)
def test_what_the_actors_would_refuse_is_refused_before_anything_starts(
    settings: ClusterSettings, says: str, tmp_path: Path
):
    here = replace(settings, worker=replace(settings.worker, model=str(tmp_path)))
    with pytest.raises(ConfigError, match=says):
        settle(here)
    with pytest.raises(ConfigError, match=says):
        join(replace(here, address="127.0.0.1:1"), print)


def test_a_port_in_use_and_a_strange_host_are_told_apart_before_anything_starts(tmp_path: Path):
    model = WorkerSettings(model=str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        router = RouterSettings(port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="another process listens there"):
            settle(ClusterSettings(worker=model, router=router))
        door = RouterSettings(port=0, http_port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"router\.http_port"):
            settle(ClusterSettings(worker=model, router=door))
    away = RouterSettings(host="192.0.2.1", port=50999, insecure_bind=True)
    with pytest.raises(ConfigError, match="no address of this machine"):
        settle(ClusterSettings(worker=model, router=away))


def test_a_wide_bind_may_be_asked_for(tmp_path: Path):
    wide = ClusterSettings(
        worker=WorkerSettings(model=str(tmp_path), host="0.0.0.0", insecure_bind=True),
        router=RouterSettings(host="::", insecure_bind=True),
    )
    assert settle(wide).router.host == "::"


def test_what_is_guarded_may_be_reached_by_others(tmp_path: Path):
    guarded = RouterSettings(
        port=0,
        http_port=0,
        host="::",
        keys_file="k",
        tls_cert_file="c",
        tls_key_file="k",
        link_ca_file="ca",
    )
    files: dict[str, Any] = {"tls_cert_file": "c", "tls_key_file": "k", "tls_ca_file": "ca"}
    worker = WorkerSettings(model=str(tmp_path), host="0.0.0.0", **files)
    wide = settle(ClusterSettings(worker=worker, router=guarded, spread=True))
    # The daemon and its actors run in other folders.
    assert wide.router.keys_file == str(Path("k").absolute())
    assert wide.worker.tls_ca_file == str(Path("ca").absolute())
    assert wide.worker.session_dir == ""
    unguarded = replace(wide, router=replace(guarded, keys_file=""))
    with pytest.raises(ConfigError, match="insecure-bind"):
        check_startable(unguarded)


def test_tls_between_router_and_workers_is_asked_of_both():
    files: dict[str, Any] = {"tls_cert_file": "c", "tls_key_file": "k", "tls_ca_file": "ca"}
    with pytest.raises(ConfigError, match=r"set router\.link_ca_file"):
        ClusterSettings(worker=WorkerSettings(**files))
    router = RouterSettings(link_ca_file="ca", tls_cert_file="c", tls_key_file="k")
    with pytest.raises(ConfigError, match=r"set worker\.tls_cert_file"):
        ClusterSettings(router=router)
    ClusterSettings(router=router, worker=WorkerSettings(**files))


def test_router_and_workers_get_one_secret():
    drawn = with_secret(ClusterSettings())
    assert drawn.router.cluster_secret == drawn.worker.cluster_secret != ""
    given = with_secret(ClusterSettings(worker=WorkerSettings(cluster_secret="s")))
    assert given.router.cluster_secret == given.worker.cluster_secret == "s"


def test_a_secret_does_not_show_in_the_representation():
    assert "hush" not in repr(
        with_secret(ClusterSettings(router=RouterSettings(cluster_secret="hush")))
    )
