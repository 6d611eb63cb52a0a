"""What is known of a prompt's pieces is not encoded again, and the ids are those of the whole: for
every kind of tokenizer, wherever the text was cut before."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request import tokenizer as ours
from radixroute.request.chat import ChatMessage
from radixroute.request.control_tokens import ControlTokens, _begin_anew
from radixroute.request.encoding import around
from tests.request import samples
from tests.request.tokenizers_of_all_kinds import KINDS, TEXTS, files_of

SMOL = Path(".cache/models/SmolLM2-135M-Instruct")
ROLES = ("user", "assistant")


class Known:
    """A recall that knows all it was ever told, by the text from the prompt's first character."""

    def __init__(self) -> None:
        self.ids: dict[bytes, bytes] = {}
        self.begin()

    def begin(self) -> "Known":
        self.asked = self.known = 0
        self._so_far = ""
        return self

    def next(self, piece: str) -> tuple[bytes, bytes | None]:
        self._so_far += piece
        name = self._so_far.encode()
        self.asked += 1
        self.known += name in self.ids
        return name, self.ids.get(name)

    def learn(self, name: bytes, packed: bytes) -> None:
        assert name not in self.ids
        self.ids[name] = packed


@pytest.fixture(autouse=True, scope="module")
def tiny_pieces():
    """So that short texts have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "RECALLED_CHARS", 1)
        yield


def made(kind: str, **config: object) -> ours.Tokenizer:
    if kind == "SmolLM2":
        return ours.Tokenizer.from_dir(SMOL)
    files = {"tokenizer.json": files_of(kind)}
    files["tokenizer_config.json"] = json.dumps(
        {"chat_template": samples.TEMPLATE, **config}
    ).encode()
    return ours.Tokenizer.from_files(files)


TOKENIZERS = {kind: made(kind) for kind in KINDS}
TOKENIZERS["byte level with a BOS by its configuration"] = made(
    "byte level", add_bos_token=True, bos_token="<s>"
)
EVERY = [
    *TOKENIZERS,
    pytest.param(
        "SmolLM2", marks=pytest.mark.skipif(not SMOL.is_dir(), reason="make model fetches it")
    ),
]


def of(kind: str) -> ours.Tokenizer:
    if kind not in TOKENIZERS:
        TOKENIZERS[kind] = made(kind)
    return TOKENIZERS[kind]


@pytest.mark.parametrize("kind", EVERY)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS, more=TEXTS, data=st.data())
def test_a_text_that_grew_has_the_ids_of_the_whole(kind, text, more, data):
    tokenizer, known = of(kind), Known()
    whole = text + more
    for end in (data.draw(st.integers(0, len(whole))), len(text), len(whole), len(whole)):
        got = tokenizer.encode(whole[:end], recall=known.begin())
        assert got.tolist() == tokenizer.encode(whole[:end]).tolist()
    assert known.known == known.asked  # the same text a second time


@pytest.mark.parametrize("kind", EVERY)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(contents=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_chat_that_grew_has_the_ids_of_the_whole(kind, contents):
    tokenizer, known = of(kind), Known()
    messages = [ChatMessage(ROLES[at % 2], text) for at, text in enumerate(contents)]
    for n in range(1, len(messages) + 1, 2):
        got = tokenizer.encode_chat(messages[:n], recall=known.begin())
        assert got.tolist() == tokenizer.encode_chat(messages[:n]).tolist()


@pytest.mark.parametrize("kind", EVERY)
def test_only_a_new_turn_is_encoded(kind):
    """Nothing is proved by the tests above about a tokenizer that is never cut."""
    tokenizer, known = of(kind), Known()
    turns = [ChatMessage(ROLES[at % 2], f"hello {at} the cat " * 9) for at in range(9)]
    tokenizer.encode_chat(turns[:7], recall=known.begin())
    n_ids = len(known.ids)
    tokenizer.encode_chat(turns, recall=known.begin())
    assert known.known >= 14  # a mark at each end of 7 messages
    assert len(known.ids) - n_ids <= 6


def test_what_stands_around_a_text_is_found_or_the_text_is_encoded_whole():
    def found(kind: str) -> tuple[list[int], list[int]]:
        both = around(tokenizers.Tokenizer.from_buffer(files_of(kind)))
        assert both is not None
        return both[0].tolist(), both[1].tolist()

    assert found("byte level") == ([], [])
    assert found("word piece") == ([1], [2])
    assert found("strips") == ([0], [1])
    assert found("unigram")[1] == []
    assert len(found("unigram")[0]) == 1


def test_a_last_step_that_repeats_a_text_is_seen_and_nothing_is_cut():
    twice = tokenizers.Tokenizer.from_buffer(files_of("byte level"))
    twice.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s> $A", special_tokens=[("</s>", 1)]
    )
    assert around(twice) is None
    known = Known()
    tokenizer = ours.Tokenizer.from_files({"tokenizer.json": twice.to_str().encode()})
    text = "hello<|im_start|>world<|im_start|>"
    assert tokenizer.encode(text, recall=known).tolist() == twice.encode(text).ids
    assert known.asked == 0
    assert not ControlTokens(twice, set()).has_cuts


def test_a_word_that_its_neighbour_looks_at_is_no_place_to_cut():
    """`word` is one only where no letter follows."""
    backend = KINDS["greedy neighbours"]()
    pieces = list(ControlTokens(backend, set()).pieces("hello wordENDhello", 1))
    assert pieces == ["hello wordENDhello"]


def test_a_backend_that_does_not_begin_anew_is_never_cut():
    """Whatever the rules say: they are put to the test when it is loaded."""

    class Looks:
        """The ids of a text depend on what is before it."""

        def encode_batch_fast(self, texts, add_special_tokens):
            class Found(list[int]):
                ids = property(list)

            return [Found(hash(text[:at]) for at in range(len(text))) for text in texts]

    assert not _begin_anew(cast(Any, Looks()), ["<s>"])
    assert _begin_anew(KINDS["byte level"](), ["<s>", "<|im_start|>"])


def test_ids_are_checked_before_they_are_unpacked():
    tokenizer, known = of("byte level"), Known()
    text = "hello<|im_start|>" * 50
    seen = list[int]()
    tokenizer.encode(text, recall=known, check=seen.append)
    assert seen[-1] == tokenizer.encode(text).size

    def refuse(n_tokens: int) -> None:
        raise OverflowError(n_tokens)

    with pytest.raises(OverflowError):
        tokenizer.encode(text, recall=known.begin(), check=refuse)
