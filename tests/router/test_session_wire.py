"""What a worker's word on its steps becomes at the router's link."""

from dataclasses import replace
from math import inf, nan

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.logprobs import TokenLogprob, join_logprobs, pack_logprobs
from radixroute.router.links.wire import step_reports
from radixroute.worker.api.answers.streams import Piece
from radixroute.worker.api.answers.wire import token_delta
from radixroute.worker.engine.engine import PromptReport, TokenOutput


@pytest.mark.parametrize("told", [inf, -inf, nan, -5.0, 1e300])
def test_a_time_that_is_none_counts_as_not_known(told):
    """The core rounds times to nanoseconds: infinity ended the session with an OverflowError."""
    assert next(step_reports(pb.StepOutput(step_ms=told))).step_ms == 0.0


def test_a_time_stays_as_it_was_told():
    assert next(step_reports(pb.StepOutput(step_ms=12.5))).step_ms == 12.5


TOLD = pack_logprobs(
    [TokenLogprob(-0.5, ((7, -0.25), (8, -1.0))), TokenLogprob(-2.0, ((1, -0.5), (2, -3.0)))]
)


def heard_of(token_ids, logprobs):
    told = TokenOutput("id", 1, "s", 0, token_ids)
    delta = token_delta("id", told, Piece(token_ids, "", None, False, logprobs))
    (heard,) = next(step_reports(pb.StepOutput(deltas=[delta]))).deltas
    return heard.logprobs


def test_log_probabilities_arrive_as_they_were_told():
    assert heard_of((5, 6), TOLD) == TOLD
    assert heard_of((5, 6), None) is None
    assert TOLD.first(1).unpacked() == TOLD.unpacked()[:1]
    assert join_logprobs([TOLD.first(1), TOLD]).unpacked() == TOLD.unpacked()[:1] + TOLD.unpacked()


@pytest.mark.parametrize(
    "torn",
    [
        {"chosen": TOLD.chosen[:-1]},
        {"n_top": 3},
        {"n_top": 2**32 - 1},
        {"top": TOLD.top[4:]},
        {"top_ids": b""},
    ],
    ids=str,
)
def test_log_probabilities_of_other_tokens_count_as_not_told(torn):
    """Whoever unpacks them later must not fail over what a worker said."""
    assert heard_of((5, 6), replace(TOLD, **torn)) is None
    assert heard_of((5,), TOLD) is None


@pytest.mark.parametrize("position", [(None, 0, None), (0, 0, 0), (7, 3, 1)])
def test_where_its_cache_was_looked_up_arrives_or_is_not_known(position):
    report = PromptReport(9, 8, 1, 0.5, 1.5, *position)
    told = TokenOutput("id", 1, "s", 0, (5,), prompt=report)
    delta = token_delta("id", told, Piece((5,), "", None, cut=False))
    (heard,) = next(step_reports(pb.StepOutput(deltas=[delta]))).deltas
    assert heard.prompt is not None
    prompt = heard.prompt
    assert (prompt.event_seq, prompt.events_before, prompt.rank) == position
