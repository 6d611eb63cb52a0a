"""Engines as they are given to `serve`: `URL` or `name=URL`. Pure.

A worker keeps its name over all its lives, so that graphs and logs do: the one given, else its
place in the list.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from radixroute.deploy.errors import ConfigError
from radixroute.radix.ids import WorkerId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMED = re.compile(r"([^=:/]*)=(.*)", re.DOTALL)
# Clients write the address of the API; the engine's other pages lie beside it.
_API = "/v1"


@dataclass(frozen=True, slots=True)
class EngineAt:
    """One engine: the worker's name, and where the engine answers HTTP."""

    name: WorkerId
    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)


def engines_of(given: Sequence[str]) -> tuple[EngineAt, ...]:
    """Raises `ConfigError` for what is no URL, and for a name or an engine given twice."""
    if not given:
        raise ConfigError(
            "no engine: give --engine URL for each one, e.g. --engine http://10.0.0.1:8000"
        )
    engines = tuple(_engine(text.strip(), index) for index, text in enumerate(given))
    told: dict[str, list[str]] = {
        "name": [engine.name for engine in engines],
        "URL": [engine.url for engine in engines],
    }
    for what, values in told.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(f"two engines have the {what} {twice[0]}: each needs its own")
    return engines


def _engine(text: str, index: int) -> EngineAt:
    named = _NAMED.fullmatch(text)
    name, url = (named[1], named[2]) if named else (f"engine-{index}", text)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"engine {index}: {name!r} is no name: use up to 64 letters, digits, '.', '_' and '-'"
        )
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(
            f"engine {name}: {url!r} is no URL of an engine; write http://HOST:PORT, or"
            " NAME=http://HOST:PORT"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"engine {name}: give its URL without user, query or fragment; a key is named by"
            " --engine-key-file"
        )
    return EngineAt(WorkerId(name), url.rstrip("/").removesuffix(_API))
