"""Scopes share no block: no key of one is a key of another, and who goes where can be served there.

Workers keep blocks apart by scope whatever their keys are (`fleet/cache.py`), so a key that two
scopes had would also show as credit for what is not held.
"""

from typing import TYPE_CHECKING

from radixroute.radix.keys.scope import RequestScope
from radixroute.router.messages.actions import Action, Dispatch, Grant
from tests.simulation import adapter
from tests.simulation.deeds import Submit, TakeLease

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


class Scopes:
    def __init__(self, watchers: "Watchers") -> None:
        self._claim = watchers.claim
        self._world = world = watchers.world
        self._asked = {
            deed.request_id: adapter.scope_of(world.plan, deed)
            for deed in world.plan.deeds
            if isinstance(deed, (Submit, TakeLease))
        }
        self._owners: dict[int, RequestScope] = {}  # of keys

    def acted(self, action: Action) -> None:
        if isinstance(action, Dispatch):
            name = action.spec.request_id
            is_told = action.spec.scope == self._asked[name]
            self._claim("scope", is_told, f"{name} is sent to {action.worker_id} as another scope")
            self._judge(name, action.worker_id)
        elif isinstance(action, Grant):
            self._judge(action.request_id, action.worker_id)

    def _judge(self, name: str, worker: str) -> None:
        scope, owners = self._asked[name], self._owners
        need = self._world.ledger.clients[name].spec.need
        is_served = self._world.serves(worker, need)
        self._claim("adapter", is_served, f"{name} goes to {worker}, which lacks {need!r}")
        keys = self._world.ledger.clients[name].spec.keys.tolist()
        is_own = all(owners.setdefault(key, scope) == scope for key in keys)
        self._claim("scope", is_own, f"{name}: a block of its scope is another's, too")
