"""Warm-up: loads every kernel of this room and of `radix`, so that no request waits for one.

Whoever serves calls it at start-up; so does `radixroute warm`.
"""

from radixroute.events.engines.adapter import EngineAdapter
from radixroute.events.engines.flat import decode_flat
from radixroute.events.wire.packed import Packer
from radixroute.radix import warm as radix_warm
from radixroute.radix.keys.scope import Scope

# A batch of one stored event with one token: read and translated it loads every kernel on its way.
_SMALL = (
    b"\x93\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x91\x84\xa4type\xabBlockStored"
    b"\xacblock_hashes\x91\x01\xa9token_ids\x91\x05\xaablock_size\x01\xc0"
)


def warm() -> None:
    """Raises `BrokenKernel` when keys are not what they must be."""
    radix_warm.warm()
    Packer()
    batch = decode_flat(0, _SMALL)
    if batch is not None:
        EngineAdapter(Scope("", 1)).translate_all(batch.events)
