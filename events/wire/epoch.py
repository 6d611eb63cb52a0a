"""Epochs: 16 bytes naming one life of one worker's cache. Made, shown and read back here.

The controller gives the incarnation at join; the nonce tells two lives with the same incarnation
apart (a worker started by hand). Which epoch counts is decided by `GetInfo`, never by order.
"""

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire.records import Epoch

EPOCH_BYTES = 16
NONCE_BYTES = 8


def make_epoch(incarnation: int, nonce: bytes) -> Epoch:
    """The epoch of a new life; the edge draws the nonce (8 random bytes)."""
    if not 0 <= incarnation < 2**64 or len(nonce) != NONCE_BYTES:
        raise LocalEventError("an epoch is a u64 incarnation and a nonce of 8 bytes")
    return Epoch(incarnation.to_bytes(8, "big") + nonce)


def incarnation_of(epoch: Epoch) -> int:
    """The controller's count of this worker's lives."""
    return int.from_bytes(epoch[:8], "big")


def epoch_to_hex(epoch: Epoch) -> str:
    """32 hexadecimal digits, as `GetInfo` carries it."""
    return epoch.hex()


def epoch_from_hex(text: str) -> Epoch:
    """Reads what a worker said its epoch is."""
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise RemoteEventError("epoch is not hexadecimal") from error
    if len(raw) != EPOCH_BYTES:
        raise RemoteEventError(f"epoch has {len(raw)} bytes, not {EPOCH_BYTES}")
    return Epoch(raw)
