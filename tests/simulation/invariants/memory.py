"""What the router keeps is bounded: by settings while it works, by its fleet when it is quiet."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

# Items in all of the core's containers once nothing runs, whatever has happened before: its logs
# are short here (`adapter.LOG_LEN`), so nearly all is a fixed number for each worker and policy.
_MOST_ITEMS = 4000


class Memory:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world

    def after(self) -> None:
        seen, plan, claim = self._watchers.glance, self._world.plan, self._watchers.claim
        n, ledger = seen.running + seen.leases, self._world.ledger
        claim("in flight", n <= plan.max_in_flight, f"{n} requests and leases are in")
        if len(ledger.guests) > 1:  # one may be larger than the house
            n_bytes, n_tokens = ledger.n_bytes, ledger.n_tokens
            claim("in flight", n_bytes <= plan.max_in_flight_bytes, f"{n_bytes} bytes are in")
            claim("in flight", n_tokens <= plan.max_in_flight_tokens, f"{n_tokens} tokens are in")

    def end(self) -> None:
        n = n_items(self._world.router.core)
        self._watchers.claim("memory", n <= _MOST_ITEMS, f"{n} things are kept")
        forgotten = self._world.router.index.n_forgotten
        self._watchers.claim("forgotten", not forgotten, f"the index forgot {forgotten} blocks")


def n_items(root: object) -> int:
    """Items in every container that can be reached through objects of the product."""
    n, seen, todo = 0, set(), [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            n += len(thing)
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, tuple, set, frozenset, deque)):
            n += len(thing)
            todo += list(thing)
        elif type(thing).__module__.startswith("radixroute."):
            todo += _fields(thing)
    return n


def _fields(thing: object) -> list[object]:
    found = list(getattr(thing, "__dict__", {}).values())
    for kind in type(thing).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(thing, name):
                found.append(getattr(thing, name))
    return found
