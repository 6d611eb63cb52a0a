"""The effective settings: `radixroute.toml`, then `RADIXROUTE_*`, then flags; later ones win.

Owns that order, and is the only module that reads the environment. Sections and keys are the fields
of the rooms' settings records; an unknown one is an error with the nearest name. Remembers where
each value came from. Imports neither torch nor Ray.
"""

import dataclasses
import difflib
import os
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from radixroute.config_values import WrongType, from_text, from_toml
from radixroute.deploy.errors import DeployError
from radixroute.deploy.settings import ClusterSettings, ServeSettings
from radixroute.errors import BadConfig
from radixroute.insight.settings import InsightSettings
from radixroute.router.errors import RouterError
from radixroute.router.settings import RouterSettings
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.errors import WorkerError
from radixroute.worker.settings import WorkerSettings

FILE_NAME = "radixroute.toml"
PREFIX = "RADIXROUTE_"
FILE_VARIABLE = PREFIX + "CONFIG"
DEFAULT = "default"
MASK = "********"
SECRET_ENDING = "_secret"  # noqa: S105 - the end of a field's name
# Addresses that mean "every interface": a client on this machine takes loopback.
ANY_HOSTS = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How commands find the router."""

    router: str | None = None  # host:port; None: the cluster that runs here, else router.host:port
    timeout_s: float = 600.0  # of one answer
    ca_file: str = ""  # PEM, of who signed the router's certificate; empty: no TLS
    api_key: str = field(default="", repr=False)  # for a router that asks for one


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it, before it is understood."""

    key: str  # section.field
    value: object
    source: str
    is_text: bool = True  # False: a TOML value, which has a type


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value, fit to be shown."""

    key: str
    value: object
    source: str
    is_secret: bool

    @property
    def shown(self) -> object:
        return MASK if self.is_secret and self.value else self.value


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is configured, each value with its source."""

    cluster: ClusterSettings
    client: ClientSettings
    sources: Mapping[str, str] = field(default_factory=dict)  # by key; absent: default

    def settings(self) -> Iterator[Setting]:
        """Every value in the order of its section's fields."""
        whole = self.cluster
        inner = (whole.worker, whole.router, whole.companion, whole.serve, whole.insight)
        records = (whole, *inner, self.client)
        for section, record in zip(SECTIONS, records, strict=True):
            for one in _fields(SECTIONS[section]):
                key = f"{section}.{one.name}"
                secret = not one.repr or one.name.endswith(SECRET_ENDING)
                source = self.sources.get(key, DEFAULT)
                yield Setting(key, getattr(record, one.name), source, secret)


SECTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "cluster": ClusterSettings,
        "worker": WorkerSettings,
        "router": RouterSettings,
        "companion": CompanionSettings,
        "serve": ServeSettings,
        "insight": InsightSettings,
        "client": ClientSettings,
    }
)


def load(
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Iterable[Given] = (),
) -> Config:
    """Reads file and environment and merges the flags. Raises `BadConfig` naming key and source."""
    environ = os.environ if environ is None else environ
    chosen = path or _path_of(environ)
    given = [*_from_file(chosen), *_from_environ(environ), *flags]
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for one in given:
        section, name = _split(one)
        values[section][name] = _understood(one, section, name)
    return Config(
        cluster=_cluster(values),
        client=_built("client", ClientSettings, values["client"]),
        sources={one.key: one.source for one in given},
    )


def flag(key: str, value: object, name: str) -> Given:
    """A flag's value, for `load`; `name` as it was typed."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return Given(key, text, name)


def assignment(text: str) -> Given:
    """The value of `--set section.field=value`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise BadConfig(f"--set {text}: write it as section.field=value")
    return Given(key.strip(), value.strip(), "--set")


def router_address(config: Config) -> str:
    """host:port a client uses when nothing else is known: `client.router`, else the router's."""
    if config.client.router is not None:
        return config.client.router
    router = config.cluster.router
    host = "127.0.0.1" if router.host in ANY_HOSTS else router.host
    return f"[{host}]:{router.port}" if ":" in host else f"{host}:{router.port}"


def _path_of(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def _from_file(path: Path | None) -> Iterator[Given]:
    if path is None:
        return
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not valid TOML: {error}") from error
    for section, table in tree.items():
        if not isinstance(table, dict):
            raise BadConfig(f"{path}: {section} stands outside a section; begin one with [cluster]")
        for name, value in table.items():
            yield Given(f"{section}.{name}", value, str(path), is_text=False)


def _from_environ(environ: Mapping[str, str]) -> Iterator[Given]:
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable != FILE_VARIABLE:
            section, _, name = variable.removeprefix(PREFIX).lower().partition("_")
            yield Given(f"{section}.{name}", environ[variable], variable)


def _split(given: Given) -> tuple[str, str]:
    """Section and field, both known; else the error names the nearest."""
    section, _, name = given.key.partition(".")
    if section not in SECTIONS:
        raise BadConfig(_unknown(given, "section", section, SECTIONS))
    names = [one.name for one in _fields(SECTIONS[section])]
    if name not in names:
        raise BadConfig(_unknown(given, "setting", name, names, prefix=section + "."))
    return section, name


def _unknown(given: Given, what: str, name: str, known: Iterable[str], *, prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{given.source}: unknown {what} {prefix}{name}; {hint}"


def _understood(given: Given, section: str, name: str) -> object:
    declared = typing.get_type_hints(SECTIONS[section])[name]
    try:
        if given.is_text:
            return from_text(str(given.value), declared, name)
        return from_toml(given.value, declared, name)
    except WrongType as error:
        raise BadConfig(f"{given.source}: {given.key} {error}") from None


def _cluster(values: Mapping[str, Mapping[str, object]]) -> ClusterSettings:
    worker = _built("worker", WorkerSettings, values["worker"])
    router = _built("router", RouterSettings, values["router"])
    companion = _built("companion", CompanionSettings, values["companion"])
    serve = _built("serve", ServeSettings, values["serve"])
    insight = _built("insight", InsightSettings, values["insight"])
    inner = {"worker": worker, "router": router, "companion": companion, "serve": serve}
    whole = {**values["cluster"], **inner, "insight": insight}
    built: ClusterSettings = _built("cluster", ClusterSettings, whole)
    return built


def _built(section: str, record: Any, values: Mapping[str, object]) -> Any:
    """The record; its own objection becomes ours."""
    try:
        return record(**values)
    except (DeployError, RouterError, WorkerError, ValueError) as error:
        raise BadConfig(f"[{section}] {error}") from error


def _fields(record: Any) -> Iterator["dataclasses.Field[Any]"]:
    """A section's own fields; records within are sections of their own."""
    hints = typing.get_type_hints(record)
    return (
        one for one in dataclasses.fields(record) if not dataclasses.is_dataclass(hints[one.name])
    )
