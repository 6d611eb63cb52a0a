"""Scope: what block keys are salted with, so that caches that must not mix share no key.

`Scope` is a cluster's, `RequestScope` what one request adds. Salts and seeds are never logged.
"""

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

_DOMAIN = b"radixroute/scope/v1"
# Of scopes used last: some 300 bytes each.
_KEPT_SEEDS = 4096


@dataclass(frozen=True, slots=True)
class RequestScope:
    """What one request shares its cached blocks by; empty: with all that say nothing, either."""

    lora: str = ""  # name of an adapter
    salt: str = field(default="", repr=False)  # its client's secret
    tenant: str = ""  # where tenants share nothing

    @property
    def mark(self) -> bytes:
        """What no other scope has; of the empty one nothing. Each field with its length."""
        if not (self.lora or self.salt or self.tenant):
            return b""
        parts = [part.encode() for part in (self.lora, self.salt, self.tenant)]
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


UNSCOPED = RequestScope()


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
    tenant_salt: str = field(default="", repr=False)
    tenant: str = ""
    cluster_secret: bytes = field(default=b"", repr=False)

    @property
    def seed(self) -> np.uint64:
        """Seed of the key chain. It is as secret as `cluster_secret`: never log or send it."""
        return np.uint64(int.from_bytes(self._digest(b"seed")[:8], "little"))

    def seed_of(self, added: RequestScope) -> np.uint64:
        """Seed of the keys of a request that adds this; nothing added: `seed`."""
        return _seed_of(self, added)

    def within(self, added: RequestScope) -> "Scope":
        """The scope of a request that adds this."""
        return replace(
            self,
            lora=added.lora or self.lora,
            tenant_salt=added.salt or self.tenant_salt,
            tenant=added.tenant or self.tenant,
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are safe to show and compare: a digest apart from the seed's."""
        return self._digest(b"fingerprint")[:8].hex()

    def _digest(self, purpose: bytes) -> bytes:
        state = hashlib.blake2b(_DOMAIN, digest_size=32)
        fields = [
            (b"purpose", purpose),
            (b"cluster_secret", self.cluster_secret),
            (b"model", self.model_fingerprint.encode()),
            (b"block_size", str(self.block_size).encode()),
            (b"kv_dtype", self.kv_dtype.encode()),
            (b"lora", self.lora.encode()),
            (b"tenant_salt", self.tenant_salt.encode()),
        ]
        if self.tenant:  # left out where there is none: keys were made before there was this field
            fields.append((b"tenant", self.tenant.encode()))
        for tag, value in fields:
            state.update(len(tag).to_bytes(4, "little") + tag)
            state.update(len(value).to_bytes(8, "little") + value)
        return state.digest()


@lru_cache(maxsize=_KEPT_SEEDS)
def _seed_of(scope: Scope, added: RequestScope) -> np.uint64:
    return scope.within(added).seed
