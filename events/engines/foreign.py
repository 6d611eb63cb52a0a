"""What foreign engines say about their caches, decoded and neutral: vLLM and SGLang alike.

Structs and no dataclasses: a frozen one of twelve fields takes longer to make than to decode.
Nothing here is ours yet: hashes are the engine's own, opaque, and mean something only together
with its worker. `adapter.py` turns these into our records.
"""

from collections.abc import Sequence
from typing import Final, NewType, TypeAlias

import msgspec

from radixroute.radix.ids import Tier, Tokens

# An engine's block id as a number: of 64 bits (signed ones modulo 2**64), or a whole digest of up
# to 256. 0 is a legal value, absence is None.
EngineHash = NewType("EngineHash", int)
MAX_HASH_BYTES: Final = 32


class ExtraKeys(msgspec.Struct, frozen=True):
    """What an engine hashed into one block besides its tokens."""

    texts: tuple[str, ...] = ()  # LoRA name, cache salt, or (older vLLM) a multimodal identifier
    has_content: bool = False  # multimodal items or prompt embeddings: tokens do not name the block


class ForeignStored(msgspec.Struct, frozen=True):
    """Blocks entered a medium; each hash stands for `block_size` of `token_ids`."""

    hashes: tuple[EngineHash, ...]
    parent: EngineHash | None
    token_ids: Tokens
    block_size: int
    medium: str | None = None
    lora_id: int | None = None
    lora_name: str | None = None
    cache_salt: str | None = None
    extra_keys: tuple[ExtraKeys, ...] = ()  # one a block, or none at all
    group: int | None = None
    kind: str | None = None
    locality: str | None = None


class ForeignRemoved(msgspec.Struct, frozen=True):
    """One physical copy of each of these blocks left a medium."""

    hashes: tuple[EngineHash, ...]
    medium: str | None = None
    group: int | None = None
    locality: str | None = None


class ForeignCleared(msgspec.Struct, frozen=True):
    """The engine emptied its cache."""


ForeignEvent: TypeAlias = ForeignStored | ForeignRemoved | ForeignCleared


class ForeignBatch(msgspec.Struct, frozen=True):
    """One message of an engine. `skipped` events had an unknown tag or a wrong form."""

    seq: int
    events: Sequence[ForeignEvent]
    rank: int | None
    ts: float
    skipped: int = 0


class ForeignReplayEnd(msgspec.Struct, frozen=True):
    """Its replay endpoint has sent all it had."""


# Groups whose blocks are whole prefixes; of the others (sliding window, mamba, ...) a held block
# says nothing about the tokens before it.
MAIN_KINDS: Final = frozenset({"full_attention", "mla_attention", "sink_full_attention"})

TIER_BY_MEDIUM: Final = {
    "GPU": Tier.DEVICE,
    "DEVICE": Tier.DEVICE,
    "CPU": Tier.HOST,  # vLLM
    "CPU_PINNED": Tier.HOST,  # SGLang
    "CPU_TIER1": Tier.HOST,
    "DISK": Tier.DISK,
    "NVME": Tier.DISK,
    "CPU_TIER2": Tier.DISK,
    "STORAGE": Tier.DISK,  # vLLM's file system and object tiers
    "FS": Tier.DISK,  # older names of STORAGE
    "OBJ": Tier.DISK,
}


def tier_of(medium: str | None) -> Tier | None:
    """The tier of a medium; None for shared and unknown ones, which credit no worker."""
    return Tier.DEVICE if medium is None else TIER_BY_MEDIUM.get(medium.upper())
