"""What a worker's word on its steps becomes at the router's link."""

from math import inf, nan

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.links.wire import step_reports
from radixroute.worker.api.streams import Piece
from radixroute.worker.api.wire import token_delta
from radixroute.worker.engine.engine import PromptReport, TokenOutput


@pytest.mark.parametrize("told", [inf, -inf, nan, -5.0, 1e300])
def test_a_time_that_is_none_counts_as_not_known(told):
    """The core rounds times to nanoseconds: infinity ended the session with an OverflowError."""
    assert next(step_reports(pb.StepOutput(step_ms=told))).step_ms == 0.0


def test_a_time_stays_as_it_was_told():
    assert next(step_reports(pb.StepOutput(step_ms=12.5))).step_ms == 12.5


@pytest.mark.parametrize("position", [(None, 0), (0, 0), (7, 3)])
def test_where_its_cache_was_looked_up_arrives_or_is_not_known(position):
    report = PromptReport(9, 8, 1, 0.5, 1.5, *position)
    told = TokenOutput("id", 1, "s", 0, (5,), prompt=report)
    delta = token_delta("id", told, Piece((5,), "", None, cut=False))
    (heard,) = next(step_reports(pb.StepOutput(deltas=[delta]))).deltas
    assert heard.prompt is not None
    assert (heard.prompt.event_seq, heard.prompt.events_before) == position
