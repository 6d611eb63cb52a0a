"""Tokens that go past the stream that would read them say what it would have said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import unpack_tokens
from radixroute.worker.api.answers.plain_texts import MAX_PLAIN, PlainTexts
from radixroute.worker.api.intake import Submission
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.engine.engine import EngineStep, TokenOutput, WorkerSessionProgress
from tests.router.fakes import tiny_tokenizer
from tests.worker.fakes import request
from tests.worker.test_worker_sessions import Engine

TOKENIZER = tiny_tokenizer()


def token_of(data):
    return next(n for n in range(TOKENIZER.vocab_size) if TOKENIZER.token_bytes[n] == data)


FEW = st.sampled_from([token_of(data) for data in (b"a", b"b", b"\xc3", b"\xa9")])


def test_only_whole_characters_are_plain_and_they_have_a_bound():
    texts = PlainTexts(TOKENIZER)
    half, other = token_of(b"\xc3"), token_of(b"\xa9")
    assert (texts.of((half,)), texts.of((other,))) == (None, None)
    assert texts.of((half, other)) == "é"
    whole = token_of(b"a")
    for n in range(1, MAX_PLAIN + 1):
        texts.of((whole,) * (n % 40 + 1) + (n % TOKENIZER.vocab_size,))
    assert len(texts) <= MAX_PLAIN


class NeverPlain(PlainTexts):
    def of(self, token_ids):
        return None


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
    read: dict[bool, list[pb.StepOutput]] = {}
    for is_plain in (True, False):
        sessions = WorkerSessions(TOKENIZER, Engine())
        session = sessions.open("router", takes_columns=True)
        session.submit(submission)
        if not is_plain:
            sessions.plain_texts = NeverPlain(TOKENIZER)
        for at in range(cut, len(ids), group):
            part = tuple(ids[at : at + group])
            output = TokenOutput("s1.1", 1, "s1", at, part)
            progress = WorkerSessionProgress("s1", 1, 1, 0, 0)
            sessions.deliver(EngineStep(at, (output,), (), 1.0, 0, 1, 0, (progress,)))
        read[is_plain] = session.take_outputs()
    assert read[True] == read[False]
    if not stop:
        told = b"".join(
            one.columns.token_ids + b"".join(delta.token_ids for delta in one.deltas)
            for one in read[True]
        )
        assert unpack_tokens(told).tolist() == ids[cut:]
