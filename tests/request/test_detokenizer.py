"""The incremental detokenizer: whole characters, once each, the same text as decoding at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request.detokenizer import IncrementalDetokenizer
from tests.request import samples

BYTE_LEVEL = samples.byte_level()
SENTENCE_PIECE = samples.sentence_piece()
TOKENIZERS = [
    pytest.param(BYTE_LEVEL, id="byte-level"),
    pytest.param(SENTENCE_PIECE, id="sentence-piece"),
]
quick = settings(max_examples=150, deadline=None, derandomize=True)


def pieces_of(draw, ids):
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=6)))
    return [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]


def stream(detokenizer, pieces):
    return [*(detokenizer.push(piece) for piece in pieces), detokenizer.flush()]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_any_text_in_any_split_comes_out_as_it_went_in(tokenizer):
    @quick
    @given(st.data(), st.text())
    def check(data, text):
        ids = [int(i) for i in tokenizer.encode(text)]
        parts = stream(IncrementalDetokenizer(tokenizer), pieces_of(data.draw, ids))
        assert "".join(parts) == tokenizer.decode(ids)

    check()


@quick
@given(st.data(), st.lists(st.integers(0, BYTE_LEVEL.vocab_size + 3), max_size=30))
def test_any_ids_in_any_split_decode_as_the_whole_does(data, ids):
    parts = stream(IncrementalDetokenizer(BYTE_LEVEL), pieces_of(data.draw, ids))
    assert "".join(parts) == BYTE_LEVEL.decode(ids)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("text", ["🦀🧪", "한국어", "👨🏽‍🚀"])
def test_a_character_of_many_tokens_is_never_shown_in_halves(tokenizer, text):
    ids = [int(i) for i in tokenizer.encode(text)]
    parts = stream(IncrementalDetokenizer(tokenizer), [[i] for i in ids])
    assert len(ids) > 2 * len(text)
    assert "\ufffd" not in "".join(parts)
    assert "".join(parts) == text


def test_an_unfinished_character_waits_and_ends_as_the_replacement_character():
    ids = [int(i) for i in BYTE_LEVEL.encode("a🦀")]
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL)
    assert detokenizer.push(ids[:-1]) == "a"
    assert detokenizer.flush() == "\ufffd"


def test_special_tokens_are_no_text():
    ids = [*BYTE_LEVEL.encode("hello"), *BYTE_LEVEL.eos_token_ids]
    assert "".join(stream(IncrementalDetokenizer(BYTE_LEVEL), [ids])) == "hello"


def test_added_tokens_outside_the_byte_alphabet_are_text_as_they_stand():
    ids = [int(i) for i in BYTE_LEVEL.encode("a two words<think>é")]
    assert BYTE_LEVEL.vocab_size - 1 in ids
    assert IncrementalDetokenizer(BYTE_LEVEL).push(ids) == "a two words<think>é"


def test_the_first_space_goes_only_where_a_sentence_begins():
    ids = [int(i) for i in SENTENCE_PIECE.encode("the the")]
    assert IncrementalDetokenizer(SENTENCE_PIECE).push(ids) == "the the"
    assert IncrementalDetokenizer(SENTENCE_PIECE, prompt_tail=ids[-1:]).push(ids) == " the the"


@quick
@given(st.data(), st.text())
def test_an_answer_taken_over_anywhere_reads_on_without_a_seam(data, text):
    ids = [int(i) for i in BYTE_LEVEL.encode(text)]
    cut = data.draw(st.integers(0, len(ids)))
    before = IncrementalDetokenizer(BYTE_LEVEL).push(ids[:cut])
    resumed = IncrementalDetokenizer(BYTE_LEVEL)
    assert resumed.prime(ids[:cut]) == before
    assert before + resumed.push(ids[cut:]) + resumed.flush() == BYTE_LEVEL.decode(ids)
