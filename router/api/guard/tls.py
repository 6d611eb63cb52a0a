"""TLS of both doors, from one certificate. Read once, when the router starts."""

import ssl
from pathlib import Path

import grpc

from radixroute.router.errors import BadSetting


class Tls:
    """One certificate and its key."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        """Raises BadSetting: files that cannot be read, or that do not belong together."""
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self.context.load_cert_chain(cert_file, key_file)
            pair = Path(key_file).read_bytes(), Path(cert_file).read_bytes()
        except (OSError, ssl.SSLError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise BadSetting(
                "tls_cert_file", f"{cert_file} with tls_key_file {key_file}: {reason}"
            ) from None
        self.credentials = grpc.ssl_server_credentials([pair])


def tls_of(cert_file: str, key_file: str) -> Tls | None:
    """None: neither is named."""
    return Tls(cert_file, key_file) if cert_file else None
