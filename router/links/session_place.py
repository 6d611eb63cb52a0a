"""Session place: where a worker takes sessions in plain frames, by what its `GetInfo` says."""

import asyncio
import ssl
from dataclasses import dataclass

from radixroute.events.net.bind import is_loopback
from radixroute.router.errors import JoinRefused

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - what a worker is bound to, not what we bind
_UNIX, _TCP = "unix://", "tcp://"


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """A Unix socket, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    async def connect(
        self, protocol: asyncio.Protocol, tls: ssl.SSLContext | None, name: str
    ) -> None:
        """`name`: that the other side's certificate should have; empty: its host. A Unix socket
        needs no TLS: who may open it, the system says. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(lambda: protocol, self.path)
            return
        asked = None if tls is None else name or self.host
        await loop.create_connection(
            lambda: protocol, self.host, self.port, ssl=tls, server_hostname=asked
        )


def session_place(endpoint: str, address: str) -> SessionPlace:
    """`address`: at which the worker is; a wildcard host means that one. Raises JoinRefused."""
    host = address.rpartition(":")[0].strip("[]")
    if endpoint.startswith(_UNIX):
        # Another machine's path would be some file of ours.
        if not is_loopback(host):
            raise JoinRefused(
                f"session endpoint {endpoint!r} is a file, and the worker is not on this machine:"
                " leave out worker.session_dir there"
            )
        return SessionPlace(path=endpoint.removeprefix(_UNIX))
    told, _, port = endpoint.removeprefix(_TCP).rpartition(":")
    if not told or not port.isdecimal():
        raise JoinRefused(f"session endpoint {endpoint!r} is not tcp://host:port or unix:///path")
    told = told.strip("[]")
    return SessionPlace(host=host if told in _WILDCARDS else told, port=int(port))
