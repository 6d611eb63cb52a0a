"""What runs where: the first of many in `make test`, all the others in `make test-deep`.

`parts` cuts seeds; `examples` says how many histories or inputs are made up.
"""

from itertools import pairwise
from typing import Any

import pytest


def parts(n: int, *, quick: int, step: int | None = None, slow: int | None = None) -> list[Any]:
    """Ranges that together are `n` seeds: the first `quick`, then `step` each, slow from there."""

    def marks(first: int) -> list[Any]:
        if slow is not None and first >= slow:
            return [pytest.mark.slow]
        return [pytest.mark.deep] if first else []

    step = step or n
    bounds = [0, quick, *range(step * (quick // step + 1), n, step), n]
    return [
        pytest.param(range(first, end), marks=marks(first), id=str(first))
        for first, end in pairwise(bounds)
    ]


def examples(quick: int, deep: int) -> Any:
    """Gives a test its `n_examples`: so many here, and so many there."""
    return pytest.mark.parametrize(
        "n_examples", [quick, pytest.param(deep, marks=pytest.mark.deep)]
    )
