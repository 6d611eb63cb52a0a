"""Deltas that are written by hand say what protobuf and the stream would say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.worker.api.intake import Submission
from radixroute.worker.api.wire import (
    MAX_PLAIN,
    PlainDeltas,
    PlainFields,
    delta_field,
    step_output,
    varint,
)
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.engine.engine import EngineStep, TokenOutput, WorkerSessionProgress
from tests.router.fakes import tiny_tokenizer
from tests.worker.fakes import request
from tests.worker.test_worker_sessions import Engine

TOKENIZER = tiny_tokenizer()


def token_of(data):
    return next(n for n in range(TOKENIZER.vocab_size) if TOKENIZER.token_bytes[n] == data)


FEW = st.sampled_from([token_of(data) for data in (b"a", b"b", b"\xc3", b"\xa9")])
U32 = st.integers(0, 2**32 - 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    name=st.text(max_size=40) | st.just("r" * 200),
    attempt=U32,
    position=st.sampled_from([0, 1, 127, 128, 4095, 4096]) | U32,
    text=st.text(max_size=200),
)
def test_a_plain_delta_is_protobufs_own(name, attempt, position, text):
    said = pb.TokenDelta(token_ids=pack_tokens((3, 4)), text=text)
    told = PlainDeltas(name, attempt).delta(position, said.SerializeToString())
    said.request_id, said.attempt, said.position = name, attempt, position
    assert told == delta_field(said)
    rest = pb.StepOutput(step=7, step_ms=0.5, decode_tokens=2)
    assert pb.StepOutput.FromString(step_output([told, told], rest)) == pb.StepOutput(
        step=7, step_ms=0.5, decode_tokens=2, deltas=[said, said]
    )


@given(n=st.integers(0, 2**64 - 1))
def test_numbers_are_written_as_protobuf_does(n):
    assert pb.StepOutput(step=n).SerializeToString() == (b"\x08" + varint(n) if n else b"")


def test_only_whole_characters_are_plain_and_they_have_a_bound():
    fields = PlainFields(TOKENIZER)
    half, other = token_of(b"\xc3"), token_of(b"\xa9")
    assert (fields.of((half,)), fields.of((other,))) == (b"", b"")
    assert pb.TokenDelta.FromString(fields.of((half, other))).text == "é"
    for n in range(MAX_PLAIN + 1):
        fields.of((n,))
    assert len(fields) < 8


class NeverPlain(PlainFields):
    def of(self, token_ids):
        return b""


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    ids=st.lists(FEW | st.integers(1, TOKENIZER.vocab_size - 1), min_size=1, max_size=14),
    prompt=st.lists(st.integers(1, TOKENIZER.vocab_size - 1), min_size=1, max_size=4),
    group=st.integers(1, 3),
    stop=st.sampled_from([(), (), ("ab",)]),
    resumed=st.integers(0, 4),
    shown=st.integers(0, 5),
)
def test_a_session_sends_what_the_stream_says(ids, prompt, group, stop, resumed, shown):
    """Whichever way outputs go: text and ids are those of an answer that is read token by token."""
    cut = min(resumed, len(ids) - 1)
    sent = request("a", prompt, emitted=ids[:cut], stop=stop)
    submission = Submission("a", 1, 1, sent.prompt, sent.sampling, sent.emitted, shown, sent.scope)
    read = {}
    for is_plain in (True, False):
        sessions = WorkerSessions(TOKENIZER, Engine())
        session = sessions.open("router")
        session.submit(submission)
        if not is_plain:
            sessions.plain_fields = NeverPlain(TOKENIZER)
        for at in range(cut, len(ids), group):
            part = tuple(ids[at : at + group])
            output = TokenOutput("s1.1", 1, "s1", at, part)
            progress = WorkerSessionProgress("s1", 1, 1, 0, 0)
            sessions.deliver(EngineStep(at, (output,), (), 1.0, 0, 1, 0, (progress,)))
        read[is_plain] = [pb.StepOutput.FromString(one) for one in session.take_outputs()]
    assert read[True] == read[False]
    if not stop:
        told = b"".join(delta.token_ids for one in read[True] for delta in one.deltas)
        assert unpack_tokens(told).tolist() == ids[cut:]
