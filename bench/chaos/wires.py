"""Wires: a network of this process's own, in which what two processes say to each other is lost.

A network namespace with nothing but its loopback; it ends with this process, whatever happens. A
rule of its routing drops what goes to or from some ports, on connections that stand and on new
ones, and tells neither side. Linux, and the rights of an administrator. Call before anything is
started.
"""

import ctypes
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psutil

_CLONE_NEWNET = 0x40000000
_CUT, _LOCAL = (
    "10",
    "100",
)  # places of rules; by default what is local is looked up before all rules


def own_network() -> bool:
    """Whether this process has one now."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False
    _ip("link", "set", "lo", "up")
    _ip("rule", "add", "pref", _LOCAL, "table", "local")
    _ip("rule", "del", "pref", "0")
    return True


def ports_between(server_pid: int, client_pid: int) -> set[int]:
    """Ports on which the one listens and the other is connected to."""
    listening = {
        one.laddr.port
        for one in psutil.Process(server_pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    connected = psutil.Process(client_pid).net_connections("tcp")
    return listening & {one.raddr.port for one in connected if one.raddr}


@contextmanager
def cut(ports: Collection[int]) -> Iterator[None]:
    """Nothing gets through to or from these ports meanwhile."""
    sides = [(side, str(port)) for port in ports for side in ("dport", "sport")]
    for rule in sides:
        _ip("rule", "add", "pref", _CUT, "ipproto", "tcp", *rule, "blackhole")
    try:
        yield
    finally:
        for rule in sides:
            _ip("rule", "del", "pref", _CUT, "ipproto", "tcp", *rule)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
