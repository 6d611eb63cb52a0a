"""Salts as an engine is given them: digests with the cluster's secret, as its events, its log and
its neighbours may show them in the clear. Pure."""

import hashlib
from typing import Final

from radixroute.events.wire.compat import salt_of
from radixroute.radix.keys.scope import RequestScope

_BYTES: Final = 32


def digest_of(scope: RequestScope, secret: bytes) -> str:
    """What keeps blocks of this scope apart, whatever its adapter; empty: nothing does."""
    text = salt_of(scope)
    if not text:
        return ""
    digest = hashlib.blake2b(secret, digest_size=_BYTES, person=b"rr-engine-salt")
    digest.update(text.encode())
    return digest.hexdigest()
