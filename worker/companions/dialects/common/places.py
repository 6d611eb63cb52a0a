"""Where an engine's event sockets are, for who connects to them: it names what it binds. Pure."""

from typing import Final

_WILDCARDS: Final = ("*", "0.0.0.0", "[::]", "::")  # noqa: S104 - compared, not bound


def on_host(name: str, port: int, host: str) -> str:
    """An address of `name`, or of `host` where that is any."""
    there = host if name in _WILDCARDS else name
    return f"tcp://{f'[{there}]' if ':' in there and not there.startswith('[') else there}:{port}"


def connects_to(endpoint: str) -> str:
    """An endpoint that engines connect to instead of listening there, as vLLM and SGLang tell them
    apart: any that is no wildcard and no path. Empty: they listen."""
    is_bound = "*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))
    return "" if is_bound else endpoint


def of_rank(endpoint: str, rank: int) -> str:
    """The same of another rank than the first: its port follows."""
    head, colon, port = endpoint.rpartition(":")
    return f"{head}{colon}{int(port) + rank}" if port.isdecimal() else endpoint


def reachable(endpoint: str, host: str) -> str:
    """The same of an endpoint as it is bound; what is no such address stays as it is."""
    scheme, _, rest = endpoint.partition("://")
    name, colon, port = rest.rpartition(":")
    if scheme != "tcp" or not colon or name not in _WILDCARDS or not port.isdecimal():
        return endpoint
    return on_host(name, int(port), host)
