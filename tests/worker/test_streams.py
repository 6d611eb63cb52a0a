"""An answer's visible side: any split of the ids, any stop strings, any point of resume."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request.logprobs import TokenLogprob, pack_logprobs
from radixroute.request.sampling import FinishReason
from radixroute.worker.api.answers.streams import AnswerStream
from radixroute.worker.engine.engine import TokenOutput
from tests.worker.fakes import EOS, make_tokenizer, request

TOKENIZER = make_tokenizer()
IDS = st.lists(st.integers(1, 96), min_size=1, max_size=20)


def stream_of(stop=(), emitted=(), text_len=0, min_tokens=0):
    sent = request("a", [1], emitted=emitted, stop=tuple(stop), min_tokens=min_tokens)
    return AnswerStream(TOKENIZER, sent, text_len)


def play(stream, ids, start=0, last=FinishReason.LENGTH, group=1):
    """What is shown of these ids: ids, text, the finish."""
    shown, text = [], ""
    for at in range(start, len(ids), group):
        part = tuple(ids[at : at + group])
        finish = last if at + group >= len(ids) else None
        piece = stream.take(TokenOutput("a", 1, "s", at, part, finish))
        shown += piece.token_ids
        text += piece.text
        if piece.finish is not None:
            return shown, text, piece.finish
    return shown, text, None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ids=IDS, group=st.integers(1, 5))
def test_without_stop_strings_the_text_is_the_decoded_answer(ids, group):
    shown, text, finish = play(stream_of(), ids, group=group)
    assert (shown, text, finish) == (ids, TOKENIZER.decode(ids), FinishReason.LENGTH)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ids=st.lists(st.integers(65, 68), min_size=1, max_size=20), data=st.data())
def test_the_text_ends_before_the_first_stop_string(ids, data):
    whole = TOKENIZER.decode(ids)
    letters = "".join(sorted(set(whole)))
    stop = data.draw(st.text(alphabet=letters, min_size=1, max_size=3))
    shown, text, finish = play(stream_of([stop]), ids, group=data.draw(st.integers(1, 4)))
    if stop in whole:
        assert text == whole[: whole.index(stop)]
        assert finish is FinishReason.STOP
        assert shown == ids[: whole.index(stop) + len(stop)]
    else:
        assert (shown, text, finish) == (ids, whole, FinishReason.LENGTH)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ids=IDS, cut=st.integers(0, 20), stop=st.sampled_from([(), ("zz",), ("a", "~~")]))
def test_a_resume_shows_what_the_whole_would_have_shown(ids, cut, stop):
    whole = play(stream_of(stop), ids)
    first = stream_of(stop)
    shown, text, finish = play(first, ids[:cut], last=None)
    if finish is not None or cut >= len(ids):
        return
    again = stream_of(stop, emitted=ids[:cut], text_len=len(text))
    rest_shown, rest_text, finish = play(again, ids, start=cut)
    assert (shown + rest_shown, text + rest_text, finish) == whole


def test_the_token_that_ends_an_answer_is_reported_but_is_no_text():
    for end in (EOS, 40):
        shown, text, finish = play(stream_of(), [34, 35, end], last=FinishReason.STOP)
        assert (shown, text) == ([34, 35, end], TOKENIZER.decode([34, 35]))
        assert finish is FinishReason.STOP


def test_a_stop_string_does_not_count_before_min_tokens():
    ids = [34, 34, 34, 34]
    shown, text, _ = play(stream_of([TOKENIZER.decode([34])], min_tokens=3), ids)
    assert len(shown) == 3
    assert text == TOKENIZER.decode([34, 34])


def test_held_back_text_goes_out_at_the_end_and_a_cut_is_told():
    letter = TOKENIZER.decode([34])
    stream = stream_of([letter * 3])
    first = stream.take(TokenOutput("a", 1, "s", 0, (34, 34), None))
    assert (first.text, first.cut) == ("", False)
    last = stream.take(TokenOutput("a", 1, "s", 2, (35,), FinishReason.LENGTH))
    assert last.text == TOKENIZER.decode([34, 34, 35])
    cut = stream_of([letter]).take(TokenOutput("a", 1, "s", 0, (35, 34, 36), None))
    assert (cut.token_ids, cut.cut, cut.finish) == ((35, 34), True, FinishReason.STOP)


def test_of_what_a_stop_string_cuts_off_nothing_is_told():
    told = pack_logprobs([TokenLogprob(-float(at), ((at, -0.5),)) for at in range(3)])
    ids, letter = (35, 34, 36), TOKENIZER.decode([34])
    output = TokenOutput("a", 1, "s", 0, ids, None, logprobs=told)
    whole, cut = stream_of().take(output), stream_of([letter]).take(output)
    assert whole.logprobs == told
    assert cut.token_ids == ids[:2]
    assert cut.logprobs is not None
    assert cut.logprobs.unpacked() == told.unpacked()[:2]


def test_an_error_or_abort_shows_nothing_more():
    stream = stream_of(["zz"])
    stream.take(TokenOutput("a", 1, "s", 0, (90,), None))
    piece = stream.take(TokenOutput("a", 1, "s", 1, (), FinishReason.ERROR, "why"))
    assert (piece.text, piece.finish) == ("", FinishReason.ERROR)
    assert np.size(piece.token_ids) == 0
