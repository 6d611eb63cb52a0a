"""Router look: what whoever started a router wants to see of it, read in its own process.

No door is asked: what those want of whoever comes, keys and certificates, is its clients' matter.
"""

from radixroute.deploy.state.records import MemberLook, RouterLook
from radixroute.router.api.grpc.inspect import list_workers
from radixroute.router.service import RouterService


def look_at(service: RouterService) -> RouterLook:
    """In the router's loop."""
    scheme = "https" if service.speaks_tls else "http"
    http, metrics = service.http_address, service.metrics_address
    return RouterLook(
        tuple(
            MemberLook(one.worker_id, one.state, one.reason)
            for one in list_workers(service.runtime).workers
        ),
        "" if http is None else f"{scheme}://{http}/v1",
        "" if metrics is None else f"http://{metrics}/metrics",
    )
