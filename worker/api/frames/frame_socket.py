"""Frame socket: where worker sessions in plain frames come in; TCP, with TLS or without, or Unix.

Owns the listening socket, and the file of one that is Unix. Knows no frame: who comes in, and has
proved itself where that is asked for, is handed to a protocol of the caller's. One event loop.
"""

import asyncio
import logging
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import quote

from radixroute.trust.identity import Identity
from radixroute.worker.errors import BadSetting, PortInUse
from radixroute.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)

MAX_PATH_BYTES = 107  # of a Unix socket; Linux
HANDSHAKE_S = 5.0
REFUSALS_LOGGED_EVERY_S = 10.0  # whoever scans ports must not fill the log

MakeProtocol = Callable[[], asyncio.Protocol]


class FrameSocket:
    """`open`, `close`."""

    def __init__(self, settings: WorkerSettings, identity: Identity | None) -> None:
        """`identity`: of a TCP socket; None: in the clear."""
        self._settings = settings
        self._identity = identity
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._securing: set[asyncio.Task[None]] = set()
        self._logged_s = -REFUSALS_LOGGED_EVERY_S
        self.refused = 0  # connections that did not prove themselves

    async def open(self, make: MakeProtocol) -> str:
        """Where it listens, as `GetInfo` tells it. Raises `BadSetting` and `PortInUse`."""
        if self._settings.session_dir:
            return await self._open_unix(make)
        identity = self._identity
        return await self._open_tcp(make if identity is None else self._secured(make, identity))

    def close(self) -> None:
        """Idempotent. Connections are their protocols' own."""
        if self._server is not None:
            self._server.close()
        for task in self._securing:
            task.cancel()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _open_tcp(self, make: MakeProtocol) -> str:
        host, port = self._settings.host, self._settings.session_port
        try:
            self._server = await asyncio.get_running_loop().create_server(make, host, port)
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: choose another worker.session_port, or 0"
            ) from error
        bound = self._server.sockets[0].getsockname()[1]
        return f"tcp://[{host}]:{bound}" if ":" in host else f"tcp://{host}:{bound}"

    async def _open_unix(self, make: MakeProtocol) -> str:
        path = socket_path(self._settings)
        if not has_room(self._settings):
            raise BadSetting(
                "session_dir",
                f"{path} has {len(os.fsencode(path))} bytes, and a Unix socket's path at most"
                f" {MAX_PATH_BYTES}: choose a shorter folder, or leave it empty for TCP",
            )
        _prepare(path, self._settings.worker_id)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(make, str(path))
            path.chmod(0o600)
        except OSError as error:
            raise PortInUse(f"cannot listen on {path}: {error.strerror}") from error
        self._path = path
        return f"unix://{path}"

    def _secured(self, make: MakeProtocol, identity: Identity) -> MakeProtocol:
        """Whoever proves itself goes on to a protocol of `make`."""
        context = identity.server_context()

        def accept(transport: asyncio.Transport) -> None:
            task = asyncio.create_task(self._secure(transport, context, make))
            self._securing.add(task)
            task.add_done_callback(self._securing.discard)

        return lambda: _Unproven(accept)

    async def _secure(
        self, transport: asyncio.Transport, context: ssl.SSLContext, make: MakeProtocol
    ) -> None:
        early = _Early()
        peer = transport.get_extra_info("peername")
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                early,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except (OSError, TimeoutError) as error:
            transport.abort()
            self._refuse(peer, error)
            return
        if secured is None or early.is_over:  # it left in the same moment
            return
        protocol = make()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if early.data:
            protocol.data_received(bytes(early.data))

    def _refuse(self, peer: object, error: OSError) -> None:
        self.refused += 1
        now_s = time.monotonic()
        if now_s - self._logged_s < REFUSALS_LOGGED_EVERY_S:
            return
        self._logged_s = now_s
        _log.warning(
            "a connection from %s was refused, the %dth: %s; whoever comes must speak TLS and show"
            " a router's certificate signed by who is in worker.tls_ca_file",
            peer[0] if isinstance(peer, tuple) else "?",
            self.refused,
            _words(error),
        )


class _Unproven(asyncio.Protocol):
    """A connection before its handshake."""

    def __init__(self, accept: Callable[[asyncio.Transport], None]) -> None:
        self._accept = accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.pause_reading()  # what comes is the handshake's
        self._accept(stream)


class _Early(asyncio.Protocol):
    """What comes in the turn in which a handshake ends, before the connection has its protocol."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_over = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True


def socket_path(settings: WorkerSettings) -> Path:
    """Of one life of one worker; other lives have others."""
    name = f"{quote(settings.worker_id, safe='')}.{settings.incarnation}.sock"
    return Path(settings.session_dir).absolute() / name


def has_room(settings: WorkerSettings) -> bool:
    """For the path of its Unix socket."""
    return len(os.fsencode(socket_path(settings))) <= MAX_PATH_BYTES


def _prepare(path: Path, worker_id: str) -> None:
    """A folder that nobody else can enter, without sockets of former lives in it."""
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
            raise BadSetting("session_dir", f"others can enter {folder}: chmod 700 it")
        former = f"{quote(worker_id, safe='')}."
        for one in folder.iterdir():
            if one.name.startswith(former) and one.name.endswith(".sock") and _is_stale(one):
                one.unlink(missing_ok=True)
    except OSError as error:
        raise BadSetting("session_dir", f"{folder}: {error.strerror}") from None


def _is_stale(path: Path) -> bool:
    """A socket that nobody listens at any more."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:  # it is gone, or somebody has too much to do
            return False
    return False


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it speaks no TLS"
    return error.strerror or "it left during the handshake"
