"""Between wire messages and records: nothing is lost, and a torn message is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request import wire
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import PartialSampling
from radixroute.request.sampling import FinishReason, SamplingParams

quick = settings(max_examples=100, deadline=None, derandomize=True)
u32 = st.integers(0, 2**32 - 1)
floats = st.floats(0, 2, width=32)
biases = st.dictionaries(u32, floats, max_size=3).map(lambda one: tuple(sorted(one.items())))


@quick
@given(st.lists(u32))
def test_token_ids_survive_the_wire(ids):
    unpacked = wire.unpack_tokens(wire.pack_tokens(ids))
    assert unpacked.tolist() == ids
    assert unpacked.dtype == np.uint32
    assert wire.pack_tokens(unpacked) == wire.pack_tokens(ids)


def test_token_ids_are_little_endian_and_writable():
    assert wire.pack_tokens([1, 258]) == b"\x01\0\0\0\x02\x01\0\0"
    assert wire.unpack_tokens(b"\x01\0\0\0").flags.writeable


def test_every_second_token_of_an_array_packs_as_a_list_does():
    array = np.arange(10, dtype=np.uint32)[::2]
    assert wire.pack_tokens(array) == wire.pack_tokens(array.tolist())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_torn_token_id_is_refused_by_field(size):
    with pytest.raises(InvalidRequest) as caught:
        wire.unpack_tokens(b"x" * size, field="emitted_token_ids")
    assert caught.value.field == "emitted_token_ids"


@quick
@given(
    st.builds(
        PartialSampling,
        temperature=st.none() | floats,
        top_p=st.none() | floats,
        top_k=st.none() | u32,
        seed=st.none() | st.integers(0, 2**64 - 1),
        max_tokens=st.none() | u32,
        min_tokens=st.none() | u32,
        stop=st.lists(st.text(), max_size=3).map(tuple),
        stop_token_ids=st.lists(u32, max_size=3).map(tuple),
        ignore_eos=st.booleans(),
        n=st.none() | u32,
        presence_penalty=st.none() | floats,
        frequency_penalty=st.none() | floats,
        repetition_penalty=st.none() | floats,
        min_p=st.none() | floats,
        logit_bias=biases,
        logprobs=st.none() | u32,
    )
)
def test_what_a_client_did_not_set_stays_unset(partial):
    message = pb.SamplingParams.FromString(
        wire.partial_sampling_to_proto(partial).SerializeToString()
    )
    read = wire.partial_sampling_from_proto(message)
    assert replace(read, logit_bias=tuple(sorted(read.logit_bias))) == partial


@quick
@given(
    st.builds(
        SamplingParams,
        temperature=floats,
        top_p=floats,
        top_k=u32,
        seed=st.integers(0, 2**64 - 1),
        max_tokens=u32,
        min_tokens=u32,
        stop=st.lists(st.text(), max_size=3).map(tuple),
        stop_token_ids=st.lists(u32, max_size=3).map(tuple),
        ignore_eos=st.booleans(),
        presence_penalty=floats,
        frequency_penalty=floats,
        repetition_penalty=floats,
        min_p=floats,
        logit_bias=biases,
        logprobs=st.none() | u32,
    )
)
def test_complete_sampling_survives_the_wire(sampling):
    message = pb.SamplingParams.FromString(wire.sampling_to_proto(sampling).SerializeToString())
    assert wire.sampling_from_proto(message) == sampling


@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "max_tokens"])
def test_a_worker_refuses_sampling_with_a_hole(name):
    message = wire.sampling_to_proto(SamplingParams())
    message.ClearField(name)
    with pytest.raises(InvalidRequest, match=name):
        wire.sampling_from_proto(message)


def test_finish_reasons_have_the_same_names_and_values_on_both_sides():
    wired = {
        name.removeprefix("FINISH_REASON_"): value
        for name, value in pb.FinishReason.items()
        if value
    }
    assert wired == {reason.name: reason.value for reason in FinishReason}


@pytest.mark.parametrize("finish", [None, *FinishReason])
def test_finish_reasons_survive_the_wire(finish):
    assert wire.finish_from_proto(wire.finish_to_proto(finish)) is finish


def test_a_finish_reason_of_a_newer_wire_still_ends_the_request():
    assert wire.finish_from_proto(99) is FinishReason.ERROR


def test_a_conversation_survives_the_wire():
    chat = (ChatMessage("system", "be brief"), ChatMessage("user", "hi\n"))
    assert tuple(wire.messages_from_proto(wire.messages_to_proto(chat))) == chat
