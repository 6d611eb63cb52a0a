"""The two sockets a publisher listens on: PUB for batches, ROUTER for whoever missed some.

Makes and binds them, native and compat alike, and says where they can be reached. Refuses a host
that others can reach unless that was asked for. Owns nothing.
"""

import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.net.bind import is_loopback
from radixroute.events.net.gate import EventGate
from radixroute.events.net.socket_thread import Socket
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.control import Endpoints

# Requests are tens of bytes; whoever sends more is not one of ours.
_MAX_REQUEST_BYTES = 4096

# Lets a last batch leave; a subscriber that takes nothing cannot hold a stop up.
LAST_LINGER_MS = 200


def require_safe_host(settings: PublisherSettings, what: str) -> None:
    """Raises unless only this machine can read `what`, or somebody allowed more."""
    if not settings.insecure_bind and not is_loopback(settings.host):
        raise LocalEventError(
            f"{what} on {settings.host} would be readable by anyone who can connect: "
            "bind 127.0.0.1, or set insecure_bind on a network you trust"
        )


def listen(
    context: zmq.Context[Socket], settings: PublisherSettings, gate: EventGate | None = None
) -> tuple[Socket, Socket]:
    """The PUB and the ROUTER socket, bound. Destroys the context where that fails.

    `gate`: open already; None: they are for everybody.
    """
    try:
        return _bind(context, settings, gate)
    except zmq.ZMQError as error:
        context.destroy(linger=0)
        raise LocalEventError(f"cannot bind the event sockets: {error.strerror}") from error


def endpoints_of(
    events: Socket, control: Socket, settings: PublisherSettings, gate: EventGate | None = None
) -> Endpoints:
    """What subscribers connect to."""
    key = b"" if gate is None else gate.key
    return Endpoints(_advertised(events, settings), _advertised(control, settings), key)


def _bind(
    context: zmq.Context[Socket], settings: PublisherSettings, gate: EventGate | None
) -> tuple[Socket, Socket]:
    events, control = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
    if gate is not None:
        gate.guard(events, control)
    events.setsockopt(zmq.SNDHWM, settings.send_high_water_mark)
    control.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
    # A full or vanished peer is an error to act on, not a silent drop.
    control.setsockopt(zmq.ROUTER_MANDATORY, 1)
    for socket, port in ((events, settings.events_port), (control, settings.control_port)):
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        socket.setsockopt(zmq.IPV6, 1 if ":" in settings.host else 0)
        socket.bind(f"tcp://{_bracketed(settings.host)}:{port or '*'}")
    return events, control


def _advertised(socket: Socket, settings: PublisherSettings) -> str:
    bound = bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
    if not settings.advertise_host:
        return bound
    return f"tcp://{_bracketed(settings.advertise_host)}:{bound.rpartition(':')[2]}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
