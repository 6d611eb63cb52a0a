"""The worth of the simulation: every planted bug is found, in a bounded number of seeds."""

import pytest

from tests.simulation.planted import find, names, patched, says


@pytest.mark.parametrize("name", names())
def test_a_planted_bug_still_fits_the_code(name, tmp_path):
    patched(name, tmp_path)
    assert says(name).endswith(".")


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_a_planted_bug_is_found(name):
    found = find(name, 500)
    assert found.claim, f"{name}: no invariant broke in {found.seeds} seeds"
