"""What a worker's word on its steps becomes at the router's link."""

from math import inf, nan

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.links.wire import step_reports


@pytest.mark.parametrize("told", [inf, -inf, nan, -5.0, 1e300])
def test_a_time_that_is_none_counts_as_not_known(told):
    """The core rounds times to nanoseconds: infinity ended the session with an OverflowError."""
    assert next(step_reports(pb.StepOutput(step_ms=told))).step_ms == 0.0


def test_a_time_stays_as_it_was_told():
    assert next(step_reports(pb.StepOutput(step_ms=12.5))).step_ms == 12.5
