"""Identity: what one process shows at one kind of connection, and whom it trusts there.

Owns what the PEM files hold, as ssl and gRPC want it. The files are looked at whenever a connection
begins and read again if they changed; ones that cannot be used leave in force what was. With a `ca`
both sides prove themselves; without one only who listens does. May be used by any thread.
"""

import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from radixroute.trust.errors import BadPem
from radixroute.trust.event_keys import EventKeys
from radixroute.trust.pem_files import Pem, PemFiles

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """Of one reading."""

    pem: Pem
    server: ssl.SSLContext
    client: ssl.SSLContext


class Identity:
    """Of one process, for one kind of connection."""

    def __init__(self, files: PemFiles, protocols: Sequence[str] = ()) -> None:
        """`protocols`: of ALPN, where it listens. Raises BadPem: nothing starts with files that
        cannot be used."""
        self.files = files
        self.event_keys = EventKeys.new()
        self._protocols = list(protocols)
        self._lock = threading.Lock()
        self._seen: object = None  # None: what there is could not be looked at
        self._now = self._read()

    def server_context(self) -> ssl.SSLContext:
        """For a listening socket: it shows what the files hold when somebody connects."""
        context = self._server_context()

        def swap(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
            connection.context = self._fresh().server

        context.sni_callback = swap
        return context

    def client_context(self) -> ssl.SSLContext:
        """For one connection, by what the files hold now."""
        return self._fresh().client

    def server_credentials(self) -> grpc.ServerCredentials:
        """As `server_context`, for gRPC."""
        return grpc.dynamic_ssl_server_credentials(
            _certificate(self._now.pem),
            lambda: _certificate(self._fresh().pem),
            require_client_authentication=bool(self.files.ca),
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """As `client_context`, for gRPC."""
        pem = self._fresh().pem
        return grpc.ssl_channel_credentials(pem.ca or None, pem.key, pem.cert)

    def _fresh(self) -> _Read:
        with self._lock:
            try:
                if self.files.look() != self._seen:
                    self._now = self._read()
                    _log.info("%s: %s is in force", self.files.names[0], self.files.cert)
            except OSError as error:
                if self._seen is not None:  # once, not with every connection
                    _log.error("%s stays as it was: %s", self.files.names[0], error.strerror)
                self._seen = None
            except BadPem as error:
                _log.error("%s; what was read before stays in force", error)
            return self._now

    def _read(self) -> _Read:
        """Raises BadPem; files that are still the same are not read again after it."""
        try:
            self._seen = self.files.look()
        except OSError:
            self._seen = None  # which one it is shows when it is read
        pem = self.files.read()
        # Whoever has a list of its own trusts nobody else's.
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.minimum_version = ssl.TLSVersion.TLSv1_2
        client.set_alpn_protocols(["h2"])  # gRPC's servers insist; others do not look
        self.files.load_into(client)
        return _Read(pem, self._server_context(), client)

    def _server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.files.load_into(context)
        if self.files.ca:
            context.verify_mode = ssl.CERT_REQUIRED
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        return context


def _certificate(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.cert)], root_certificates=pem.ca or None
    )
