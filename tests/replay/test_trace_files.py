"""Foreign traces: what each format's fields become, and which lines are refused, by which words."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.files import FORMATS, read_trace
from tests.replay.conversation import TRACE
from tests.replay.traces import assert_sound, blocks_of, infinite_reuse

DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLE = DATA / "mooncake-conversation-200.jsonl"
MS, S = 1_000_000, 1_000_000_000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Errors name a file as it was given."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def read():
    """Reads rows (objects, or lines as they are) as a file."""

    def reading(rows, *, name="some.jsonl", **options):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = Path(name)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_trace(path, options.pop("format_name", None), **options)

    return reading


def row(timestamp=0, n=6, output=3, ids=(1, 2), **more):
    fields = {"input_length": n, "output_length": output, "hash_ids": list(ids), **more}
    return fields if timestamp is None else {"timestamp": timestamp, **fields}


def assert_holds(trace, lines):
    """Against the rows as plain JSON reads them."""
    rows = [json.loads(line) for line in lines]
    assert trace.arrival_ns.tolist() == [one["timestamp"] * MS for one in rows]
    assert trace.input_tokens.tolist() == [one["input_length"] for one in rows]
    assert trace.output_tokens.tolist() == [one["output_length"] for one in rows]
    assert trace.blocks.tolist() == [number for one in rows for number in one["hash_ids"]]
    assert (trace.after == -1).all()
    assert_sound(trace)


def test_mooncakes_rows_are_read_as_they_stand():
    reading = read_trace(SAMPLE)
    assert (reading.format, reading.trace.block_size) == ("mooncake", 512)
    assert (reading.trace.name, len(reading.trace)) == ("mooncake-conversation-200", 200)
    assert_holds(reading.trace, SAMPLE.read_text().splitlines())


def test_compression_is_told_by_content(tmp_path):
    packed = tmp_path / "no-suffix"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    assert read_trace(packed).trace.digest == read_trace(SAMPLE).trace.digest


def test_the_whole_conversation_trace():
    text = gzip.decompress(TRACE.read_bytes())
    assert hashlib.sha256(text).hexdigest().startswith("b8cbb061a85206d7")
    trace = read_trace(TRACE).trace
    assert_holds(trace, text.splitlines())
    assert len(trace) == 12_031
    assert round(infinite_reuse(trace), 3) == 0.373


def test_delays_follow_the_end_and_timestamps_become_differences(read):
    trace = read(
        [
            row(100, ids=[1, 2], session_id="a"),
            row(None, ids=[1, 3], session_id="a", delay=5.5),
            row(150, ids=[7, 8], session_id=9),
            row(120, ids=[20, 21]),
            row(190, ids=[7, 9], session_id=9),
            row(None, ids=[1, 4], session_id="a", delay_ms=100),
        ],
        block_size=3,
    ).trace
    assert_sound(trace)
    assert [blocks_of(trace, i) for i in range(6)] == [
        [1, 2], [1, 3], [20, 21], [7, 8], [7, 9], [1, 4],
    ]  # fmt: skip
    assert trace.after.tolist() == [-1, 0, -1, -1, 3, 1]
    assert trace.arrival_ns.tolist() == [0, 5_500_000, 20 * MS, 50 * MS, 40 * MS, 100 * MS]


def test_dynamos_names_mean_the_same(read):
    ours = read([row(1.5), row(2.25, ids=[1, 3])], block_size=3).trace
    theirs = read(
        [
            {"created_time": time, "input_tokens": 6, "output_tokens": 3, "hash_ids": ids}
            for time, ids in ((1.5, [1, 2]), (2.25, [1, 3]))
        ],
        block_size=3,
    ).trace
    assert ours.digest == theirs.digest
    assert ours.arrival_ns.tolist() == [0, 750_000]


def test_rows_without_ids_share_nothing(read):
    bare = {"timestamp": 5, "input_length": 9, "output_length": 1}
    trace = read([row(0, ids=[4, 2**64 - 1]), bare, bare], block_size=4).trace
    assert blocks_of(trace, 0) == [0, 1]
    assert len(set(trace.blocks.tolist())) == len(trace.blocks) == 2 + 3 + 3
    assert_sound(trace)


def test_late_rows_are_sorted_ties_in_the_files_order_and_counted(read):
    reading = read([row(9, ids=[1]), row(3, ids=[2]), row(9, ids=[3]), row(3, ids=[4])])
    assert reading.trace.blocks.tolist() == [2, 4, 1, 3]
    assert reading.late == 2
    many = read([row(number % 2, ids=[number]) for number in range(100)])
    assert many.trace.blocks.tolist() == [*range(0, 100, 2), *range(1, 100, 2)]


def test_an_output_of_no_tokens_becomes_one_and_is_counted(read):
    reading = read([row(output=0, ids=[1]), row(ids=[2])])
    assert reading.trace.output_tokens.tolist() == [1, 3]
    assert reading.empty_outputs == 1


BAILIAN = {
    "chat_id": 1, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 40,
    "output_length": 7, "type": "text", "turn": 1, "hash_ids": [5, 5, 6],
}  # fmt: skip


def test_bailians_rows_count_seconds_and_blocks_of_16(read):
    later = {**BAILIAN, "chat_id": 2, "parent_chat_id": 1, "turn": 2, "timestamp": 63.5}
    reading = read([BAILIAN, later])
    assert (reading.format, reading.trace.block_size) == ("bailian", 16)
    assert reading.trace.arrival_ns.tolist() == [0, 2_250_000_000]
    assert reading.trace.blocks.tolist() == [5, 5, 6] * 2
    assert reading.trace.after.tolist() == [-1, -1]


CSV = {
    "azure": (
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 23:59:59.9799600,374,44",
        "2023-11-17 00:00:01.0000000,600,9",
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        "5.97996,ChatGPT,374,44,418,Conversation log",
        "7,GPT-4,600,9,609,API log",
    ),
    "csv": ("arrival_ms, input_tokens, output_tokens", "979.96,374,44", "2000,600,9"),
}


@pytest.mark.parametrize("name", CSV)
def test_csv_gives_lengths_and_no_shared_prefix(read, name):
    reading = read(["\ufeff" + CSV[name][0], *CSV[name][1:]], name="some.csv")
    trace = reading.trace
    assert (reading.format, trace.name) == (name, "some")
    assert trace.arrival_ns.tolist() == [0, 1_020_040_000]
    assert trace.input_tokens.tolist() == [374, 600]
    assert trace.output_tokens.tolist() == [44, 9]
    assert trace.blocks.tolist() == [0, 1, 2]
    assert_sound(trace)


def test_azures_newer_files_name_the_zone(read):
    head = CSV["azure"][0]
    rows = ["2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 02:00:01.009930+02:00,2399,6"]
    assert read([head, *rows], name="a.csv").trace.arrival_ns.tolist() == [0, S]


GOOD = row(ids=[1])
REFUSED = {
    "not JSON": ("{", "JSON|truncated"),
    "no object": ("[]", "Expected `object`"),
    "a negative length": (row(n=-1, ids=[]), "a prompt must have from 1"),
    "no prompt": (row(n=0, ids=[]), "a prompt must have from 1"),
    "a prompt beyond reason": (row(n=10**23, ids=[1]), "a prompt must have from 1"),
    "a negative output": (row(output=-1, ids=[1]), "an output must have from 0"),
    "a negative time": (row(-0.5, ids=[1]), "not negative"),
    "an endless time": (row(1e300, ids=[1]), "73 years"),
    "too few ids": (row(n=513, ids=[1]), "1 block ids, but the prompt fills 2 blocks of 512"),
    "too many ids": (row(n=512, ids=[1, 2]), "2 block ids, but the prompt fills 1 blocks"),
    "a negative id": (row(ids=[-1]), "a block id must lie between"),
    "an id of 65 bits": (row(ids=[2**64]), "a block id must lie between"),
    "an id twice": (row(n=1025, ids=[1, 2, 1]), "twice in one prompt"),
    "a request twice": (row(ids=[1], request_id="r"), "request_id stands on a line above"),
    "no time": (row(None, ids=[1]), "no timestamp"),
    "no wait": (row(None, ids=[1], session_id="s"), "a follow-up needs a delay"),
    "back in time": (row(1, ids=[1], session_id="s"), "before that of the session's row above"),
    "no output length": ({"timestamp": 0, "input_length": 1}, "output_length is missing"),
    "text": ({"timestamp": 0, "text_input": "secret", "output_length": 1}, "with text_input"),
    "a tree of agents": (row(ids=[1], wait_for=["r"]), "an agentic row"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_line_is_named_with_its_reason_or_counted(read, case):
    bad, reason = REFUSED[case]
    start = row(2, ids=[1], session_id="s", request_id="r")
    rows = [start, "", bad, row(9, ids=[2])]
    with pytest.raises(BadTrace, match=reason) as caught:
        read(rows)
    assert str(caught.value).startswith("some.jsonl, line 3: ")
    assert (caught.value.line, "secret" in str(caught.value)) == (3, False)
    reading = read(rows, skip_bad=True)
    assert reading.bad_lines == 1
    assert reading.first_bad is not None
    assert reading.first_bad.line == 3
    assert reading.trace.blocks.tolist() == [1, 2]
    assert_sound(reading.trace)


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        ("csv", "1,2", "2 columns are too few"),
        ("csv", "x,2,3", "its time is no number"),
        ("csv", "nan,2,3", "must be a number"),
        ("csv", "1,-2,3", "a prompt must have"),
        ("csv", "1,1_0,3", "input_tokens is no whole number"),
        ("csv", "1,٣,3", "input_tokens is no whole number"),
        ("azure", "yesterday,2,3", "its time is not written as"),
        ("burstgpt", "1,GPT-4,2,3.5,5,API log", "Response tokens is no whole number"),
    ],
)
def test_a_bad_row_of_csv_is_named(read, name, bad, reason):
    with pytest.raises(BadTrace, match=f"some.csv, line 3: .*{reason}"):
        read([*CSV[name][:2], bad], name="some.csv")


def test_a_chat_of_bailian_comes_once(read):
    with pytest.raises(BadTrace, match="line 2: its chat_id"):
        read([BAILIAN, BAILIAN])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"\x1f\x8bnothing", "its compression .gzip. is damaged"),
        (gzip.compress(SAMPLE.read_bytes())[:-20], "its compression .gzip. is damaged"),
        (
            b"hello\n",
            "fits no format: name it by --format, one of own, bailian, agentic_mooncake, dynamo, ",
        ),
        (b"arrival_ms,input_tokens,output_tokens\n", "there is no request"),
        (b"\xff\xff\n", "fits no format"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_name(content, reason):
    Path("x").write_bytes(content)
    with pytest.raises(BadTrace, match=f"^x(, line 1)?: .*{reason}"):
        read_trace(Path("x"))


def test_a_file_of_bad_lines_only_is_refused_even_when_they_are_skipped(read):
    with pytest.raises(BadTrace, match="line 1: none of 2 lines can be read; the first: a prompt"):
        read([row(n=0), row(n=0)], skip_bad=True)


def test_a_named_format_overrides_what_the_file_looks_like(read):
    with pytest.raises(BadTrace, match="its header lacks arrival_ms"):
        read([GOOD], format_name="csv")
    with pytest.raises(BadTrace, match="no format is called xml: give one of own"):
        read([GOOD], format_name="xml")
    assert read([{**BAILIAN, "hash_ids": [5]}], format_name="mooncake").format == "mooncake"


def test_any_bytes_are_read_or_refused(tmp_path):
    rng = np.random.default_rng(5)
    lines = [*SAMPLE.read_bytes().splitlines()[:2], json.dumps(BAILIAN).encode()]
    lines += ["\n".join(text).encode() for text in CSV.values()]
    refused = 0
    for number in range(600):
        data = bytearray(lines[number % len(lines)])
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        (tmp_path / "x").write_bytes(data)
        name = [None, *FORMATS][number % (len(FORMATS) + 1)]
        try:
            assert_sound(read_trace(tmp_path / "x", name).trace)
        except BadTrace:
            refused += 1
    assert 100 < refused < 600
