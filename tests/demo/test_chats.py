"""The chat workload: seeded, in the size and sharing of real chats."""

import dataclasses
import re
import statistics
from pathlib import Path

import pytest

from radixroute.demo.errors import InvalidWorkload, TornTexts
from radixroute.demo.workload.chats import ChatShape, make_workload
from radixroute.demo.workload.personas import _parse, load_personas
from radixroute.request.tokenizer import Tokenizer

MODEL = Path(__file__).resolve().parents[2] / ".cache" / "models" / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def tokenizer():
    if not (MODEL / "tokenizer.json").exists():
        pytest.skip("the demo's model is not here: run `make model`")
    return Tokenizer.from_dir(MODEL)


def test_the_same_seed_gives_the_same_chats():
    assert make_workload(7) == make_workload(7)


def test_another_seed_gives_other_chats():
    first, second = make_workload(7), make_workload(8)
    assert [chat.persona for chat in first.chats] != [chat.persona for chat in second.chats]
    assert first.chats[0].start_s != second.chats[0].start_s


@pytest.mark.parametrize("seed", range(5))
def test_chats_are_odd_and_arrive_in_order_within_the_time_given(seed):
    workload = make_workload(seed)
    starts = [chat.start_s for chat in workload.chats]
    assert len(workload.chats) % 2 == 1
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] <= workload.shape.arrivals_s


@pytest.mark.parametrize("seed", range(5))
def test_every_persona_has_its_share_of_chats_in_shuffled_order(seed):
    personas = [chat.persona for chat in make_workload(seed).chats]
    counts = [personas.count(name) for name in set(personas)]
    assert len(counts) == 4
    assert max(counts) - min(counts) <= 1
    assert personas != sorted(personas)


@pytest.mark.parametrize("seed", range(5))
def test_turns_and_answers_stay_within_the_shape(seed):
    shape = ChatShape()
    for chat in make_workload(seed).chats:
        assert shape.min_turns <= len(chat.turns) <= shape.max_turns
        assert chat.turns[0].think_s == 0.0
        for turn in chat.turns:
            assert shape.min_answer_tokens <= turn.max_tokens <= shape.max_answer_tokens
            assert 0 <= turn.think_s <= shape.longest_think_s


def test_no_blank_is_left_open_and_no_text_comes_twice_in_a_chat():
    names = {name for persona in load_personas() for name in persona.blanks}
    open_blank = re.compile(r"\{(" + "|".join(sorted(names)) + r")\}")
    for seed in range(5):
        for chat in make_workload(seed).chats:
            texts = [turn.user for turn in chat.turns]
            assert len(set(texts)) == len(texts)
            assert not any(open_blank.search(text) for text in texts)


def test_a_turn_carries_the_whole_history_with_the_answers_given():
    chat = make_workload(1).chats[0]
    messages = chat.messages(("first answer", "second answer"))
    assert [message.role for message in messages] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert messages[2].content == "first answer"
    assert messages[-1].content == chat.turns[2].user
    assert chat.messages(("first answer",)) == messages[:4]


def test_no_turn_follows_the_last_one():
    chat = make_workload(1).chats[0]
    with pytest.raises(InvalidWorkload):
        chat.messages(["answer"] * len(chat.turns))


@pytest.mark.parametrize(
    "wrong",
    [
        {"chats": 8},
        {"chats": 0},
        {"min_turns": 0},
        {"min_turns": 5, "max_turns": 4},
        {"min_answer_tokens": 9, "max_answer_tokens": 8},
        {"paste_share": 1.5},
    ],
    ids=str,
)
def test_a_shape_that_makes_no_workload_is_refused(wrong):
    with pytest.raises(InvalidWorkload):
        dataclasses.replace(ChatShape(), **wrong)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 1, "system": 3}'])
def test_damaged_texts_are_named(text):
    with pytest.raises(TornTexts, match=re.escape("some.json")):
        _parse("some.json", text)


def test_system_prompts_have_500_tokens_or_more(tokenizer):
    lengths = {p.name: len(tokenizer.encode(p.system)) for p in load_personas()}
    assert len(lengths) == 4
    assert min(lengths.values()) >= 500, lengths


def test_prompts_are_as_long_as_those_of_real_chats(tokenizer):
    lengths = [
        len(tokenizer.encode_chat(chat.messages(["An answer of some words."] * turn)))
        for chat in make_workload(1).chats
        for turn in range(len(chat.turns))
    ]
    assert min(lengths) >= 550
    assert max(lengths) <= 3000
    assert 1000 <= statistics.mean(lengths) <= 1800
