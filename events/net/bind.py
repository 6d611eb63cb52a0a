"""Which addresses only this machine can reach, and whether one is free to listen on.

No listener of ours has credentials yet, so a wider bind must be asked for in so many words.
"""

import errno
import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """False for a name other than localhost: what it resolves to may change after the check."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def why_not_free(host: str, port: int) -> str | None:
    """What stands in the way of listening there, and what to do; None: nothing does now."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: an address that a dead connection still holds for a minute is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror:
        return "there is no such host; give an address of this machine"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "another process listens there; choose another port (--port; 0 takes a free one)"
        if error.errno == errno.EADDRNOTAVAIL:
            return "that is no address of this machine; choose another host (--host)"
        return f"{error.strerror}; choose another port (--port)"
    return None
