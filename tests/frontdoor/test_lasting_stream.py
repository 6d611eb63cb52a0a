"""A stream across the deaths of routers: what is sent next, when, and when it is over."""

import grpc
import pytest

from radixroute.errors import RequestFailed
from radixroute.lasting_stream import LastingStream
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import pack_tokens

SAMPLING = pb.SamplingParams(temperature=0.5, seed=11, max_tokens=9)
ASKED = pb.GenerateRequest(text="tell me", tenant="mine", cache_salt="s")


class Error:
    """As gRPC raises it."""

    def __init__(self, code, details=""):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


BROKEN = Error(grpc.StatusCode.UNAVAILABLE, "Socket closed")
NOBODY = Error(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
NO_WORKERS = Error(grpc.StatusCode.UNAVAILABLE, "no worker has joined yet (request 1f)")
FULL = Error(grpc.StatusCode.RESOURCE_EXHAUSTED, "the router is full (request 1f)")
CLOSED = Error(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
REFUSED = Error(grpc.StatusCode.INVALID_ARGUMENT, "sampling.seed is wrong (request 1f)")


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def stream(clock=None, **more) -> LastingStream:
    terms = {"timeout_s": 100.0, "patience_s": 10.0, **more}
    return LastingStream(ASKED, clock_s=clock or Clock(), **terms)


def message(position=0, text="ab", **more) -> pb.GenerateResponse:
    ids = pack_tokens(range(20 + position, 22 + position))
    return pb.GenerateResponse(request_id="1f", token_ids=ids, text=text, position=position, **more)


def test_what_has_come_goes_into_the_next_request_with_the_sampling_that_was_told():
    lasting = stream()
    lasting.take(message(sampling=SAMPLING))
    lasting.take(message(2, "çd"))
    assert lasting.pause_s(BROKEN) is not None
    request = lasting.request
    assert (request.text, request.tenant, request.sampling) == ("tell me", "mine", SAMPLING)
    assert request.cache_salt == "s"
    assert request.resume.request_id == "1f"
    assert request.resume.emitted_token_ids == pack_tokens(range(20, 24))
    assert (request.resume.emitted_text_len, request.resume.number) == (4, 1)
    assert not ASKED.HasField("resume")


def test_a_resume_that_may_have_arrived_gets_a_higher_number_and_one_that_did_not_keeps_its_own():
    lasting = stream()
    lasting.take(message(sampling=SAMPLING))
    numbers = []
    for error in (BROKEN, NOBODY, NOBODY, BROKEN, NO_WORKERS):
        assert lasting.pause_s(error) is not None
        numbers.append(lasting.request.resume.number)
    assert numbers == [1, 1, 1, 2, 3]


def test_before_the_first_message_it_is_asked_anew():
    lasting = stream()
    assert lasting.pause_s(BROKEN) is not None
    assert lasting.request == ASKED


def test_a_router_that_was_there_before_is_waited_for():
    assert stream().pause_s(NOBODY) is None
    clock = Clock()
    lasting = stream(clock, is_known=True)
    assert lasting.pause_s(NOBODY) is not None
    assert lasting.request == ASKED
    assert lasting.pause_s(NO_WORKERS) is not None
    clock.now_s = 10.0
    assert lasting.pause_s(NOBODY) is None


@pytest.mark.parametrize("error", [NOBODY, NO_WORKERS, FULL, REFUSED])
def test_what_fails_at_once_is_an_answer(error):
    assert stream().pause_s(error) is None


@pytest.mark.parametrize("error", [NO_WORKERS, FULL, REFUSED, CLOSED])
def test_errors_that_are_answers_end_a_stream_that_has_begun(error):
    lasting = stream()
    lasting.take(message(sampling=SAMPLING))
    assert lasting.pause_s(error) is None


def test_patience_begins_anew_with_each_message_and_the_deadline_does_not():
    clock = Clock()
    lasting = stream(clock, timeout_s=25.0)
    lasting.take(message(sampling=SAMPLING))
    for position in (2, 4):
        assert lasting.pause_s(BROKEN) is not None
        clock.now_s += 8.0
        assert lasting.pause_s(NOBODY) is not None
        lasting.take(message(position))
    assert lasting.pause_s(BROKEN) is not None
    clock.now_s += 8.0
    assert lasting.left_s == 1.0
    clock.now_s += 0.99
    assert lasting.pause_s(NOBODY) is None
    patient = stream(clock)
    patient.take(message(sampling=SAMPLING))
    assert patient.pause_s(BROKEN) is not None
    clock.now_s += 10.0
    assert patient.pause_s(NOBODY) is None


def test_a_router_that_tells_no_sampling_cannot_go_on():
    lasting = stream()
    lasting.take(message())
    assert lasting.pause_s(BROKEN) is None


def test_what_comes_twice_or_not_at_all_never_reaches_the_caller():
    for position in (0, 3):
        lasting = stream()
        lasting.take(message(sampling=SAMPLING))
        with pytest.raises(RequestFailed, match=f"token {position} where 2"):
            lasting.take(message(position))
    lasting.pause_s(BROKEN)
    other = message(2)
    other.request_id = "2e"
    with pytest.raises(RequestFailed, match="cannot go on"):
        lasting.take(other)


def test_usage_counts_what_the_routers_before_told():
    lasting = stream()
    first = pb.Usage(cached_tokens=8, attempts=2, ttft_ms=5.0, queue_ms=1.0, recomputed_tokens=3)
    first.by_attempt.add(worker_id="a")
    first.by_attempt.add(worker_id="b")
    lasting.take(message(sampling=SAMPLING, usage=first))
    lasting.pause_s(BROKEN)
    second = pb.Usage(attempts=1, ttft_ms=99.0, recomputed_tokens=20, output_tokens=4)
    second.by_attempt.add(worker_id="c")
    usage = lasting.take(message(2, usage=second)).usage
    assert (usage.cached_tokens, usage.attempts, usage.recomputed_tokens) == (8, 3, 23)
    assert (usage.ttft_ms, usage.queue_ms, usage.output_tokens) == (5.0, 1.0, 4)
    assert [one.worker_id for one in usage.by_attempt] == ["a", "b", "c"]
