"""Scope: what block keys are salted with, so that caches that must not mix share no key."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

_DOMAIN = b"radixroute/scope/v1"


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything a block's KV depends on besides its tokens, and the cluster's secret.

    Fields are tagged and length-prefixed before hashing: a LoRA named X can never collide with a
    tenant salt X.
    """

    model_fingerprint: str
    block_size: int
    kv_dtype: str = "float32"
    lora: str = ""
    tenant_salt: str = ""
    cluster_secret: bytes = field(default=b"", repr=False)

    @property
    def seed(self) -> np.uint64:
        """Seed of the key chain. It is as secret as `cluster_secret`: never log or send it."""
        return np.uint64(int.from_bytes(self._digest(b"seed")[:8], "little"))

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are safe to show and compare: a digest apart from the seed's."""
        return self._digest(b"fingerprint")[:8].hex()

    def _digest(self, purpose: bytes) -> bytes:
        state = hashlib.blake2b(_DOMAIN, digest_size=32)
        for tag, value in (
            (b"purpose", purpose),
            (b"cluster_secret", self.cluster_secret),
            (b"model", self.model_fingerprint.encode()),
            (b"block_size", str(self.block_size).encode()),
            (b"kv_dtype", self.kv_dtype.encode()),
            (b"lora", self.lora.encode()),
            (b"tenant_salt", self.tenant_salt.encode()),
        ):
            state.update(len(tag).to_bytes(4, "little") + tag)
            state.update(len(value).to_bytes(8, "little") + value)
        return state.digest()
