"""Readiness: whether the router has all its workers, asked over gRPC as any client would.

Actors that run are not yet a cluster: the router may refuse a worker (another block size, scope or
tokenizer), and that reason must reach the user who started it. Never imports Ray. Called by
`cluster`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from radixroute.deploy.errors import StartError
from radixroute.protos import radixroute_pb2, radixroute_pb2_grpc

CALL_TIMEOUT_S = 5.0
LIVE, REFUSED = "live", "refused"  # member states as the wire names them


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a router listens beside gRPC: host:port; empty: nowhere, or it went away just now."""

    http_address: str = ""
    metrics_address: str = ""


def await_joined(
    router_address: str, workers: int, give_up: Callable[[], bool], pause: Callable[[], None]
) -> Doors:
    """Returns once the router serves with `workers` live workers: where else it listens.

    Raises `StartError` when it refuses one, or when `give_up()` says that the time is over.
    """
    waiting_for = "the router to answer"
    with grpc.insecure_channel(router_address) as channel:
        inspect = radixroute_pb2_grpc.InspectStub(channel)
        while not give_up():
            try:
                answer = inspect.ListWorkers(
                    radixroute_pb2.ListWorkersRequest(), timeout=CALL_TIMEOUT_S
                )
            except grpc.RpcError:
                pause()
                continue
            states = {worker.worker_id: worker.state for worker in answer.workers}
            for worker in answer.workers:
                if worker.state == REFUSED:
                    raise StartError(f"the router refused {worker.worker_id}: {worker.reason}")
            if sum(state == LIVE for state in states.values()) >= workers:
                return _doors(inspect)
            waiting_for = f"{workers} live workers; the router has {states or 'none'}"
            pause()
    raise StartError(f"gave up waiting for {waiting_for}")


def _doors(inspect: radixroute_pb2_grpc.InspectStub) -> Doors:
    try:
        info = inspect.RouterInfo(radixroute_pb2.RouterInfoRequest(), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError:
        return Doors()
    return Doors(info.http_address, info.metrics_address)
