"""PEM files: a certificate, its key and whom to believe, with the settings that name them."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from radixroute.trust.errors import BadPem


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files held, once."""

    cert: bytes
    key: bytes
    ca: bytes  # empty: whoever comes needs none


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Of one `Identity`. `names`: the settings, in the same order."""

    cert: str
    key: str
    ca: str = ""  # of who signed those at the other end; empty: they need not prove themselves
    names: tuple[str, str, str] = ("tls_cert_file", "tls_key_file", "tls_ca_file")

    def look(self) -> object:
        """Differs once one of them was written. Raises OSError."""
        seen = [Path(path).stat() for path in (self.cert, self.key, self.ca) if path]
        return [(one.st_mtime_ns, one.st_size, one.st_ino) for one in seen]

    def read(self) -> Pem:
        """Raises BadPem."""
        texts = []
        for path, name in zip((self.cert, self.key, self.ca), self.names, strict=True):
            try:
                texts.append(Path(path).read_bytes() if path else b"")
            except OSError as error:
                raise BadPem(name, f"{path}: {error.strerror}") from None
        return Pem(*texts)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises BadPem, naming the file at fault."""
        cert_name, key_name, ca_name = self.names
        try:
            # A key with a password would be asked for at the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise BadPem(
                cert_name, f"{self.cert} with {key_name} {self.key}: {_reason(error)}"
            ) from None
        if not self.ca:
            return
        try:
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadPem(ca_name, f"{self.ca}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "is no PEM"
    return error.strerror or "cannot be read"
