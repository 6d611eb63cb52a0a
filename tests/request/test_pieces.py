"""Long chats are encoded in pieces: the ids are those of the whole, for every kind of tokenizer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from radixroute.request.chat import ChatMessage
from radixroute.request.control_tokens import ControlTokens
from tests.request import samples

TEXTS = st.lists(
    st.sampled_from(
        ("<|im_start|>", "<|im_end|>", "<s>", "<", "|>", " ", "\n", "two words", "<think>", "hello",
         "é", "e\u0301", "東", "<|im_", "  ")
    ),
    max_size=40,
).map("".join)  # fmt: skip


def backends() -> dict[str, Tokenizer]:
    found = {
        "byte level": Tokenizer.from_buffer(samples.byte_level_json()),
        "sentence piece": Tokenizer.from_buffer(samples.sentence_piece_json()),
    }
    spaced = Tokenizer.from_buffer(samples.byte_level_json())
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    first = Tokenizer.from_buffer(samples.sentence_piece_json())
    first.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    greedy = Tokenizer.from_buffer(samples.byte_level_json())
    greedy.add_special_tokens(
        [
            AddedToken("<left>", lstrip=True, special=True),
            AddedToken("right>", rstrip=True, special=True),
            AddedToken("<s>again", special=True),
        ]
    )
    return {**found, "prefix space": spaced, "only the first": first, "greedy neighbours": greedy}


BACKENDS = backends()


@pytest.mark.parametrize("kind", BACKENDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS, n_chars=st.integers(1, 30))
def test_pieces_give_the_ids_of_the_whole(kind, text, n_chars):
    backend = BACKENDS[kind]
    control = ControlTokens(backend, set(samples.SPECIALS))
    pieces = list(control.pieces(text, n_chars))
    assert "".join(pieces) == text
    found = [backend.encode(piece, add_special_tokens=False).ids for piece in pieces]
    ids = [one for piece in found for one in piece]
    assert ids == backend.encode(text, add_special_tokens=False).ids


def test_a_token_that_another_could_reach_into_is_no_place_to_cut():
    def cuts(*contents: str, **how: bool) -> int:
        spec = json.loads(samples.byte_level_json())
        backend = Tokenizer.from_str(json.dumps(spec))
        backend.add_special_tokens([AddedToken(text, **how) for text in contents])
        text = "hello" + contents[0] + "hello"
        return len(list(ControlTokens(backend, set()).pieces(text, 1))) - 1

    assert cuts("[A]") == 1
    assert cuts("[A]", "o[A") == 0
    assert cuts("[A]", "[A]b") == 0
    assert cuts("[A]", lstrip=True) == 0
    assert cuts("[A]", single_word=True) == 0
    assert cuts("[A]", normalized=True) == 0


def test_a_long_chat_is_encoded_in_pieces(monkeypatch):
    tokenizer = samples.byte_level()
    chat = [ChatMessage("user", f"hello {number} the cat sat on the mat") for number in range(3000)]
    assert tokenizer._template is not None
    whole = tokenizer._backend.encode(tokenizer._template.render(chat), add_special_tokens=False)
    seen = list[int]()
    tokens = tokenizer.encode_chat(chat, check=seen.append)
    assert tokens.tolist() == whole.ids
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == tokens.size
