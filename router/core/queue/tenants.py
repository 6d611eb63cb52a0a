"""Tenants: what each was served, in tokens, so that whoever had least goes first.

Owns the counters. Fair queueing by virtual token counters (Sheng et al., "Fairness in Serving Large
Language Models", OSDI 2024): a prompt token counts once, an output token twice; a tenant that comes
back is lifted to the least of those who wait, so that nobody saves up for a burst. Pure.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

PREFILL_WEIGHT: Final = 1
DECODE_WEIGHT: Final = 2
# Idle tenants remembered; the one idle for longest goes first. Who comes back is lifted anyway.
MAX_IDLE: Final = 4096


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant. Only `Tenants` and the queue change it."""

    name: str
    served: int = 0  # weighted tokens
    n_waiting: int = 0


class Tenants:
    """Tenants by name, those that wait and the last ones that do not."""

    def __init__(self) -> None:
        self._waiting: dict[str, Tenant] = {}
        self._idle: OrderedDict[str, Tenant] = OrderedDict()
        self._last_served = 0  # of the one that stopped waiting last

    def __len__(self) -> int:
        return len(self._waiting) + len(self._idle)

    @property
    def waiting(self) -> dict[str, Tenant]:
        """Those with waiting requests, by name. Read only."""
        return self._waiting

    def enter(self, name: str, least_served: int | None) -> Tenant:
        """One of its requests waits. `least_served`: of those who wait; None: nobody does."""
        tenant = self._waiting.get(name)
        if tenant is None:
            tenant = self._idle.pop(name, None) or Tenant(name)
            floor = self._last_served if least_served is None else least_served
            tenant.served = max(tenant.served, floor)
            self._waiting[name] = tenant
        tenant.n_waiting += 1
        return tenant

    def leave(self, tenant: Tenant) -> None:
        """One of its requests waits no more."""
        tenant.n_waiting -= 1
        if tenant.n_waiting:
            return
        del self._waiting[tenant.name]
        self._last_served = max(self._last_served, tenant.served)
        self._idle[tenant.name] = tenant
        if len(self._idle) > MAX_IDLE:
            self._idle.popitem(last=False)

    def serve(self, name: str, *, prefill: int = 0, decode: int = 0) -> Tenant | None:
        """It was given so many tokens. Returns it if requests of its wait."""
        tenant = self._waiting.get(name)
        is_waiting = tenant is not None
        if tenant is None:
            tenant = self._idle.get(name)
            if tenant is None:
                tenant = Tenant(name, self._last_served)
            self._idle[name] = tenant
            self._idle.move_to_end(name)
            if len(self._idle) > MAX_IDLE:
                self._idle.popitem(last=False)
        tenant.served += PREFILL_WEIGHT * prefill + DECODE_WEIGHT * decode
        return tenant if is_waiting else None
