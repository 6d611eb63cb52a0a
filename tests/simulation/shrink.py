"""Shrinking: fewer deeds that still break the same invariant (ddmin), in so many runs at most."""

from dataclasses import dataclass

from tests.simulation.deeds import Deed
from tests.simulation.invariants import Broken
from tests.simulation.plan import Plan
from tests.simulation.world import run

MAX_RUNS = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule and what it breaks."""

    plan: Plan
    claim: str
    text: str


def failure_of(plan: Plan) -> Failure | None:
    """Runs it. What the router itself raises is a broken invariant too, named by its kind."""
    try:
        run(plan)
    except Broken as broken:
        return Failure(plan, broken.claim, str(broken))
    except Exception as error:  # noqa: BLE001 - any way to fail is what is looked for
        return Failure(plan, type(error).__name__, f"{type(error).__name__}: {error}")
    return None


def shrink(failure: Failure, max_runs: int = MAX_RUNS) -> Failure:
    """The smallest schedule found; the same claim is broken."""
    best, n_runs, n_pieces = failure, 0, 2
    while len(best.plan.deeds) > 1 and n_runs < max_runs:
        deeds = list(best.plan.deeds)
        size = -(-len(deeds) // n_pieces)
        for start in range(0, len(deeds), size):
            n_runs += 1
            found = _without(best, deeds[:start] + deeds[start + size :])
            if found is not None:
                best, n_pieces = found, max(2, n_pieces - 1)
                break
            if n_runs >= max_runs:
                break
        else:
            if size == 1:
                break
            n_pieces = min(len(deeds), 2 * n_pieces)
    return best


def _without(failure: Failure, deeds: list[Deed]) -> Failure | None:
    found = failure_of(failure.plan.with_deeds(deeds))
    return found if found is not None and found.claim == failure.claim else None


def report(failure: Failure) -> str:
    """Seed, first broken invariant and schedule, as one reads them."""
    plan = failure.plan
    lines = [
        f"seed {plan.seed} ({plan.mode}) breaks: {failure.text}",
        f"again: make simulate SEED={plan.seed}",
        *(f"  {worker}" for worker in plan.workers),
        f"schedule of {len(plan.deeds)} deeds:",
        *(f"  {deed}" for deed in plan.deeds),
    ]
    return "\n".join(lines)
