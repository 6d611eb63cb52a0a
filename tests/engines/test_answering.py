"""Greedy answers to the probes: alike where the weights are, whatever serves them."""

from radixroute.doctor.evidence import EngineSeen, Evidence
from radixroute.doctor.table import diagnose
from radixroute.worker.companions.join.answering import PROBES, TOKENS
from radixroute.worker.companions.join.examination import Asks
from tests.engines.examining import examined
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_run import Run
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm


class _OtherWeights(FakeVllm):
    """Says other things greedily."""

    def _advance(self, run: Run) -> None:
        run.seed, run.temperature = 7, 1.0
        super()._advance(run)


async def test_engines_with_one_model_answer_alike_and_other_weights_are_named():
    seen = [await examined(one()) for one in (FakeVllm, FakeSglang, _OtherWeights)]
    first, second, other = seen
    assert [len(one.token_ids) for one in first.answers] == [TOKENS] * len(PROBES)
    assert all(one.told for one in first.answers)
    assert [one.token_ids for one in first.answers] == [one.token_ids for one in second.answers]
    found = diagnose(Evidence(engines=tuple(EngineSeen(one) for one in seen)))
    of_answers = [one for one in found if one.code == "answers_differ"]
    assert [one.where for one in of_answers] == [other.url]
    assert "of 2 greedy answers" in of_answers[0].seen


async def test_who_tells_no_log_probabilities_or_is_only_asked_has_no_answers():
    assert (await examined(FakeOpenAi())).answers == ()
    assert (await examined(FakeVllm(), asks=Asks.NOTHING)).answers == ()


async def test_one_that_serves_already_is_asked_the_probes_alone():
    engine = FakeVllm()
    seen = await examined(engine, asks=Asks.PROBES)
    assert len(seen.answers) == len(PROBES) == len(engine.received)
    assert not seen.was_tried
    assert all(one["max_tokens"] == TOKENS for one in engine.received)
