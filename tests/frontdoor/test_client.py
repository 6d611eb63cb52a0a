"""The clients, blocking and asyncio: one contract, over real gRPC."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import numpy as np
import pytest

from radixroute.answer import Delta, RawText, Usage
from radixroute.client import AsyncRouterClient, RouterClient
from radixroute.errors import BadInput, RequestFailed, RequestRefused, RouterUnreachable
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling
from radixroute.request.sampling import FinishReason
from tests.frontdoor.fake_router import REQUEST_ID, fake_router


class Blocking:
    """Both clients by the same verbs."""

    def generate(self, address, *args, **kwargs):
        with RouterClient(address) as client:
            return list(client.generate(*args, **kwargs))

    def inspect(self, address, method, *args):
        with RouterClient(address) as client:
            return getattr(client, method)(*args)


class Asyncio:
    def generate(self, address, *args, **kwargs):
        async def run():
            async with AsyncRouterClient(address) as client:
                return [delta async for delta in client.generate(*args, **kwargs)]

        return asyncio.run(run())

    def inspect(self, address, method, *args):
        async def run():
            async with AsyncRouterClient(address) as client:
                return await getattr(client, method)(*args)

        return asyncio.run(run())


@pytest.fixture(params=[Blocking, Asyncio])
def client(request):
    return request.param()


@pytest.fixture
def dead_address():
    with socket.socket() as taken:  # bound and not listening: nobody else gets it
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_an_answer_comes_in_pieces_with_its_usage(client, router):
    deltas = client.generate(router, "hello")
    assert "".join(delta.text for delta in deltas) == "A [b]tree[/b] 🎉"
    assert deltas[-1] == Delta(
        request_id=REQUEST_ID,
        token_ids=(9,),
        text=" 🎉",
        position=2,
        finish=FinishReason.STOP,
        usage=Usage(
            prompt_tokens=480,
            cached_tokens=464,
            output_tokens=3,
            recomputed_tokens=0,
            attempts=2,
            worker_id="worker-1",
            ttft_ms=12.5,
            queue_ms=0.5,
        ),
    )
    assert [delta.finish for delta in deltas[:-1]] == [None, None]
    assert deltas[1].usage is None


def test_a_prompt_travels_as_what_it_is(client, router, script):
    client.generate(router, RawText("text"))
    client.generate(router, "hi")
    client.generate(router, (ChatMessage("user", "hi"),))
    client.generate(router, np.array([1, 2], dtype=np.uint32))
    kinds = [one.WhichOneof("prompt") for one in script.asked]
    assert kinds == ["text", "messages", "messages", "token_ids"]
    assert script.asked[0].text == "text"
    for asked in script.asked[1:3]:
        assert list(asked.messages.messages) == [pb.ChatMessage(role="user", content="hi")]
    assert script.asked[3].token_ids == b"\x01\0\0\0\x02\0\0\0"


def test_options_reach_the_router_and_the_rest_stays_unset(client, router, script):
    sampling = PartialSampling(temperature=0.0, seed=5, stop=("\n",))
    client.generate(router, RawText("x"), sampling, policy="random", session_key="s", model="m")
    client.generate(router, RawText("x"), last_of_session=4)
    assert script.asked.pop() == pb.GenerateRequest(
        text="x", sampling=pb.SamplingParams(), last_of_session=4
    )
    assert script.asked == [
        pb.GenerateRequest(
            text="x",
            sampling=pb.SamplingParams(temperature=0.0, seed=5, stop=["\n"]),
            policy="random",
            session_key="s",
            model="m",
        )
    ]


def test_inspection_answers_are_the_wires(client, router):
    assert [one.worker_id for one in client.inspect(router, "list_workers").workers] == [
        "worker-0",
        "worker-1",
    ]
    assert client.inspect(router, "hit_rates").total.cached_tokens == 100
    assert client.inspect(router, "explain", REQUEST_ID).policy == "radix"
    assert client.inspect(router, "router_info").counters["drops"] == 2**60


def test_a_router_that_is_not_there_is_named_with_what_to_do(client, dead_address):
    with pytest.raises(RouterUnreachable, match=f"{dead_address}.*radixroute up"):
        client.inspect(dead_address, "list_workers")
    with pytest.raises(RouterUnreachable):
        client.generate(dead_address, "x")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", RequestRefused),
        ("NOT_FOUND", RequestRefused),
        ("UNAVAILABLE", RequestFailed),
        ("RESOURCE_EXHAUSTED", RequestFailed),
        ("INTERNAL", RequestFailed),
    ],
)
def test_a_refusal_is_told_by_what_the_caller_can_do(client, router, script, code, kind):
    script.refusal = (grpc.StatusCode[code], f"top_p: is 2; use less (request {REQUEST_ID})")
    with pytest.raises(kind, match="top_p: is 2; use less"):
        client.generate(router, "x")


def test_a_request_larger_than_what_is_sent_is_refused_with_both_sizes(client, router):
    with pytest.raises(BadInput, match=r"has 20,000,\d+ bytes and a client sends 16,777,216"):
        client.generate(router, np.zeros(5_000_000, np.uint32))


def test_a_request_larger_than_the_router_takes_is_refused_with_both_sizes(client, script):
    with fake_router(script, options=[("grpc.max_receive_message_length", 1000)]) as address:
        with pytest.raises(RequestRefused) as raised:
            client.generate(address, np.zeros(500, np.uint32))
        assert "has 2,005 bytes and is larger than the 1,000 bytes" in str(raised.value)
        assert "larger than max" not in str(raised.value)


def test_an_answer_larger_than_what_is_taken_says_so(client, router, script):
    one = pb.WorkerStatus(worker_id="w" * (1 << 20))
    script.workers = pb.ListWorkersResponse(workers=[one] * 17)
    with pytest.raises(RequestFailed, match=r"answer of 17,\d+,\d+ bytes .* 16,777,216 bytes"):
        client.inspect(router, "list_workers")


def test_a_deadline_names_the_time_it_gave(script):
    stop = Event()
    script.answer = (stop.wait(10) for _ in range(1))
    with fake_router(script) as address, RouterClient(address, timeout_s=0.2) as client:
        with pytest.raises(RequestFailed, match=r"no complete answer within 0\.2 s"):
            list(client.generate("x"))
        stop.set()


def test_an_answer_that_ends_in_an_error_raises(client, router, script):
    script.answer = (
        pb.GenerateResponse(request_id=REQUEST_ID, finish_reason=pb.FINISH_REASON_ERROR),
    )
    with pytest.raises(RequestFailed, match=REQUEST_ID):
        client.generate(router, "x")


def test_a_server_of_another_kind_is_no_router(client):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(RouterUnreachable, match="not a radixroute router"):
            client.inspect(f"127.0.0.1:{port}", "hit_rates")
    finally:
        server.stop(0).wait()


def test_a_router_that_goes_away_in_the_middle_is_a_failed_request(script):
    stop = Event()

    def endless(first):
        yield first
        stop.wait(10)

    script.answer = endless(script.answer[0])
    with fake_router(script) as address:
        client = RouterClient(address)
        answer = client.generate("x")
        next(answer)
    stop.set()
    with client, pytest.raises(RequestFailed):
        next(answer)


def test_leaving_early_cancels_the_request(router, script):
    gone = Event()

    class Watching:
        def __iter__(self):
            try:
                while True:
                    yield script_answer[0]
            finally:
                gone.set()

    script_answer = script.answer
    script.answer = Watching()
    with RouterClient(router) as client:
        for _ in client.generate("x"):
            break
        assert gone.wait(5)  # before the channel is closed, which would cancel it too
