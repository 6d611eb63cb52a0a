"""The process that runs shadows: `python -m radixroute.insight.shadow.child --fd N`.

Answers one batch after the other until the router's end of its socket closes. Runs behind all else
on its machine: nobody waits for what would have been. Started by `ShadowProcess` alone.
"""

import argparse
import os
import signal
import socket
import sys

from radixroute.insight.shadow.messages import LENGTH, Batch, Begin, decode_order, framed
from radixroute.insight.shadow.simulations import Simulations

NICE = 10


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="radixroute.insight.shadow.child")
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args(arguments)
    # Ctrl-C goes to the whole group: the router ends us by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    os.set_inheritable(options.fd, False)
    with socket.socket(fileno=options.fd) as sock:
        try:
            serve(sock)
        except (EOFError, OSError):
            return 0
    return 0


def serve(sock: socket.socket) -> None:
    """Until the other end is gone: raises `EOFError` or `OSError` then."""
    simulations: Simulations | None = None
    while True:
        (length,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
        match decode_order(_exactly(sock, length)):
            case Begin() as begin:
                simulations = Simulations(begin)
            case Batch() as batch:
                if simulations is None:
                    raise EOFError("a batch came before a fleet")
                sock.sendall(framed(simulations.take(batch)))


def _exactly(sock: socket.socket, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    left = memoryview(data)
    while left:
        n_received = sock.recv_into(left)
        if not n_received:
            raise EOFError("the other end is gone")
        left = left[n_received:]
    return data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
