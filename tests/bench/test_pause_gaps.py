"""What bench-pause makes of arrival times."""

import pytest

from bench.pause.gaps import Gaps


def test_gaps_are_between_neighbours_of_one_stream():
    gaps = Gaps()
    gaps.between([1.0, 1.02, 1.05])
    gaps.between([1.01])
    gaps.between([5.0, 5.1])
    assert [round(ms) for ms in gaps.ms] == [20, 30, 100]
    assert round(gaps.at(0.5)) == 30
    assert round(gaps.at(0.999)) == 100


def test_nothing_measured_is_no_result():
    with pytest.raises(ValueError, match="nothing was measured"):
        Gaps().at(0.5)
