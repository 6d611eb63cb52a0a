"""Least squares of relative errors: short steps count as much as long ones. Pure.

What is off by more than most counts less (Huber's weights, by reweighting), since other work on the
machine only ever makes a step longer. A coefficient that would be negative is left out: a step
never gets shorter by doing more. Some six columns: leaving out the most negative one again and
again is all that a solver would do, so no package is needed for it.
"""

from collections.abc import Sequence

import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.errors import BadCalibration

_USUAL_ERROR = 0.1  # relative: what is off by more counts less
_ROUNDS = 20  # of reweighting; it settles within ten


def least_squares(columns: Sequence[Floats], ms: Floats) -> list[float]:
    """One coefficient for each column of shape (rows,). Raises `BadCalibration`."""
    if not (np.isfinite(ms).all() and (ms > 0).all()):
        raise BadCalibration("a step that took no time cannot have been measured")
    matrix = np.stack(columns, 1) / ms[:, None]
    weights = np.ones(len(ms))
    for _ in range(_ROUNDS):
        found = _not_negative(matrix * weights[:, None], weights)
        errors = np.abs(matrix @ found - 1.0)
        weights = np.sqrt(1.0 / np.maximum(1.0, errors / _USUAL_ERROR))
    return [float(one) for one in found]


def _not_negative(matrix: Floats, wanted: Floats) -> Floats:
    """`matrix` of shape (rows, coefficients) times the result is nearest to `wanted`."""
    found = np.zeros(matrix.shape[1])
    left = list(range(matrix.shape[1]))
    while left:
        # Columns of equal size: token counts squared beside ones would lose half the digits.
        size = np.abs(matrix[:, left]).max(0)
        size[size == 0.0] = 1.0
        solved = np.linalg.lstsq(matrix[:, left] / size, wanted, rcond=None)[0]
        if (solved >= 0.0).all():
            found[left] = solved / size
            break
        left.pop(int(np.argmin(solved)))
    return found
