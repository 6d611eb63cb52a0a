"""Giant prompts: read in processes of their own, as if they had been read in place."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time

import grpc
import numpy as np
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import Limits
from radixroute.request.pacing import Abandoned
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.router.api.giants import messages as wire
from radixroute.router.api.giants.child import serve
from radixroute.router.api.giants.forms import Form, Reading
from radixroute.router.api.giants.readers import GIANT_BYTES, Giant, GiantReaders
from radixroute.router.api.grpc.proto_request import ProtoRequest
from radixroute.router.api.grpc.wire_size import cut_out
from radixroute.router.api.memo.memo import Memo
from radixroute.router.counters import Count
from radixroute.router.errors import PromptUnread
from tests.request.samples import byte_level
from tests.router.clusters import all_live, cluster, collect, until
from tests.router.fakes import WideWorker

WIDE = Limits(max_model_len=10_000_000, vocab_size=400)
TEXT = "Grüße, hello world the cat sat. " * (GIANT_BYTES // 30)
CHAT = pb.ChatMessages(
    messages=[pb.ChatMessage(role="user", content="hello world " * 40)] * (GIANT_BYTES // 450)
)
IDS = [n % 400 for n in range(GIANT_BYTES)]
GIANTS = {
    Form.TEXT: TEXT.encode(),
    Form.CHAT: CHAT.SerializeToString(),
    Form.JSON_TEXT: json.dumps(TEXT).encode(),
    Form.JSON_IDS: json.dumps(IDS).encode(),
    Form.JSON_CHAT: json.dumps(
        [{"role": one.role, "content": one.content} for one in CHAT.messages]
    ).encode(),
}


def in_place(form):
    """The same prompt, read where it is asked for."""
    if form is Form.JSON_IDS:
        return np.array(IDS)
    is_text = form in (Form.TEXT, Form.JSON_TEXT)
    message = pb.GenerateRequest(text=TEXT) if is_text else pb.GenerateRequest(messages=CHAT)
    return ProtoRequest(message, 0).tokens(Reading(byte_level(), WIDE))


@pytest.fixture
def readers():
    all_readers = GiantReaders()
    yield all_readers
    pids = all_readers.pids
    all_readers.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def read(readers, form, limits=WIDE, is_wanted=lambda: True):
    return readers.read(Giant(form, GIANTS[form]), byte_level(), limits, is_wanted)


def test_they_become_the_tokens_that_they_would_in_place(readers):
    for form in Form:
        got = read(readers, form)
        assert got.dtype == np.uint32
        assert np.array_equal(got, in_place(form))
    assert len(readers.pids) == 1  # one after the other: one process


def test_what_is_wrong_with_one_is_said_as_in_place(readers):
    narrow = Limits(max_model_len=100, vocab_size=400)
    for form, words in ((Form.TEXT, "tokens"), (Form.CHAT, "messages; .* give at most 99")):
        with pytest.raises(InvalidRequest, match=words) as raised:
            read(readers, form, narrow)
        assert raised.value.field
    strange = "cannot be read"
    for form, words in (
        (Form.TEXT, "no UTF-8"),
        (Form.CHAT, "no ChatMessages"),
        (Form.JSON_TEXT, strange),
        (Form.JSON_IDS, strange),
        (Form.JSON_CHAT, strange),
    ):
        with pytest.raises(InvalidRequest, match=words):
            readers.read(Giant(form, b"\xff" * 100), byte_level(), WIDE, lambda: True)
    assert readers.lost == 0


def test_a_process_that_is_lost_is_replaced_and_its_prompt_read_again(readers):
    read(readers, Form.TEXT)
    (first,) = readers.pids
    os.kill(first, signal.SIGSTOP)
    got = []
    thread = threading.Thread(target=lambda: got.append(read(readers, Form.TEXT)))
    thread.start()
    while readers._idle:  # the thread has it now
        time.sleep(0.001)
    os.kill(first, signal.SIGKILL)
    thread.join(60)
    assert np.array_equal(got[0], in_place(Form.TEXT))
    assert readers.lost == 1
    assert readers.pids != [first]
    (second,) = readers.pids
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    assert np.array_equal(read(readers, Form.TEXT), in_place(Form.TEXT))
    assert readers.lost == 1  # it had nothing to read


def test_one_that_ends_every_time_is_given_up(readers, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(PromptUnread):
        read(readers, Form.TEXT)
    assert (readers.lost, readers.pids) == (2, [])


def test_work_that_nobody_waits_for_stops_and_the_process_goes_on(readers):
    read(readers, Form.TEXT)
    with pytest.raises(Abandoned):
        # A reader looks only when there is no answer for a while: the process is held back.
        _unwanted(readers)
    assert np.array_equal(read(readers, Form.CHAT), in_place(Form.CHAT))
    assert readers.lost == 0


def _unwanted(readers):
    (pid,) = readers.pids
    os.kill(pid, signal.SIGSTOP)

    def is_wanted():
        # Its word to stop waits in the socket when the process goes on.
        threading.Timer(0.1, os.kill, (pid, signal.SIGCONT)).start()
        return False

    read(readers, Form.CHAT, is_wanted=is_wanted)


def test_a_process_ends_with_its_router():
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def run():
        with contextlib.suppress(EOFError, OSError):
            serve(theirs, Memo(1 << 20, 60.0))
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    wire.send(ours, wire.Stop(7))  # crossed an answer
    wire.send(ours, wire.Load(byte_level().files()))
    wire.send(ours, wire.read_job(1, Form.TEXT, GIANTS[Form.TEXT], WIDE))
    answer = wire.receive(ours)
    assert isinstance(answer, wire.Tokens)
    assert np.array_equal(unpack_tokens(bytes(answer.packed)), in_place(Form.TEXT))
    ours.close()
    assert ended.wait(30)
    theirs.close()


def test_a_giant_is_cut_out_and_the_rest_parsed():
    more = pb.GenerateRequest(
        tenant="t", priority=3, sampling=pb.SamplingParams(max_tokens=4, stop=["x"])
    )
    texts, chats = pb.GenerateRequest(text=TEXT), pb.GenerateRequest(messages=CHAT)
    for whole, form in ((texts, Form.TEXT), (chats, Form.CHAT)):
        whole.MergeFrom(more)
        routed = pb.RouteRequest(request=whole)
        for asked in (
            ProtoRequest.of_generate(whole.SerializeToString()),
            ProtoRequest.of_route(routed.SerializeToString()),
        ):
            assert asked.giant == Giant(form, GIANTS[form])
            assert asked.message == more
            assert asked.is_text
            assert asked.n_bytes == whole.ByteSize()


def test_ids_are_no_giants_however_many():
    ids = pack_tokens(range(GIANT_BYTES))
    resume = pb.StreamResume(request_id="r", emitted_token_ids=ids)
    for message in (
        pb.GenerateRequest(token_ids=ids, resume=resume),
        pb.GenerateRequest(text="hi", resume=resume),
        pb.GenerateRequest(text=TEXT, resume=resume),
    ):
        asked = ProtoRequest.of_generate(message.SerializeToString())
        assert (asked.giant is None) is (message.text != TEXT)
        assert asked.message.resume == resume


def test_what_no_client_sends_is_refused_unparsed():
    text = pb.GenerateRequest(text=TEXT).SerializeToString()
    stops = pb.GenerateRequest(sampling=pb.SamplingParams(stop=[""] * GIANT_BYTES))
    for data in (
        text + text,
        text + pb.GenerateRequest(token_ids=bytes(4)).SerializeToString(),
        text + stops.SerializeToString(),
        stops.SerializeToString(),
        b"\x10\x01" + text,  # the number of `text` with a number in it
        text + b"\xff",
        text + b"\x0a\x7f",
    ):
        with pytest.raises(InvalidRequest, match="not as clients send it"):
            ProtoRequest.of_generate(data)
    route = pb.RouteRequest(request=pb.GenerateRequest(text=TEXT)).SerializeToString()
    with pytest.raises(InvalidRequest, match="not as clients send it"):
        ProtoRequest.of_route(route + route)
    assert cut_out(b"", frozenset({2})) is None


async def test_a_giant_goes_all_the_way():
    async with cluster(WideWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        request = pb.GenerateRequest(text=TEXT, sampling=pb.SamplingParams(max_tokens=2))
        messages = await collect(router.Generate(request))
        tokenizer = service.runtime.handshake.served.tokenizer
        assert messages[-1].usage.prompt_tokens == len(tokenizer.encode(TEXT))
        readers = service._prompts._giant_readers
        (pid,) = readers.pids
        # A client that goes away takes its prompt's reading with it.
        os.kill(pid, signal.SIGSTOP)
        call = router.Generate(request)
        await asyncio.sleep(0)
        await until(lambda: not readers._idle)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await collect(call)
        os.kill(pid, signal.SIGCONT)
        await until(lambda: readers._idle)
        assert readers.pids == [pid]
        assert service.runtime.core._state.counters[Count.PROMPT_READERS_LOST] == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(pb.GenerateRequest(text=TEXT * 200)))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
