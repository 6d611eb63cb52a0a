"""What travels on an event stream, decoded. Frozen: every room may keep a reference.

An *epoch* names one life of one worker's cache: 16 bytes, the controller's incarnation (u64 big
endian) and a nonce (8 bytes). `seq` counts batches of one rank within an epoch from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NewType, TypeAlias

import msgspec

from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Keys, Tier, Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope

Epoch = NewType("Epoch", bytes)


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """A chain of blocks entered a tier: `keys[0]` follows `parent` (None: it begins a prompt)."""

    parent: BlockKey | None
    keys: Keys
    tier: Tier = Tier.DEVICE
    # Of all these blocks, in order, and what they are kept apart by; only where the compat endpoint
    # is on. Never on the native wire, nor in a log.
    tokens: Tokens | None = field(default=None, repr=False)
    scope: RequestScope = field(default=UNSCOPED, repr=False)


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """One physical copy of each of these blocks left a tier."""

    keys: Keys
    tier: Tier = Tier.DEVICE


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """Every block of this rank left every tier."""


Event: TypeAlias = BlocksStored | BlocksRemoved | CacheCleared


class EventBatch(msgspec.Struct, frozen=True):
    """Events of one engine step, applied all or not at all.

    A struct: there is one a batch, and a frozen dataclass takes five times as long to make.
    """

    epoch: Epoch
    rank: int
    seq: int
    events: Sequence[Event]
    ts: float = 0.0  # Unix seconds at the publisher; display only, nothing is decided by it


@dataclass(frozen=True, slots=True)
class SessionLoad:
    """What a worker says about one router's requests on it."""

    router_id: str
    acknowledged_dispatch: int  # highest dispatch_seq its scheduler has seen
    in_flight: int
    queued_tokens: int  # uncached prompt tokens not computed yet
    active_blocks: int  # KV blocks its running requests pin


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A worker's load, carried by its heartbeat."""

    step_age_ms: float  # since the engine last finished a step, or was last seen idle
    kv_blocks_total: int
    kv_blocks_used: int  # pinned or cached
    sessions: tuple[SessionLoad, ...] = ()
    # Requests of clients that stream from it directly, by the ids that they gave: those that run,
    # and the last ones that ended. By them a router sees whether its leases are used.
    direct: tuple[str, ...] = ()
    direct_ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent each 250 ms whatever happens: consumes no seq, proves that the index is up to date."""

    epoch: Epoch
    rank: int
    last_seq: int | None  # None: no batch yet in this epoch
    account: Account  # of what was sent up to `last_seq`
    load: LoadReport


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Part `index` of `count` of everything resident once batches 0..seq were applied."""

    epoch: Epoch
    rank: int
    seq: int | None
    index: int
    count: int
    runs: tuple[BlocksStored, ...]  # parents come before children over the whole snapshot
