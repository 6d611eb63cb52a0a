"""By seed: which kind of day a seed is. Most are usual ones."""

from tests.simulation.drawing.scopes import audited, scoped
from tests.simulation.drawing.special import SPECIAL_DAYS
from tests.simulation.drawing.usual import usual_day
from tests.simulation.drawing.verbatim import as_they_come
from tests.simulation.plan import Plan

_SPECIAL_EACH = 12  # seeds


def make_plan(seed: int) -> Plan:
    turn, rest = divmod(seed, _SPECIAL_EACH)
    if rest == _SPECIAL_EACH - 1:
        return SPECIAL_DAYS[turn % len(SPECIAL_DAYS)](seed)
    return as_they_come(audited(scoped(usual_day(seed))))
