"""Verbatim requests: some of a day's are for engines that take them as they are.

Drawn over a plan that is there, from numbers of its own, as scopes are.
"""

import random
from dataclasses import replace

from tests.simulation.deeds import Deed, Submit
from tests.simulation.plan import Plan

_SHARE = 0.25  # of all days


def as_they_come(plan: Plan) -> Plan:
    """Some days have them. Somebody takes them, mostly not all; as companions do, those say no
    position of their events."""
    rng = random.Random(f"verbatim {plan.seed}")
    if rng.random() >= _SHARE:
        return plan
    surely, share = rng.choice(plan.workers).name, rng.choice((0.2, 0.6))
    workers = tuple(
        replace(worker, takes_verbatim=True, says_position=False)
        if worker.name == surely or rng.random() < 0.6
        else worker
        for worker in plan.workers
    )
    deeds = tuple(_as_it_comes(rng, deed, share) for deed in plan.deeds)
    return replace(plan, workers=workers, deeds=deeds)


def _as_it_comes(rng: random.Random, deed: Deed, share: float) -> Deed:
    if not isinstance(deed, Submit) or rng.random() >= share:
        return deed
    return replace(deed, is_verbatim=True, is_read=rng.random() < 0.5)
