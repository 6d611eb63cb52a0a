"""Ray store: the ledger's document in Ray's internal KV, which outlives the controller's process.

Owns one key a cluster. Never reads what is in the document. Made by the controller.
"""

from dataclasses import dataclass
from typing import cast

from radixroute.deploy.ray_env import internal_kv


@dataclass(frozen=True, slots=True)
class RayStore:
    """A `Store` that lives as long as the Ray cluster's head."""

    cluster: str

    def load(self) -> bytes | None:
        return cast(bytes | None, internal_kv._internal_kv_get(self._key))

    def save(self, document: bytes) -> None:
        internal_kv._internal_kv_put(self._key, document, overwrite=True)

    def clear(self) -> None:
        internal_kv._internal_kv_del(self._key)

    @property
    def _key(self) -> str:
        return f"radixroute:ledger:{self.cluster}"
