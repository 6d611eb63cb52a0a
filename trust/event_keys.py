"""Event keys: a key pair for ZeroMQ's CURVE, drawn for one life of a process and kept nowhere.

Who has which is told over gRPC, where both sides have proved themselves by their certificates.
"""

import struct
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

KEY_BYTES = 40  # of one key, as Z85


@dataclass(frozen=True, slots=True)
class EventKeys:
    """Both as Z85."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "EventKeys":
        return cls(*zmq.curve_keypair())


def raw_key(key: bytes) -> bytes | None:
    """The 32 bytes that a Z85 key stands for; None: it is no key."""
    if len(key) != KEY_BYTES:
        return None
    try:
        return z85.decode(key)
    except (ValueError, KeyError, OverflowError, struct.error):
        return None
