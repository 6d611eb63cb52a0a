"""Gathering: all evidence for one run of the command, and what could not be looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from radixroute.client import INSPECT_TIMEOUT_S
from radixroute.config import Config
from radixroute.deploy.serving.engines import engines_of
from radixroute.deploy.settings import without_secrets
from radixroute.deploy.state.state_file import ClusterState, runtime_path, states_in, unsafe
from radixroute.doctor.evidence import EngineSeen, Evidence, RouterSeen
from radixroute.doctor.gather.engines import companion_settings, engines_seen
from radixroute.doctor.gather.files import paths_of
from radixroute.doctor.gather.machine import machine_seen
from radixroute.doctor.gather.routers import RouterAt, router_seen
from radixroute.doctor.gather.sockets import certificate, host_and_port, is_local, reachable
from radixroute.errors import FrontDoorError, RouterUnreachable

_LINKS: Final = (
    *("tls_cert_file", "tls_key_file"),
    *("link_ca_file", "link_cert_file", "link_key_file", "link_name"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at."""

    config: Config
    config_path: Path | None  # of the settings file
    find_router: Callable[[], str] | None  # host:port; None: no router is looked at
    engines: tuple[str, ...] = ()  # URLs that get prompts
    seconds: float = 1.0  # between two looks at a router
    timeout_s: float = INSPECT_TIMEOUT_S  # of each question to it


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was seen, and sentences about what was not."""

    evidence: Evidence
    not_seen: tuple[str, ...] = ()


def gather(wanted: Wanted) -> Gathered:
    """Raises `BadInput` and `BadConfig` of the rooms below for what is no address."""
    address, problem = _address(wanted)
    cluster = _cluster_of(wanted, address)
    settings = without_secrets(wanted.config.cluster)
    is_own = cluster is not None and bool(cluster.settings)
    if cluster is not None and is_own:
        settings = {**settings, **cluster.settings, **paths_of(cluster.settings, cluster)}
    router: RouterSeen | None = None
    if address:
        try:
            router = _router(wanted, address, settings, is_own=is_own)
        except FrontDoorError as error:
            problem = str(error)
    engines = _engines(wanted, settings, is_own=is_own)
    machine = machine_seen(
        settings,
        cluster,
        config_path=wanted.config_path,
        ports=_ports(wanted, cluster, is_router_there=router is not None),
    )
    not_seen = [problem] if problem else []
    of_certificate = _certificate(wanted, address, settings, is_own=is_own)
    evidence = Evidence(router, engines, machine, settings, is_own, *of_certificate)
    return Gathered(evidence, tuple(not_seen))


def _address(wanted: Wanted) -> tuple[str, str]:
    """Of the router, and why there is none."""
    if wanted.find_router is None:
        return "", ""
    try:
        return wanted.find_router(), ""
    except FrontDoorError as error:
        if error.exit_code != 1:
            raise
        return "", str(error)


def _cluster_of(wanted: Wanted, address: str) -> ClusterState | None:
    """The live one of this machine that has this router."""
    folder = runtime_path(wanted.config.cluster.runtime_dir)
    if not address or not folder.exists() or unsafe(folder):
        return None
    wanted_at = _end(address)
    live = (one for one in states_in(folder) if one.is_live)
    return next((one for one in live if _end(one.router_address) == wanted_at), None)


def _end(address: str) -> tuple[str, int]:
    """The same however an address of every interface is written."""
    host, port = host_and_port(address)
    return reachable(host), port


def _router(
    wanted: Wanted, address: str, settings: Mapping[str, Any], *, is_own: bool
) -> RouterSeen:
    client = wanted.config.client
    wants_key = bool(settings.get("router.keys_file")) if is_own else None
    links = wanted.config.cluster.router
    if is_own:
        given = {name: settings.get(f"router.{name}") for name in _LINKS}
        links = replace(links, **{name: value for name, value in given.items() if value})
    at = RouterAt(address, client.api_key, client.ca_file, links, wanted.timeout_s)
    certificate = str(settings.get("router.tls_cert_file") or "")
    if not at.ca_file and is_own and certificate:
        at = replace(at, ca_file=certificate)  # one that signed itself, perhaps
    host, port = host_and_port(address)
    if not at.ca_file or not is_local(host):
        return router_seen(at, wanted.seconds, wants_key=wants_key)
    try:
        at = replace(at, address=f"{reachable(host)}:{port}")
        return router_seen(at, wanted.seconds, wants_key=wants_key)
    except RouterUnreachable:  # certificates of this machine have that name, if no address
        at = replace(at, address=f"localhost:{port}")
        return router_seen(at, wanted.seconds, wants_key=wants_key)


def _certificate(
    wanted: Wanted, address: str, settings: Mapping[str, Any], *, is_own: bool
) -> tuple[str, float | None]:
    """What is wrong with it and how long it has left, by the file that says who may sign it."""
    ca_file = wanted.config.client.ca_file
    if not ca_file and is_own:
        ca_file = str(settings.get("router.tls_cert_file") or "")
    return certificate(address, ca_file) if address and ca_file else ("", None)


def _engines(
    wanted: Wanted, settings: Mapping[str, Any], *, is_own: bool
) -> tuple[EngineSeen, ...]:
    """Those that were named; else those that the running cluster has, without a prompt to them."""
    companion, worker = companion_settings(settings), wanted.config.cluster.worker
    if wanted.engines:
        return engines_seen(wanted.engines, companion, worker, sends_prompts=True)
    served: Sequence[str] = settings.get("serve.engines", ()) if is_own else ()
    urls = [one.url for one in engines_of(served)] if served else []
    return engines_seen(urls, companion, worker, sends_prompts=False) if urls else ()


def _ports(
    wanted: Wanted, cluster: ClusterState | None, *, is_router_there: bool
) -> list[tuple[str, str, int]]:
    """Those that a router of ours would take, where none runs. Before an engine is attached, those
    that are the engine's."""
    router = wanted.config.cluster.router
    ports = [
        ("router.port", router.host, router.port),
        ("router.http_port", router.host, router.http_port or 0),
    ]
    if is_router_there or cluster is not None:
        return []
    if not wanted.engines:
        return ports
    theirs = {port for host, port in map(_host_and_port, wanted.engines) if is_local(host)}
    return [one for one in ports if one[2] in theirs]


def _host_and_port(url: str) -> tuple[str, int]:
    return host_and_port(url.rpartition("://")[2].partition("/")[0])
