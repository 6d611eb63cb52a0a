"""Who else can connect to the fleet's ports, and what the doors ask of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from radixroute.doctor.evidence import Listener, Look
from radixroute.doctor.gather.sockets import (
    get,
    host_and_port,
    is_local,
    shakes_hands,
    wide,
    wide_ports,
)
from radixroute.events.net.bind import is_loopback
from radixroute.protos import radixroute_pb2 as pb

UNAUTHORIZED = 401


def listeners_of(
    address: str,
    now: Look,
    told: Mapping[str, pb.GetInfoResponse],
    *,
    speaks_tls: bool,
    wants_key: bool | None,
) -> tuple[Listener, ...]:
    """`speaks_tls`: as whoever talked to its gRPC door knows. `wants_key`: None: to be tried."""
    ports = wide_ports()
    is_near = is_local(host_and_port(address)[0])
    found = [
        replace(one, is_wide=wide(one.address, ports))
        for one in _known(address, now, told)
        if is_near or not is_loopback(host_and_port(one.address)[0])
    ]
    http = next((one for one in found if one.kind == "http"), None)
    if wants_key is None and http is not None and any(_is_wide_door(one) for one in found):
        wants_key = _wants_key(http.address, is_tls=speaks_tls)
    return tuple(_looked_at(one, speaks_tls, wants_key) for one in found)


def _looked_at(one: Listener, speaks_tls: bool, wants_key: bool | None) -> Listener:
    if _is_wide_door(one):
        return replace(one, speaks_tls=speaks_tls, wants_key=wants_key)
    if one.is_wide and one.kind == "worker":
        # A worker that does asks whoever comes for a router's certificate.
        return replace(one, speaks_tls=shakes_hands(one.address))
    return one


def _known(address: str, now: Look, told: Mapping[str, pb.GetInfoResponse]) -> Iterator[Listener]:
    yield Listener("the gRPC door", "grpc", address)
    info = now.info
    if info.http_address:
        yield Listener("the HTTP door", "http", info.http_address)
    if info.metrics_address:
        yield Listener("the router's metrics page", "metrics", info.metrics_address)
    for one in now.workers:
        yield from _of_worker(one, told.get(one.worker_id, pb.GetInfoResponse()))


def _of_worker(one: pb.WorkerStatus, told: pb.GetInfoResponse) -> Iterator[Listener]:
    ends: Iterable[tuple[str, str, str]] = (
        (one.worker_id, "worker", one.address),
        (one.worker_id, "worker", told.session_endpoint),
        (f"{one.worker_id}'s metrics page", "metrics", one.metrics_address),
        (one.worker_id, "compat", one.compat_events_endpoint),
    )
    for what, kind, address in ends:
        if address and not address.startswith(("unix:", "ipc:")):
            yield Listener(what, kind, address.removeprefix("tcp://"))


def _is_wide_door(one: Listener) -> bool:
    return bool(one.is_wide) and one.kind in ("grpc", "http")


def _wants_key(address: str, *, is_tls: bool) -> bool | None:
    answer = get(address, "/v1/models", is_tls=is_tls)
    return None if answer is None else answer[0] == UNAUTHORIZED
