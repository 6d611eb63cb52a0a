"""A client's trace goes on in the engine; nothing else that it put into headers does."""

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.limits import Limits
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import sampling_to_proto
from radixroute.worker.api.intake import Intake
from tests.engines.bodies import WITH_TOOLS
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import fleet
from tests.router.http.wire import CHATS, COMPLETIONS, ask

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHERS = (
    "tracestate: theirs=1",
    "baggage: theirs=1",
    "X-data-parallel-rank: 1",
    "X-Vllm-Priority: -5",
    "X-Session-Id: theirs",
    "X-Request-Id: theirs",
    "x-override-rid: theirs",
)


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang, FakeOpenAi])
async def test_a_trace_reaches_the_engine_on_both_ways_and_no_other_header(kind):
    companion = {"block_size": 4} if kind is FakeOpenAi else {}
    async with fleet("a", kind=kind, companion=companion) as made:
        engine = made.engines["a"]
        prompt = {"prompt": list(range(1, 20)), "max_tokens": 2}
        for trace, told in ((TRACE, TRACE), (f"{TRACE}\tx", None), ("", None)):
            headers = (*OTHERS, *([f"traceparent: {trace}"] if trace else []))
            assert (await ask(made.router, COMPLETIONS, prompt, *headers)).status == 200
            assert (await ask(made.router, CHATS, WITH_TOOLS, *headers)).status == 200
            for seen in (engine.headers[-1], engine.chats.headers[-1]):
                assert seen.get("traceparent") == told
                assert not {"tracestate", "baggage", "x-session-id", "x-override-rid"} & {*seen}
                assert not {"x-data-parallel-rank", "x-vllm-priority"} & {*seen}
                assert "theirs" not in str(seen)


def test_a_worker_believes_no_router_that_it_is_one():
    intake = Intake(Limits(100, 100))
    for told, kept in ((TRACE, TRACE), (f"{TRACE}\r\nX-Override-Rid: 1", ""), ("x", "")):
        message = pb.SubmitRequest(
            request_id="r",
            attempt=1,
            prompt_token_ids=b"\1\0\0\0",
            sampling=sampling_to_proto(SamplingParams(max_tokens=2)),
            traceparent=told,
        )
        submission = intake.submit(message)
        assert submission is not None
        assert submission.traceparent == kept
