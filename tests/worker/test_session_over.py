"""The last request of a session, through the engine: what only that session used leaves first."""

from dataclasses import replace

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.tree.eviction import EVICTION_POLICIES
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import MOST_SESSION_REQUESTS, Limits
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.wire import sampling_to_proto
from radixroute.worker.api.intake import Intake
from tests.worker.fakes import FakeRunner, assert_at_rest, drain, make_engine, request
from tests.worker.serving import collect, session, submit, worker

OLD, TOLD, NEW = ([start] * 16 for start in (1, 2, 3))


def engine_of(blocks=12, **settings):
    return make_engine(FakeRunner(n_blocks=blocks), **settings)[0]


def serve(engine, name, prompt, last_of=None, **more):
    """How many of its tokens were cached."""
    asked = request(name, prompt, max_tokens=1, ignore_eos=True, **more)
    engine.submit(replace(asked, last_of_session=last_of), 0)
    outputs, _ = drain(engine)
    assert_at_rest(engine)
    return outputs[name][0].prompt.cached_tokens


def found(engine, *prompts):
    """Tokens of each that the cache holds, one less than all at most; nothing is used by that."""
    cache = engine._scheduler._cache
    return [cache.cached_tokens(request("x", prompt).prompt) for prompt in prompts]


@pytest.mark.parametrize("policy", EVICTION_POLICIES)
@pytest.mark.parametrize(("last_of", "left"), [(None, [4, 12]), (1, [12, 4])])
def test_a_told_session_leaves_before_an_older_one(policy, last_of, left):
    engine = engine_of(blocks=9, eviction_policy=policy)
    serve(engine, "old", OLD)
    serve(engine, "told", TOLD, last_of)
    serve(engine, "new", NEW)
    assert found(engine, OLD, TOLD) == left


def test_a_session_of_several_requests_is_told_by_its_last_one():
    engine = engine_of(blocks=9)
    serve(engine, "old", OLD)
    assert serve(engine, "first", TOLD[:8]) == 0
    assert serve(engine, "second", TOLD, last_of=2) == 8
    serve(engine, "new", NEW)
    assert found(engine, OLD) == [12]


def test_who_says_so_and_comes_back_is_a_session_again():
    engine = engine_of(blocks=9)
    serve(engine, "told", TOLD, 1)
    serve(engine, "old", OLD)
    serve(engine, "told again", TOLD)
    serve(engine, "new", NEW)
    assert found(engine, TOLD) == [12]


def test_one_that_is_aborted_tells_nothing():
    engine = engine_of(blocks=9)
    serve(engine, "old", OLD)
    asked = request("told", TOLD, max_tokens=4, ignore_eos=True)
    engine.submit(replace(asked, last_of_session=1), 0)
    engine.step(0)
    engine.abort("told", 1)
    outputs, _ = drain(engine)
    assert outputs["told"][-1].finish is FinishReason.ABORT
    serve(engine, "new", NEW)
    assert found(engine, TOLD) == [12]


def test_a_preemption_is_no_end():
    """It tells when it ends, and counts as used twice by then."""
    engine = engine_of(blocks=6)
    for name, prompt, last_of in (("a", [1] * 8, None), ("b", [2] * 8, 1)):
        asked = request(name, prompt, max_tokens=8, ignore_eos=True)
        engine.submit(replace(asked, last_of_session=last_of), 0)
    outputs, _ = drain(engine)
    assert engine.scheduler_counters.preemptions > 0
    assert outputs["b"][-1].finish is FinishReason.LENGTH
    assert_at_rest(engine)


@pytest.mark.parametrize(("last_of", "cached"), [(0, 8), (1, 36)])
async def test_a_whole_worker_keeps_what_is_not_over(last_of, cached):
    """A pool of 32 blocks, prompts of 10: the fourth one's blocks are an earlier one's."""
    prompts = {name: [token] * 40 for token, name in enumerate(("old", "told", "b", "c"), 1)}
    async with worker(kv_memory=32 * 32) as (_, stub, _channel), session(stub) as call:
        for name, prompt in (*prompts.items(), ("again", prompts["old"])):
            sent = submit(name, prompt, max_tokens=1)
            sent.last_of_session = last_of if name == "told" else 0
            await call.write(pb.EngineRequest(submit=sent))
            (delta,) = (await collect(call, name))[name]
    assert delta.prompt.cached_tokens == cached


def submission(**more):
    message = pb.SubmitRequest(
        request_id="r",
        attempt=1,
        prompt_token_ids=b"\1\0\0\0",
        sampling=sampling_to_proto(SamplingParams(max_tokens=2)),
        **more,
    )
    return Intake(Limits(100, 100)).submit(message)


def test_a_worker_takes_a_count_and_an_older_router_sends_none():
    assert submission(last_of_session=3).last_of_session == 3
    assert submission().last_of_session is None
    assert submission(last_of_session=0).last_of_session is None


def test_a_worker_believes_no_router_that_a_count_is_one():
    with pytest.raises(InvalidRequest, match="how many requests the session had"):
        submission(last_of_session=MOST_SESSION_REQUESTS + 1)


def test_an_older_worker_passes_over_what_it_does_not_know():
    """As if the field were one that this build does not know, either."""
    told = pb.SubmitRequest(request_id="r", last_of_session=3).SerializeToString()
    unknown = told.replace(b"\x58\x03", b"\xf8\x7f\x03")  # field 2047
    assert unknown != told
    read = pb.SubmitRequest.FromString(unknown)
    assert (read.request_id, read.last_of_session) == ("r", 0)
