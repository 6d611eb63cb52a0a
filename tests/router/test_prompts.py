"""Prompts too large to read and those that are not: what is looked at, where and in which order."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.keys.scope import UNSCOPED
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import MAX_PROMPT_BYTES, Limits, PartialSampling
from radixroute.request.pacing import Abandoned
from radixroute.request.wire import pack_tokens
from radixroute.router.api import prompt_threads
from radixroute.router.api.giants.readers import GIANT_BYTES
from radixroute.router.api.grpc.proto_request import MAX_PARSED_BYTES, ProtoRequest
from radixroute.router.api.grpc.wire_size import MAX_FIELDS, bytes_beside
from radixroute.router.api.prompt_threads import Pacer
from tests.router.clusters import all_live, cluster, collect, until
from tests.router.fakes import FakeWorker

WIDE = Limits(max_model_len=10_000_000, vocab_size=400)
NARROW = Limits(max_model_len=100, vocab_size=400)


def generate(**fields) -> bytes:
    return pb.GenerateRequest(**fields).SerializeToString()


def empty_chat(n: int) -> bytes:
    """`n` empty messages, without making them."""
    return b"\x1a" + varint(2 * n) + b"\x0a\x00" * n


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_message_too_large_for_any_prompt_is_refused_as_bytes(monkeypatch):
    parsed = list[bytes]()
    monkeypatch.setattr(pb.GenerateRequest, "FromString", parsed.append, raising=False)
    for data in (
        empty_chat(4_000_000),
        generate(text="x" * (MAX_PARSED_BYTES + 1)),
        generate(sampling=pb.SamplingParams(stop=[""] * 1_200_000)),
        generate(token_ids=bytes(8), text="x" * MAX_PARSED_BYTES),
        b"\xff" * (MAX_PARSED_BYTES + 1),
        generate(tenant="t") * (MAX_PARSED_BYTES // 3 + 1),
    ):
        with pytest.raises(InvalidRequest, match="shorten it to at most"):
            ProtoRequest.of_generate(data)
    assert not parsed


def test_token_ids_may_be_as_long_as_a_message():
    ids = bytes(12 << 20)
    asked = ProtoRequest.of_generate(generate(token_ids=ids, tenant="t"))
    assert (asked.n_bytes, asked.message.tenant) == (len(ids), "t")
    route = pb.RouteRequest(request=pb.GenerateRequest(token_ids=ids)).SerializeToString()
    assert ProtoRequest.of_route(route).n_bytes == len(ids)
    big = pb.RouteRequest(request=pb.GenerateRequest(text="x" * (3 << 20))).SerializeToString()
    with pytest.raises(InvalidRequest, match="shorten"):
        ProtoRequest.of_route(big)


def test_a_torn_message_is_refused_in_our_words():
    with pytest.raises(InvalidRequest, match="cannot be parsed"):
        ProtoRequest.of_generate(b"\xff\xff")
    with pytest.raises(InvalidRequest, match="cannot be parsed"):
        ProtoRequest.of_route(b"\xff\xff")


def test_fields_are_measured_without_their_content():
    data = generate(model="m", token_ids=bytes(400), priority=3, tenant="t")
    assert bytes_beside(data, (4,)) == len(data) - 400
    assert bytes_beside(data * 2, (4,)) == 2 * len(data) - 800
    assert bytes_beside(data, ()) == 0
    many = generate(tenant="t") * MAX_FIELDS + generate(token_ids=bytes(400))
    assert bytes_beside(many, (4,)) == len(many)  # not looked for beyond
    fixed = b"\x79" + bytes(8) + b"\x7d" + bytes(4) + generate(token_ids=bytes(9))
    assert bytes_beside(fixed, (4,)) == len(fixed) - 9


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (empty_chat(100), "has 100 messages; .* give at most 99"),
        (generate(token_ids=pack_tokens(range(100))), "has 100 tokens"),
        (generate(text="hi", sampling=pb.SamplingParams(stop=["x"] * 17)), "has 17 strings"),
        (generate(text="hi", sampling=pb.SamplingParams(stop_token_ids=[1] * 65)), "has 65 ids"),
    ],
)
def test_counts_are_checked_before_anything_is_converted(data, words, monkeypatch):
    def convert(*_):
        raise AssertionError("converted before its size was checked")

    for name in ("messages_from_proto", "partial_sampling_from_proto", "unpack_tokens"):
        monkeypatch.setattr(f"radixroute.router.api.grpc.proto_request.{name}", convert)
    for name in ("text", "chat"):
        monkeypatch.setattr(f"radixroute.router.api.giants.forms.Reading.{name}", convert)
    asked = ProtoRequest.of_generate(data)
    with pytest.raises(InvalidRequest, match=words):
        asked.check(NARROW)


def test_text_is_bounded_by_what_the_model_could_take():
    narrow = Limits(max_model_len=100, vocab_size=400, max_prompt_bytes=600)
    ProtoRequest.of_generate(generate(text="x" * 600)).check(narrow)
    for data in (generate(text="x" * 601), empty_chat(301)):
        with pytest.raises(InvalidRequest, match=r"messages|at most 600"):
            ProtoRequest.of_generate(data).check(narrow)
    whole = ProtoRequest.of_generate(generate(text="x" * MAX_PROMPT_BYTES, tenant="t"))
    whole.check(WIDE)


async def test_a_long_text_for_a_small_model_is_never_tokenised(monkeypatch):
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        tokenizer = service.runtime.handshake.served.tokenizer
        monkeypatch.setattr(
            type(tokenizer), "encode", lambda *_, **__: pytest.fail("it was tokenised")
        )
        for asked in (
            pb.GenerateRequest(text="x" * (511 * tokenizer.longest_token_bytes + 1)),
            pb.GenerateRequest.FromString(empty_chat(200_000)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await collect(router.Generate(asked))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_small_and_middling_prompts_never_wait_for_giant_ones():
    release = threading.Event()
    seen: dict[int, str] = {}
    async with cluster(FakeWorker("a")) as (service, _, _):
        await until(lambda: all_live(service))
        reader, served = service._prompts, service.runtime.handshake.served

        class Asked:
            is_text, n_messages, resumed, giant = True, 0, None, None

            def __init__(self, n_bytes):
                self.n_bytes, self.model = n_bytes, ""

            def check(self, limits):
                pass

            def tokens(self, reading):
                seen[self.n_bytes] = threading.current_thread().name
                if self.n_bytes > GIANT_BYTES:
                    release.wait(30)
                return np.arange(20, 40, dtype=np.uint32)

            def sampling(self):
                return PartialSampling()

        giants = [
            asyncio.create_task(reader._prompt(Asked(GIANT_BYTES + n), served, UNSCOPED, 0))
            for n in range(1, 6)
        ]
        try:
            await until(lambda: len(seen) == prompt_threads.THREADS)
            for n_bytes in (100, prompt_threads.INLINE_BYTES + 1, GIANT_BYTES):
                await asyncio.wait_for(reader._prompt(Asked(n_bytes), served, UNSCOPED, 0), 30)
            assert not any(giant.done() for giant in giants)
            assert len(seen) == prompt_threads.THREADS + 3  # giants have their own
            assert seen[100] == threading.current_thread().name
            assert seen[prompt_threads.INLINE_BYTES + 1].startswith("prompt")
        finally:
            release.set()
            await asyncio.gather(*giants)


def test_work_that_nobody_waits_for_ends_at_its_next_turn():
    pacer = Pacer()
    pacer()
    pacer.give_up()
    with pytest.raises(Abandoned):
        pacer()
