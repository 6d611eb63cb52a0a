"""Cluster settings: how many workers, on which Ray, with which resources.

Frozen and free of Ray and torch, so that the command line can show it without either. The worker's
and the router's own settings are carried as templates: the controller fills in what differs from
one actor to the next (worker id, incarnation, host, port).
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from radixroute.deploy.errors import ConfigError
from radixroute.events.net.bind import is_loopback, why_not_free
from radixroute.insight.settings import InsightSettings
from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.registry import policy_named
from radixroute.router.settings import RouterSettings
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings

SECRET_BYTES = 16
OWN_ENGINE, VLLM = ENGINES = ("torch", "vllm")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `serve` puts a router in front of."""

    engines: tuple[str, ...] = ()  # URL or NAME=URL of each
    # Companions that share a process, and its end: a stream that two of them had is not resumed
    # again. More than 1 saves memory where there are many engines.
    engines_per_process: int = 1

    def __post_init__(self) -> None:
        if self.engines_per_process < 1:
            raise ConfigError("engines_per_process must be 1 or more")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """One cluster: a router and its workers under one controller."""

    name: str = "default"  # several clusters may share a machine or a Ray under different names
    workers: int = 2
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    companion: CompanionSettings = field(default_factory=CompanionSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    insight: InsightSettings = field(default_factory=InsightSettings)
    # What computes: torch (our own engine) or vllm (each worker starts a `vllm serve` and owns it).
    engine: str = "torch"
    engine_args: tuple[str, ...] = ()  # of each `vllm serve`, after those that let it join
    address: str | None = None  # a running Ray to join: "auto" or host:port; None starts one
    num_cpus: int | None = None  # CPUs a Ray of our own offers; None: those of the machine
    num_gpus: int | None = None  # GPUs a Ray of our own offers; None: those Ray finds
    num_cpus_per_worker: float = 1.0
    num_gpus_per_worker: float = 0.0
    spread: bool = False  # workers on any node, bound to its address; False: beside the router
    wait_for_nodes: bool = False  # the Ray joined scales up: missing resources are not an error
    # A cold start imports torch and reads the weights: 10 s for 135 M parameters on a slow disk.
    start_timeout_s: float = 180.0
    # Of the router, then of the workers. Answers get the first four fifths of it to end whole.
    stop_timeout_s: float = 10.0
    runtime_dir: str = ""  # state files and logs; empty: a directory of this user in /tmp

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"cluster name {self.name!r}: use 1-32 lower-case letters, digits and dashes"
            )
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; a cluster needs at least 1")
        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r}: use one of {', '.join(ENGINES)}")
        if self.num_cpus_per_worker < 0 or self.num_gpus_per_worker < 0:
            raise ConfigError("num_cpus_per_worker and num_gpus_per_worker cannot be negative")
        if self.start_timeout_s <= 0 or self.stop_timeout_s <= 0:
            raise ConfigError("start_timeout_s and stop_timeout_s must be greater than 0")
        if self.spread and not (self.worker.insecure_bind or self.worker.tls_cert_file):
            raise ConfigError(
                "spread binds workers to their nodes' addresses: guard them with"
                " worker.tls_cert_file, tls_key_file and tls_ca_file, or allow it with"
                " worker.insecure_bind"
            )
        check_links(self)

    @property
    def drain_s(self) -> float:
        """For answers to end whole where an actor is told to end."""
        return 0.8 * self.stop_timeout_s


def settle(settings: ClusterSettings) -> ClusterSettings:
    """Settings that mean the same in any working directory on this machine.

    Raises `ConfigError` for what the actors would refuse, a model that is not here among it:
    better now than after Ray has started.
    """
    check_startable(settings)
    settings = with_full_paths(settings)
    if not settings.worker.model:
        raise ConfigError(
            "worker.model is empty: give a Hugging Face directory or a .gguf file (--model PATH)"
        )
    model = Path(settings.worker.model).expanduser().absolute()
    if not model.exists():
        raise ConfigError(f"worker.model: {no_model(settings.worker.model)}")
    return replace(settings, worker=replace(settings.worker, model=str(model)))


def no_model(given: str) -> str:
    """What to say of a model that is not here; the hub's ids look like paths and are none."""
    if _HUB_ID.fullmatch(given):
        return (
            f"{given} does not exist here and looks like an id of the Hugging Face hub, from which "
            f"nothing is downloaded: fetch it first (`hf download {given} --local-dir DIRECTORY`) "
            "and give the directory"
        )
    return f"{given} does not exist; give a directory or a .gguf file"


def check_links(settings: ClusterSettings) -> None:
    """Raises `ConfigError` where only one side of router and workers would speak TLS."""
    router, worker = bool(settings.router.link_ca_file), bool(settings.worker.tls_cert_file)
    if router != worker:
        has, lacks = (
            ("router.link_ca_file", "worker.tls_cert_file, tls_key_file and tls_ca_file")
            if router
            else ("worker.tls_cert_file", "router.link_ca_file")
        )
        raise ConfigError(f"{has} asks for TLS between router and workers: set {lacks} as well")


def with_full_paths(settings: ClusterSettings) -> ClusterSettings:
    """Files of certificates and keys by their full paths: processes of a cluster run elsewhere. On
    other machines they lie at the same ones."""
    return replace(
        settings, worker=_with_full_paths(settings.worker), router=_with_full_paths(settings.router)
    )


R = TypeVar("R", RouterSettings, WorkerSettings)


def _with_full_paths(settings: R) -> R:
    given = {one.name: getattr(settings, one.name) for one in fields(settings)}
    full: dict[str, Any] = {
        name: str(Path(path).expanduser().absolute())
        for name, path in given.items()
        if name.endswith(("_file", "_dir")) and path
    }
    return replace(settings, **full)


def check_startable(settings: ClusterSettings) -> None:
    """Raises `ConfigError` for an unknown policy and for a bind that others could reach."""
    try:
        policy_named(settings.router.policy)
    except UnknownPolicy as error:
        raise ConfigError(f"router.policy {settings.router.policy!r}: {error}") from None
    listeners: dict[str, RouterSettings | WorkerSettings] = {
        "router": settings.router,
        "worker": settings.worker,
    }
    router = settings.router
    for name, port in (("port", router.port), ("http_port", router.http_port)):
        if port and (reason := why_not_free(router.host, port)) is not None:
            raise ConfigError(f"router.host {router.host!r}, router.{name} {port}: {reason}")
    guarded = {
        "router": bool(router.keys_file and router.tls_cert_file),
        "worker": bool(settings.worker.tls_cert_file),
    }
    for section, listener in listeners.items():
        is_safe = listener.insecure_bind or guarded[section]
        if not is_safe and not is_loopback(listener.host):
            raise ConfigError(
                f"{section}.host {listener.host!r} can be reached from other machines and nothing "
                f"guards it: use 127.0.0.1, {_GUARDS[section]}, or allow it with --insecure-bind"
            )


_GUARDS = {
    "router": "give it router.keys_file and router.tls_cert_file",
    "worker": "give it worker.tls_cert_file",
}


def with_secret(settings: ClusterSettings) -> ClusterSettings:
    """One secret for router and workers: that of the settings, or one drawn for this life."""
    secret = (
        settings.router.cluster_secret
        or settings.worker.cluster_secret
        or secrets.token_hex(SECRET_BYTES)
    )
    return replace(
        settings,
        worker=replace(settings.worker, cluster_secret=secret),
        router=replace(settings.router, cluster_secret=secret),
    )


def without_secrets(settings: ClusterSettings) -> dict[str, Any]:
    """Every setting by section.field, but for those that nobody else may read, and engines' own
    arguments, which may hold a key."""
    records: dict[str, Any] = {
        "cluster": settings,
        "worker": settings.worker,
        "router": settings.router,
        "companion": settings.companion,
        "serve": settings.serve,
        "insight": settings.insight,
    }
    return {
        f"{section}.{one.name}": value
        for section, record in records.items()
        for one in fields(record)
        if one.repr
        and one.name != "engine_args"
        and not is_dataclass(value := getattr(record, one.name))
    }


def _insight(fields: Mapping[str, Any]) -> InsightSettings:
    return InsightSettings(**{**fields, "shadows": tuple(fields["shadows"])})


def from_record(record: Mapping[str, Any]) -> ClusterSettings:
    """The inverse of `dataclasses.asdict`, for settings that came as JSON."""
    fields = dict(record)
    return ClusterSettings(
        **fields
        | {
            "engine_args": tuple(fields["engine_args"]),
            "worker": WorkerSettings(**fields["worker"]),
            "router": RouterSettings(**fields["router"]),
            "companion": CompanionSettings(**fields["companion"]),
            "serve": ServeSettings(**fields["serve"] | {"engines": (*fields["serve"]["engines"],)}),
            "insight": _insight(fields["insight"]),
        }
    )
