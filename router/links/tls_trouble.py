"""TLS trouble: why a worker that was reached did not take this router, or the other way round.

gRPC says of all of it that nobody is there. So the same place is tried once more, without gRPC, and
what stands in the way is told with the settings that mend it. Owns nothing; decides nothing.
"""

import asyncio
import ssl

from radixroute.trust.identity import Identity

PATIENCE_S = 2.0
_NO_TLS_HERE = (
    "it speaks TLS and this router does not: set router.link_ca_file, and router.link_cert_file"
    " with its key"
)
_NO_TLS_THERE = (
    "it speaks no TLS: set worker.tls_cert_file, tls_key_file and tls_ca_file there, or leave out"
    " router.link_ca_file"
)


async def tls_trouble(host: str, port: int, identity: Identity | None, name: str) -> str:
    """Empty: it is not TLS. `name`: that its certificate should have."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            if identity is None:
                return _NO_TLS_HERE if await _speaks_tls(host, port) else ""
            return await _trouble(host, port, identity, name)
    except (OSError, TimeoutError):
        return ""


async def _trouble(host: str, port: int, identity: Identity, name: str) -> str:
    try:
        reader, writer = await asyncio.open_connection(
            host, port, ssl=identity.client_context(), server_hostname=name
        )
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not believed ({error.verify_message}): worker.tls_cert_file there"
            f" must be in force, for {name}, and signed by who is in router.link_ca_file"
        )
    except ssl.SSLError as error:
        return _not_taken(identity, error) if _is_alert(error) else _NO_TLS_THERE
    # With TLS 1.3 it has looked at ours only by now.
    try:
        is_taken = bool(await reader.read(1))
    except OSError as error:
        return _not_taken(identity, error)
    finally:
        writer.transport.abort()
    return "" if is_taken else _not_taken(identity, None)


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return _is_alert(error)
    writer.transport.abort()
    return True


def _not_taken(identity: Identity, error: OSError | None) -> str:
    said = f" ({error.reason})" if isinstance(error, ssl.SSLError) and error.reason else ""
    return (
        f"it does not take this router's certificate{said}: router.{identity.files.names[0]} must"
        " be in force, for a router, and signed by who is in worker.tls_ca_file there"
    )


def _is_alert(error: ssl.SSLError) -> bool:
    """The other side speaks TLS, and says no."""
    return "ALERT" in (error.reason or "")
