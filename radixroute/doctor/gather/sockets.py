"""Ports of this machine, as the kernel lists them, and short exchanges over HTTP without any proxy.

Nothing here raises for what is not there: whoever is silent answers None.
"""

import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from radixroute.events.net.bind import is_loopback

TIMEOUT_S: Final = 2.0
MAX_PAGE_BYTES: Final = 8 << 20
_LISTEN: Final = "0A"  # linux/tcp_states.h
_NOT_YET, _EXPIRED = 9, 10  # openssl/x509_vfy.h
ANY_HOSTS: Final = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not bound


def host_and_port(address: str) -> tuple[str, int]:
    """Of `host:port` or `tcp://host:port`; port 0: it has none."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def reachable(host: str) -> str:
    """What to connect to where somebody listens at `host`."""
    return "127.0.0.1" if host in ANY_HOSTS else host


def is_local(host: str) -> bool:
    """An address of this machine."""
    if host in ANY_HOSTS or is_loopback(host):
        return True
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def wide_ports() -> dict[int, bool]:
    """Ports that somebody listens on in this machine -> whether others can connect to them."""
    found: dict[int, bool] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                number = int(port, 16)
                found[number] = found.get(number, False) or not _is_loopback_hex(address)
    return found


def _is_loopback_hex(address: str) -> bool:
    """As the kernel writes it: words of four bytes, each little-endian."""
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    return is_loopback(_ip(b"".join(words)))


def _ip(packed: bytes) -> str:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, packed)
    return text.removeprefix("::ffff:") if "." in text else text


def get(address: str, path: str, *, is_tls: bool = False) -> tuple[int, bytes] | None:
    """Status and body of one GET; None: no HTTP answer. Whose certificate it is, is not asked."""
    host, port = host_and_port(address)
    name = reachable(host)
    name = f"[{name}]" if ":" in name else name
    url = f"{'https' if is_tls else 'http'}://{name}:{port}{path}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read(MAX_PAGE_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""
    except (OSError, ValueError):
        return None


def ip_of(host: str) -> str:
    """Its address: that of loopback where it is this machine; what has none stays as it is."""
    if is_local(host):
        return "127.0.0.1"
    try:
        return str(socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0][4][0])
    except OSError:
        return host


def shakes_hands(address: str) -> bool:
    """Whether TLS is spoken there, whatever is shown and asked for."""
    host, port = host_and_port(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((reachable(host), port), TIMEOUT_S) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def certificate(address: str, ca_file: str) -> tuple[str, float | None]:
    """Of the certificate that is shown there: why its time is not now, and how long it has left in
    seconds. Empty and None: there is none that `ca_file` vouches for. Its name is not asked:
    clients use the names they use."""
    host, port = host_and_port(address)
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((reachable(host), port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=reachable(host)) as secure,
        ):
            ends = (secure.getpeercert() or {}).get("notAfter")
    except ssl.SSLCertVerificationError as error:
        is_over = error.verify_code in (_NOT_YET, _EXPIRED)
        return f"the certificate at {address}: {error.verify_message}" if is_over else "", None
    except (OSError, ValueError):
        return "", None
    return "", ssl.cert_time_to_seconds(ends) - time.time() if isinstance(ends, str) else None


def is_connected(address: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Somebody takes connections there."""
    host, port = host_and_port(address)
    try:
        with socket.create_connection((reachable(host), port), timeout_s):
            return True
    except OSError:
        return False


def wide(address: str, ports: Mapping[int, bool]) -> bool | None:
    """Whether other machines can connect there. `ports`: as `wide_ports` has them."""
    host, port = host_and_port(address)
    if not port:
        return None
    if is_local(host):
        return ports.get(port)
    return True
