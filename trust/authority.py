"""Authority: a cluster's own CA, which signs certificates of routers and of workers.

Pure but for the randomness of keys: PEM in, PEM out. A router may come to workers and be come to by
clients; a worker may only be come to, so that none can pass for a router.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from radixroute.trust.errors import CertsError

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
# Machines' clocks differ: what was made now must be good on all of them.
_EARLIER = timedelta(hours=1)


class Role(Enum):
    """Whose certificate it is; the value is the name of its files."""

    ROUTER = "router"
    WORKER = "worker"


_USAGES = {
    Role.ROUTER: [Usage.SERVER_AUTH, Usage.CLIENT_AUTH],
    Role.WORKER: [Usage.SERVER_AUTH],
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its key, as PEM."""

    cert: bytes
    key: bytes


class Authority:
    """One CA."""

    def __init__(self, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._cert = cert
        self._key = key

    @classmethod
    def new(cls, days: int, now: datetime) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        # Two clusters' CAs must not be taken for each other in what looks at names alone.
        name = _name(f"radixroute cluster {x509.random_serial_number() & 0xFFFFFFFF:08x}")
        builder = _builder(name, name, key.public_key(), days, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_key_usage(signs_certs=True), True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return cls(builder.add_extension(identifier, False).sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, signed: Signed) -> "Authority":
        """Raises CertsError."""
        try:
            cert = x509.load_pem_x509_certificate(signed.cert)
            key = serialization.load_pem_private_key(signed.key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertsError(
                f"the CA's certificate or its key is no PEM of ours: {error}"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or cert.public_key() != key.public_key():
            raise CertsError("the CA's certificate and its key do not belong together")
        return cls(cert, key)

    @property
    def signed(self) -> Signed:
        """Its own."""
        return Signed(_pem(self._cert), _key_pem(self._key))

    @property
    def ends(self) -> datetime:
        return self._cert.not_valid_after_utc

    def issue(self, role: Role, names: Sequence[str], days: int, now: datetime) -> Signed:
        """`names`: hosts and addresses at which it is come to. Raises CertsError."""
        if now + timedelta(days=days) > self.ends:
            raise CertsError(
                f"the CA itself ends on {self.ends:%Y-%m-%d}, before {days} days are over: give "
                "fewer with --days, or begin anew with --force"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"radixroute {role.value}")
        builder = _builder(subject, self._cert.subject, key.public_key(), days, now)
        for extension, is_critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certs=False), True),
            (x509.ExtendedKeyUsage(_USAGES[role]), False),
            (x509.SubjectAlternativeName([_general(name) for name in names]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, is_critical)
        return Signed(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))


def names_of(cert: bytes) -> tuple[str, ...]:
    """For whom it was made. Raises CertsError."""
    try:
        read = x509.load_pem_x509_certificate(cert)
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertsError(f"it is no certificate of ours: {error}") from None
    return tuple(str(one.value) for one in found)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        labels = name.removeprefix("*.").split(".")
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            raise CertsError(
                f"{name!r} is no host name or address: write it as clients do, without a port"
            ) from None
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certs,
        crl_sign=signs_certs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
