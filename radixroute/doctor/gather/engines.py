"""Engines, examined: by their URLs, before they are attached or while they serve."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from radixroute.deploy.process_tree import children_named
from radixroute.doctor.evidence import EngineSeen
from radixroute.doctor.gather.sockets import (
    get,
    host_and_port,
    ip_of,
    is_connected,
    is_local,
    wide,
    wide_ports,
)
from radixroute.worker.companions.dialects.common.models import MODELS
from radixroute.worker.companions.dialects.dialect import EventPlace
from radixroute.worker.companions.http.client import EngineAddress
from radixroute.worker.companions.join.examination import Asks, Examination, examine
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings

# Of one that starts up: it is there or it is not, who looks does not wait for a model.
WAIT_S: Final = 2.0
INIT: Final = 1
OK: Final = 200
CORES: Final = ("VLLM::EngineCor",)  # as the kernel cuts names


def companion_settings(settings: Mapping[str, Any]) -> CompanionSettings:
    """Of all settings by section.field."""
    known = {one.name for one in fields(CompanionSettings)}
    given = {
        key.removeprefix("companion."): value
        for key, value in settings.items()
        if key.startswith("companion.")
    }
    return CompanionSettings(**{name: value for name, value in given.items() if name in known})


def engines_seen(
    urls: Sequence[str],
    companion: CompanionSettings,
    worker: WorkerSettings,
    *,
    sends_prompts: bool,
) -> tuple[EngineSeen, ...]:
    """`sends_prompts`: a few short ones, to each; else two probes of a few tokens, to each of
    several, which have answers to compare. Raises `BadSetting` for what is no URL."""
    settings = replace(companion, start_timeout_s=WAIT_S, connect_timeout_s=WAIT_S)
    unasked = Asks.PROBES if len(urls) > 1 else Asks.NOTHING
    asks = Asks.PROMPTS if sends_prompts else unasked

    async def all_of_them() -> list[Examination]:
        asked = (examine(settings, url, worker, asks=asks) for url in urls)
        return await asyncio.gather(*asked)

    return tuple(_seen(one) for one in asyncio.run(all_of_them()))


def _seen(examination: Examination) -> EngineSeen:
    said, host = examination.statement, EngineAddress.of(examination.url)
    places = () if said is None else said.places
    orphans: tuple[int, ...] = ()
    if said is None and is_local(host.host) and not is_connected(host.authority, WAIT_S):
        orphans = tuple(sorted(process.pid for process in children_named(INIT, CORES)))
    ports = wide_ports()
    return EngineSeen(
        examination,
        _are_wide(places, ports),
        end=f"{ip_of(host.host)}:{host.port}{host.path}",
        event_ends=tuple(end for place in places if (end := _end(place.events, host))),
        is_open=None if said is None else _is_open(host, ports),
        orphans=orphans,
    )


def _end(endpoint: str, at: EngineAddress) -> str:
    """Where that is, however it is called; empty: it cannot be compared."""
    if endpoint.startswith("ipc://"):
        return endpoint if is_local(at.host) else ""
    host, port = host_and_port(endpoint)
    return f"{ip_of(host)}:{port}" if port else ""


def _is_open(at: EngineAddress, ports: Mapping[int, bool]) -> bool | None:
    """A key that is ours is not sent: who has none is who is asked for."""
    if not wide(at.authority, ports):
        return False
    answer = get(at.authority, f"{at.path}{MODELS}", is_tls=at.scheme == "https")
    return None if answer is None else answer[0] == OK


def _are_wide(places: Sequence[EventPlace], ports: Mapping[int, bool]) -> bool | None:
    found = [wide(place.events, ports) for place in places if place.events.startswith("tcp://")]
    known = [one for one in found if one is not None]
    return any(known) if known else None
