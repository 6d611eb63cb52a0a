"""Logs of chats: text in, requests out, each prompt the tokens that an engine would have seen."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.chats import tokenized
from radixroute.replay.traces.chats.tokenized import TokenizedChats
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reading.wanted import ChatTimes
from radixroute.request.chat import ChatMessage
from tests.replay.traces import assert_sound, blocks_of, infinite_reuse
from tests.router.fakes import chat_tokenizer, tiny_tokenizer

S = 1_000_000_000
LONG = "The quick brown fox jumps over the lazy dog. " * 4


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def reading(data, **options):
        Path("t.json").write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        encoder = options.pop("encoder", TokenizedChats(chat_tokenizer()))
        return read_trace(Path("t.json"), encoder=encoder, **options)

    return reading


def sharegpt(*texts, first="human"):
    senders = ("human", "gpt") if first == "human" else ("gpt", "human")
    said = [{"from": senders[n % 2], "value": text} for n, text in enumerate(texts)]
    return {"id": "x", "conversations": said}


def wildchat(*turns, **more):
    said = []
    for question, answer, at in turns:
        said.append({"role": "user", "content": question, "timestamp": None, "language": "English"})
        said.append({"role": "assistant", "content": answer, "timestamp": at})
    return {
        "conversation_hash": "h",
        "model": "m",
        "conversation": said,
        "turn": len(turns),
        **more,
    }


def prompt_of(*messages, tokenizer=None):
    tokenizer = tokenizer or chat_tokenizer()
    return tokenizer.encode_chat([ChatMessage(role, text) for role, text in messages])


def test_each_answer_of_sharegpt_is_a_request_for_all_that_stands_above_it(read):
    reading = read([sharegpt(LONG, "Yes.", "And the cat?", LONG), sharegpt(LONG, "No.")])
    trace = reading.trace
    assert_sound(trace)
    assert (reading.format, trace.block_size, len(trace)) == ("sharegpt", 16, 3)
    first = prompt_of(("user", LONG))
    later = prompt_of(("user", LONG), ("assistant", "Yes."), ("user", "And the cat?"))
    assert sorted(trace.input_tokens.tolist()) == sorted([len(first), len(first), len(later)])
    assert sorted(trace.output_tokens.tolist()) == sorted(
        len(chat_tokenizer().encode(text)) - len(chat_tokenizer().encode(""))
        for text in ("Yes.", LONG, "No.")
    )
    full = len(first) // 16
    starts = {tuple(blocks_of(trace, n)[:full]) for n in range(3)}
    assert len(starts) == 1  # all three begin with the same text
    assert infinite_reuse(trace) > 0.4


def test_a_log_without_times_draws_them_and_says_so(read):
    chats = [sharegpt(LONG, "a", "b", "c") for _ in range(50)]
    reading = read(chats, chat_times=ChatTimes(2.0, 7.0, 3))
    again = read(chats, chat_times=ChatTimes(2.0, 7.0, 3))
    other = read(chats, chat_times=ChatTimes(2.0, 7.0, 4))
    assert reading.trace.digest == again.trace.digest != other.trace.digest
    assert 15 * S < reading.trace.duration_ns < 40 * S
    assert reading.remarks == (
        "the log has no times: conversations come at random, 2 a second (--chat-rate)",
    )
    assert reading.repairs == (
        "50 later messages without a time come 7 s after the answer before (--think-time)",
    )
    assert set(reading.trace.arrival_ns[reading.trace.after >= 0].tolist()) == {7 * S}


def test_wildchats_answers_come_at_their_times(read):
    turns = (("one", "1", "2023-04-09T00:00:10Z"), ("two", "2", "2023-04-09T00:00:25.5+00:00"))
    later = (("one", "1", "2023-04-09T01:01:00+01:00"),)
    rows = [wildchat(*turns), wildchat(*later)]
    trace = read(b"\n".join(json.dumps(one).encode() for one in rows)).trace
    assert_sound(trace)
    assert trace.arrival_ns.tolist() == [0, 15_500_000_000, 50 * S]
    assert trace.after.tolist() == [-1, 0, -1]


@pytest.mark.parametrize(
    "at", ["2023-04-09T00:00:10", 1_680_998_410, 1_680_998_410_000, 1_680_998_410_000_000]
)
def test_a_rows_own_time_stands_for_its_first_answer(read, at):
    early = wildchat(("a", "b", None), ("c", "d", None), timestamp="2023-04-09T00:00:00Z")
    reading = read([early, wildchat(("a", "b", None), timestamp=at)])
    assert reading.trace.arrival_ns.tolist() == [0, 10 * S, 10 * S]
    assert reading.trace.after.tolist() == [-1, -1, 0] or reading.trace.after.tolist() == [
        -1,
        0,
        -1,
    ]


def test_wildchat_is_read_from_parquet_too(read):
    rows = [wildchat(("one", LONG, "2023-04-09T00:00:10Z"))]
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), packed)
    assert read(packed.getvalue()).trace.digest == read(rows).trace.digest


@pytest.mark.parametrize("tokenizer", [chat_tokenizer, tiny_tokenizer])
def test_prompts_are_the_tokens_of_the_whole_prompt_whatever_was_remembered(tokenizer):
    encoder, whole = TokenizedChats(tokenizer()), tokenizer()
    chat = [ChatMessage("user" if n % 2 == 0 else "assistant", f"{LONG}{n}\n\n") for n in range(8)]
    turns = encoder.turns(chat)
    assert [turn.answer for turn in turns] == [1, 3, 5, 7]
    for turn in turns:
        above = chat[: turn.answer]
        if encoder.remark:
            text = "".join(f"{one.role}: {one.content}\n" for one in above) + "assistant:"
            wanted = whole.encode(text)
        else:
            wanted = whole.encode_chat(above)
        assert turn.prompt.tolist() == wanted.tolist()
    assert bool(encoder.remark) == (tokenizer is tiny_tokenizer)


def test_a_tokenizer_without_a_template_is_told(read):
    reading = read([sharegpt("a", "b")], encoder=TokenizedChats(tiny_tokenizer()))
    assert reading.remarks[0].startswith("the tokenizer has no chat template")


def test_what_nobody_answered_is_counted(read):
    chats = [sharegpt("a", "b", "c"), sharegpt("a"), sharegpt("b", first="gpt"), sharegpt()]
    reading = read(chats)
    assert len(reading.trace) == 1
    assert {one.partition(" ")[2]: one.partition(" ")[0] for one in reading.repairs} == {
        "conversations without an answer to a message were left out": "3",
        "messages without an answer were left out": "1",
    }


def test_without_a_tokenizer_the_option_is_named(read):
    for chats in ([sharegpt("a", "b")], [wildchat(("a", "b", None))]):
        with pytest.raises(
            BadTrace, match=r"t.json, item 1: it is a log of chats .*--tokenizer DIR"
        ):
            read(chats, encoder=None)


BAD = {
    "a picture": ({"from": "human", "value": [{"type": "image"}]}, "not text alone"),
    "nobody known": ({"from": "secret", "value": "a"}, "from nobody known"),
    "a template's refusal": ({"from": "tool", "value": "secret"}, "roles are system"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_conversation_is_named_without_its_text(read, case):
    said, reason = BAD[case]
    bad = {"conversations": [said, {"from": "gpt", "value": "b"}]}
    with pytest.raises(BadTrace, match=f"item 2: .*{reason}") as caught:
        read([sharegpt("a", "b"), bad])
    assert "secret" not in str(caught.value)
    assert len(read([sharegpt("a", "b"), bad], skip_bad=True).trace) == 1


def test_times_that_are_none_and_logs_that_mix_them_are_refused(read):
    dated = wildchat(("a", "b", "2023-04-09T00:00:10Z"))
    for other, reason in (
        (wildchat(("a", "b", None)), "some conversations have a time"),
        (wildchat(("a", "b", "yesterday")), "its timestamp is no date"),
        (wildchat(("a", "b", 12.5)), "its timestamp is no date"),
    ):
        with pytest.raises(BadTrace, match=f"item 2: {reason}"):
            read([dated, other])


def test_a_chat_costs_what_its_text_costs_and_not_its_square(monkeypatch):
    """Each prompt begins with the one before: its pieces are not encoded again."""
    n_known = {True: 0, False: 0}
    ask = tokenized._Pieces.next

    def counted(pieces, piece):
        name, packed = ask(pieces, piece)
        n_known[packed is not None] += 1
        return name, packed

    monkeypatch.setattr(tokenized._Pieces, "next", counted)
    chat = [ChatMessage("user" if n % 2 == 0 else "assistant", LONG * 4) for n in range(20)]
    TokenizedChats(chat_tokenizer()).turns(chat)
    assert n_known[True] > 3 * n_known[False] > 0


def test_of_a_long_log_no_more_is_read_than_is_wanted(read):
    chats = [sharegpt(LONG, "a", "b", "c") for _ in range(50)]
    broken = {"conversations": [{"from": "nobody", "value": ""}]}
    reading = read([*chats, broken], limit=9)
    assert len(reading.trace) == 10  # whole conversations
    assert reading.remarks[-1] == "--limit: items from 6 on were not read"
    assert len(read(chats, limit=1000).trace) == 100
