"""Engines, examined: by their URLs, before they are attached or while they serve."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from radixroute.deploy.process_tree import children_named
from radixroute.doctor.evidence import EngineSeen
from radixroute.doctor.gather.sockets import is_connected, is_local, wide, wide_ports
from radixroute.worker.companions.dialects.dialect import EventPlace
from radixroute.worker.companions.http_client import EngineAddress
from radixroute.worker.companions.join.examination import Examination, examine
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings

# Of one that starts up: it is there or it is not, who looks does not wait for a model.
WAIT_S: Final = 2.0
INIT: Final = 1
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
    """`sends_prompts`: a few short ones, to each. Raises `BadSetting` for what is no URL."""
    settings = replace(companion, start_timeout_s=WAIT_S, connect_timeout_s=WAIT_S)

    async def all_of_them() -> list[Examination]:
        asked = (examine(settings, url, worker, sends_prompts=sends_prompts) for url in urls)
        return await asyncio.gather(*asked)

    return tuple(_seen(one) for one in asyncio.run(all_of_them()))


def _seen(examination: Examination) -> EngineSeen:
    said, host = examination.statement, EngineAddress.of(examination.url)
    places = () if said is None else said.places
    orphans: tuple[int, ...] = ()
    if said is None and is_local(host.host) and not is_connected(host.authority, WAIT_S):
        orphans = tuple(sorted(process.pid for process in children_named(INIT, CORES)))
    return EngineSeen(examination, _are_wide(places), orphans)


def _are_wide(places: Sequence[EventPlace]) -> bool | None:
    ports = wide_ports()
    found = [wide(place.events, ports) for place in places if place.events.startswith("tcp://")]
    known = [one for one in found if one is not None]
    return any(known) if known else None
