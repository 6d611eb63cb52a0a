"""Request ids: drawn for one tenant, and known again without keeping any.

Half of an id is random, half is a keyed digest of that and the tenant. Every router with the
cluster's secret therefore knows whether a client that resumes a stream names one of its own: ids of
other tenants, and invented ones, are unknown ids. Owns nothing but the key.
"""

import hashlib
import hmac
import random
from typing import Final

HALF: Final = 16  # hexadecimal digits
MOST_TENANT: Final = 1024  # characters looked at: far more than a tenant may have


class RequestIds:
    """Of the routers of one cluster."""

    def __init__(self, secret: str, rng: random.Random) -> None:
        self._key = hashlib.blake2b(secret.encode(), person=b"request ids").digest()
        self._rng = rng

    def draw(self, tenant: str) -> str:
        """A fresh one."""
        drawn = f"{self._rng.getrandbits(4 * HALF):0{HALF}x}"
        return drawn + self._tag(drawn, tenant)

    def is_of(self, request_id: str, tenant: str) -> bool:
        """Whether a router of this cluster drew it for this tenant."""
        drawn, tag = request_id[:HALF], request_id[HALF:]
        return hmac.compare_digest(self._tag(drawn, tenant).encode(), tag.encode())

    def _tag(self, drawn: str, tenant: str) -> str:
        told = f"{drawn}/{tenant[:MOST_TENANT]}".encode()
        return hashlib.blake2b(told, key=self._key, digest_size=HALF // 2).hexdigest()
