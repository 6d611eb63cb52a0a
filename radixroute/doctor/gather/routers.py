"""A router and its workers: what they say of themselves, asked twice with some time between."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import grpc

from radixroute.client import INSPECT_TIMEOUT_S, RouterClient
from radixroute.doctor.evidence import Look, RouterSeen
from radixroute.doctor.gather.listeners import listeners_of
from radixroute.doctor.gather.sockets import TIMEOUT_S, get, host_and_port, is_local
from radixroute.doctor.page import Page
from radixroute.errors import BadConfig, FrontDoorError
from radixroute.events.net.bind import is_loopback
from radixroute.live.request_log_reader import RequestLogReader
from radixroute.live.worker_asker import WorkerAsker
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.settings import RouterSettings

MOST_LOGGED: Final = 100_000  # requests, the last ones: some seconds of looking
MOST_PAGES: Final = 1000  # of the log, a megabyte each


@dataclass(frozen=True, slots=True)
class RouterAt:
    """How one talks to a router."""

    address: str
    api_key: str = ""
    ca_file: str = ""  # empty: without TLS
    links: RouterSettings = field(default_factory=RouterSettings)  # how it comes to its workers
    timeout_s: float = INSPECT_TIMEOUT_S  # of each question


def router_seen(at: RouterAt, seconds: float, *, wants_key: bool | None) -> RouterSeen:
    """`wants_key`: as its settings say; None: not known. Raises what `RouterClient` raises."""
    began_s = time.monotonic()
    with (
        _asker(at.links) as asker,
        RouterClient(
            at.address, inspect_timeout_s=at.timeout_s, api_key=at.api_key, ca_file=at.ca_file
        ) as client,
    ):
        is_near = is_local(host_and_port(at.address)[0])
        before = _look(client, is_near=is_near)
        log = _log(client)
        with ThreadPoolExecutor(8) as pool:
            asked = {
                one.worker_id: pool.submit(_told, asker, one.address)
                for one in before.workers
                if asker and one.address and _is_for_us(one.address, is_near=is_near)
            }
            pages = {
                one.worker_id: pool.submit(_page, one.metrics_address)
                for one in before.workers
                if one.metrics_address and _is_for_us(one.metrics_address, is_near=is_near)
            }
        time.sleep(max(0.0, began_s + seconds - time.monotonic()))
        now = _look(client, is_near=is_near)
    answers = {worker_id: future.result() for worker_id, future in asked.items()}
    told = {worker_id: answer for worker_id, answer in answers.items() if answer is not None}
    return RouterSeen(
        address=at.address,
        before=before,
        now=now,
        seconds=time.monotonic() - began_s,
        age_s=_age_s(now.page),
        log=log,
        told=told,
        pages={worker_id: future.result() for worker_id, future in pages.items()},
        unreached=tuple(worker_id for worker_id, answer in answers.items() if answer is None),
        listeners=listeners_of(
            at.address, now, told, speaks_tls=bool(at.ca_file), wants_key=wants_key
        ),
    )


@contextmanager
def _asker(links: RouterSettings) -> Iterator[WorkerAsker | None]:
    """None: its certificates cannot be used now, which is told where they lie."""
    try:
        asker = WorkerAsker(links)
    except BadConfig:
        yield None
        return
    with closing(asker):
        yield asker


def _look(client: RouterClient, *, is_near: bool) -> Look:
    info = client.router_info()
    ends = [one for one in (info.metrics_address, info.http_address) if one]
    page_at = next((one for one in ends if _is_for_us(one, is_near=is_near)), "")
    return Look(
        info=info,
        workers=tuple(client.list_workers().workers),
        hits=client.hit_rates(),
        page=_page(page_at),
    )


def _is_for_us(address: str, *, is_near: bool) -> bool:
    """The loopback of another machine is not ours."""
    return is_near or not is_loopback(host_and_port(address)[0])


def _age_s(page: Page) -> float | None:
    began_s = page.total("process_start_time_seconds")
    return max(0.0, time.time() - began_s) if began_s else None


def _page(address: str) -> Page:
    answer = get(address, "/metrics") if address else None
    return Page(answer[1]) if answer is not None and answer[0] == 200 else Page()


def _log(client: RouterClient) -> tuple[pb.EndedRequest, ...]:
    """The last of it. A router that keeps no log has none."""
    reader, entries = RequestLogReader(), deque[pb.EndedRequest](maxlen=MOST_LOGGED)
    with suppress(FrontDoorError):
        for _ in range(MOST_PAGES):
            entries += reader.take(client.request_log(reader.after))
            if not reader.is_behind:
                break
    return tuple(entries)


def _told(asker: WorkerAsker, address: str) -> pb.GetInfoResponse | None:
    """What a worker says of itself; None: it does not answer from here."""
    try:
        return asker.ask(address, TIMEOUT_S)
    except grpc.RpcError:
        return None
