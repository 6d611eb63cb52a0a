"""Ledger: what must survive the controller's own death; incarnations given, policy and port.

An incarnation names one life of one actor; it only grows, so that events of a dead life can never
be taken for those of its successor. The ledger writes it down *before* the life begins. The record
is one small JSON document in a store that outlives the controller's process (`ray_store`).
Owned by the supervisor; not thread-safe.
"""

import json
from dataclasses import dataclass, field
from typing import Protocol


class Store(Protocol):
    """Where the document is kept."""

    def load(self) -> bytes | None: ...

    def save(self, document: bytes) -> None: ...

    def clear(self) -> None: ...


@dataclass(slots=True)
class MemoryStore:
    """Keeps the document in this object: for a supervisor that is never restarted."""

    document: bytes | None = None

    def load(self) -> bytes | None:
        return self.document

    def save(self, document: bytes) -> None:
        self.document = document

    def clear(self) -> None:
        self.document = None


@dataclass(slots=True)
class Ledger:
    """Issues incarnations and remembers the current one of each actor, the policy and the port."""

    store: Store
    last_incarnation: int = 0
    router_port: int | None = None  # bound by the first router; its successors take it over
    policy: str | None = None  # set by a restart under another policy
    incarnation_by_name: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, store: Store) -> "Ledger":
        """Continues the record in `store`, or begins one."""
        document = store.load()
        if document is None:
            return cls(store)
        record = json.loads(document)
        return cls(
            store,
            last_incarnation=record["last_incarnation"],
            router_port=record["router_port"],
            policy=record["policy"],
            incarnation_by_name=record["incarnation_by_name"],
        )

    def issue(self, name: str) -> int:
        """The incarnation of `name`'s next life; on record before this returns."""
        self.last_incarnation += 1
        self.incarnation_by_name[name] = self.last_incarnation
        self._save()
        return self.last_incarnation

    def retire(self, name: str) -> None:
        """`name` has no life now."""
        self.incarnation_by_name.pop(name, None)
        self._save()

    def keep_port(self, port: int) -> None:
        self.router_port = port
        self._save()

    def keep_policy(self, policy: str) -> None:
        self.policy = policy
        self._save()

    def _save(self) -> None:
        record = {
            "last_incarnation": self.last_incarnation,
            "router_port": self.router_port,
            "policy": self.policy,
            "incarnation_by_name": self.incarnation_by_name,
        }
        self.store.save(json.dumps(record).encode())
