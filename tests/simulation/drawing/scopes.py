"""Scopes: what requests share their blocks by. Tenants, salts and adapters have the same names.

Drawn over a plan that is there, from numbers of its own; so is whether workers say when they looked
into their caches, by which the audit is exact.
"""

import random
from dataclasses import replace

from tests.simulation.deeds import Deed, Submit, TakeLease
from tests.simulation.plan import Plan

_SHARE, _UNSAID_SHARE = 0.3, 0.15  # of all days
_SALTS = (("",), ("", "a"), ("", "a", "b"))
_ADAPTERS = ((), ("a",), ("a", "b"))


def scoped(plan: Plan) -> Plan:
    """Some days have them. Each adapter is served by somebody, mostly not by all."""
    rng = random.Random(f"scopes {plan.seed}")
    if rng.random() >= _SHARE:
        return plan
    salts, adapters = rng.choice(_SALTS), rng.choice(_ADAPTERS)
    served: dict[str, list[str]] = {worker.name: [] for worker in plan.workers}
    for adapter in adapters:
        surely = rng.choice(plan.workers).name
        for name, names in served.items():
            if name == surely or rng.random() < 0.5:
                names.append(adapter)
    return replace(
        plan,
        workers=tuple(replace(w, adapters=tuple(served[w.name])) for w in plan.workers),
        deeds=tuple(_within(rng, deed, salts, ("", "", *adapters)) for deed in plan.deeds),
        tenants_share=rng.random() < 0.5,
    )


def audited(plan: Plan) -> Plan:
    """On some days nobody says it: reports are compared over a window."""
    if random.Random(f"audited {plan.seed}").random() >= _UNSAID_SHARE:
        return plan
    return replace(plan, workers=tuple(replace(w, says_position=False) for w in plan.workers))


def _within(
    rng: random.Random, deed: Deed, salts: tuple[str, ...], adapters: tuple[str, ...]
) -> Deed:
    if not isinstance(deed, (Submit, TakeLease)):
        return deed
    return replace(deed, salt=rng.choice(salts), lora=rng.choice(adapters))
