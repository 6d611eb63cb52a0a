"""What a file leaves open: units, sessions, missing lengths. Told by evidence, and said."""

import json
from pathlib import Path

import numpy as np
import pytest

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.reading.session_rows import SessionEvidence, SessionRow, accumulated
from radixroute.replay.traces.reading.times import Times, date_unit_of, doubt, duration, rate_text
from radixroute.replay.traces.reading.understood import understood
from tests.replay.traces import assert_sound, blocks_of, infinite_reuse, random_trace, trace_of

TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
MS, S = 1_000_000, 1_000_000_000


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def reading(rows, **options):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        Path("t.jsonl").write_text("\n".join(lines) + "\n")
        return read_trace(Path("t.jsonl"), **options)

    return reading


def row(timestamp, n=600, output=5, ids=None, **more):
    fields = {"timestamp": timestamp, "input_length": n, "output_length": output, **more}
    return fields if ids is None else {**fields, "hash_ids": ids}


# --- units of time


@pytest.mark.parametrize(
    ("name", "wrong", "right_s"),
    [
        ("epoch_s.jsonl", "they look like seconds since 1970, so give --time-unit s", 2.0),
        ("guidellm_seconds.jsonl", "is another unit meant? --time-unit s (19.5 s", 19.5),
    ],
)
def test_seconds_that_are_read_as_milliseconds_are_doubted_and_can_be_said(name, wrong, right_s):
    reading = read_trace(TRACES / name)
    assert reading.unit == "ms"
    (said,) = reading.doubts
    assert said.startswith("read as milliseconds the ")
    assert wrong in said
    reading = read_trace(TRACES / name, time_unit="s")
    assert (reading.unit, reading.doubts) == ("s", ())
    assert reading.trace.duration_ns == pytest.approx(right_s * S, abs=1000)


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
@pytest.mark.parametrize("start_s", [0, 1_789_095_808])
def test_every_unit_is_read_when_it_is_said(read, unit, factor, start_s):
    rows = [row((start_s + n) * factor, ids=[n, -n + 100]) for n in range(4)]
    reading = read(rows, time_unit=unit)
    assert reading.trace.arrival_ns.tolist() == pytest.approx([0, S, 2 * S, 3 * S], abs=300)
    assert reading.doubts == ()


def test_dates_of_too_small_a_unit_are_an_error_that_names_the_option(read):
    with pytest.raises(
        BadTrace, match=r"line 1: .*73 years: is it of another unit \(--time-unit\)"
    ):
        read([row(1_789_095_808_000_000)])


def test_delays_have_the_unit_of_timestamps_unless_their_name_says_one(read):
    rows = [
        row(1.5, ids=[1, 2], session_id="a"),
        {
            "delay": 2.5,
            "input_length": 600,
            "output_length": 1,
            "session_id": "a",
            "hash_ids": [1, 3],
        },
        {
            "delay_ms": 7,
            "input_length": 600,
            "output_length": 1,
            "session_id": "a",
            "hash_ids": [1, 4],
        },
    ]
    assert read(rows, time_unit="s").trace.arrival_ns.tolist() == [0, 2500 * MS, 7 * MS]
    assert read(rows).trace.arrival_ns.tolist() == [0, 2_500_000, 7 * MS]


@pytest.mark.parametrize("name", ["azure2023.csv", "azure_zero.csv"])
def test_a_unit_is_refused_where_the_times_name_theirs(name):
    with pytest.raises(BadTrace, match=r"line 1: times of the format azure name their unit"):
        read_trace(TRACES / name, time_unit="s")
    with pytest.raises(BadTrace, match="no unit of time is called h: give one of s, ms, us, ns"):
        read_trace(TRACES / "bailian.jsonl", time_unit="h")


def test_rows_of_bailian_are_never_taken_for_mooncakes(read):
    """Whichever of their own names the first row has: another format would change the unit."""
    whole = json.loads((TRACES / "bailian.jsonl").read_text().splitlines()[0])
    assert read([whole]).unit == "s"
    for gone in ("chat_id", "hash_ids", "parent_chat_id", "type", "turn"):
        rows = [{name: value for name, value in whole.items() if name != gone}]
        if gone in {"hash_ids", "chat_id"}:
            with pytest.raises(BadTrace, match="missing required field"):
                read(rows)
        else:
            assert (read(rows).format, read(rows).unit) == ("bailian", "s")
    assert read([{"timestamp": 5, "input_length": 9, "output_length": 1}]).format == "mooncake"
    with pytest.raises(BadTrace, match="it fits no format"):
        read([{"arrival_s": 5, "input_length": 9, "output_length": 1}])


def test_only_what_cannot_be_meant_is_doubted():
    def said(n, span_s, first=0.0, unit="ms"):
        return doubt(Times(n, round(first), round(span_s * S), unit))

    assert said(12_031, 3537) is None  # Mooncake's
    assert said(44_000_000, 604_800, unit=None) is None  # Azure's, a week
    assert said(1, 0) is None
    assert "all 5 requests come at one time" in str(said(5, 0))
    assert "--time-unit s" in str(said(40, 0.0195))
    assert "30 an hour" in str(said(11, 1200))
    assert "--time-unit ms (1.2 s" in str(said(11, 1200, unit="s"))
    assert str(said(40, 0.0195, unit=None)).endswith("2,000 a second: is that meant?")
    assert "milliseconds since 1970" in str(said(9, 10, first=1.79e21, unit="s"))
    assert said(9, 10, first=1.79e18, unit="ms") is None  # a date in its own unit
    assert [date_unit_of(1.79 * 10**n) for n in (9, 12, 15, 18, 3)] == ["s", "ms", "us", "ns", None]


def test_times_are_told_for_people():
    assert [duration(round(s * S)) for s in (0.0195, 90, 3537, 90_000, 5e6)] == [
        "0.0195 s", "90 s", "59 minutes", "25 hours", "57.9 days",
    ]  # fmt: skip
    assert [rate_text(r) for r in (2051.3, 3.4, 0.5, 0.01, 0.0001)] == [
        "2,051 a second", "3.4 a second", "30 a minute", "36 an hour", "8.64 a day",
    ]  # fmt: skip


# --- rows that mend and rows that are left out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zero_output.jsonl", "5 outputs of 0 tokens became 1"),
        ("unsorted.jsonl", "4 rows came before one that stands above them"),
        ("session_empty.jsonl", "3 rows name a session without a name"),
    ],
)
def test_what_is_mended_is_counted_and_told(name, said):
    reading = read_trace(TRACES / name)
    assert any(repair.startswith(said) for repair in reading.repairs), reading.repairs
    lines = understood(reading, reading.trace, 64, 0.5)
    assert any(line.startswith(f"repaired: {said}") for line in lines)
    assert_sound(reading.trace)


def test_rows_of_a_session_without_a_name_wait_for_nobody(read):
    assert read_trace(TRACES / "session_empty.jsonl").trace.after.tolist() == [-1, -1, -1]
    header = {"schema": "radixroute.trace", "version": 1, "block_size": 4}
    own = {"arrival_ms": 1, "input_tokens": 4, "output_tokens": 1, "session": ""}
    reading = read([header, {**own, "blocks": [1]}, {**own, "blocks": [2]}])
    assert reading.trace.after.tolist() == [-1, -1]
    assert reading.repairs == ("2 rows name a session without a name: they are of none",)
    again = read([row(0, ids=[1, 2], request_id=""), row(9, ids=[1, 3], request_id="")])
    assert len(again.trace) == 2


@pytest.mark.parametrize(
    ("name", "line", "n_bad"), [("azure_zero.csv", 3, 1), ("burstgpt_fails.csv", 4, 1)]
)
def test_prompts_of_no_tokens_are_named_and_can_be_left_out(name, line, n_bad):
    with pytest.raises(BadTrace, match=f"line {line}: .*and this one has none") as caught:
        read_trace(TRACES / name)
    assert caught.value.n_bad == n_bad
    reading = read_trace(TRACES / name, skip_bad=True)
    assert reading.bad_lines == n_bad
    assert reading.repairs[0].startswith("1 bad lines were skipped; the first: ")
    assert (reading.trace.input_tokens > 0).all()


# --- outputs that no row tells


def test_outputs_that_rows_do_not_tell_take_the_default(read):
    with pytest.raises(
        BadTrace, match=r"line 1: none of 5 .*: output_length is missing: --default-output N"
    ):
        read_trace(TRACES / "no_output_length.jsonl")
    reading = read_trace(TRACES / "no_output_length.jsonl", default_output=200)
    assert reading.trace.output_tokens.tolist() == [200] * 5
    assert reading.repairs == (
        "5 rows do not say how long their outputs are: they got --default-output",
    )
    bailian = json.loads((TRACES / "bailian.jsonl").read_text().splitlines()[0])
    del bailian["output_length"]
    with pytest.raises(BadTrace, match="--default-output"):
        read([bailian])
    assert read([bailian], default_output=7).trace.output_tokens.tolist() == [7]
    mixed = [row(0, ids=[1, 2]), {**row(9, ids=[1, 3]), "output_length": None}]
    assert read(mixed, default_output=9).trace.output_tokens.tolist() == [5, 9]
    with pytest.raises(BadTrace, match="an output has from 1 to"):
        read(mixed, default_output=0)


def test_columns_of_outputs_that_are_missing_or_empty_take_the_default(read):
    head = "arrival_ms,input_tokens"
    with pytest.raises(BadTrace, match="its header lacks output_tokens: --default-output N"):
        read([head, "0,5"])
    assert read([head, "0,5"], default_output=4).trace.output_tokens.tolist() == [4]
    rows = [f"{head},output_tokens", "0,5,", "1,5,6"]
    assert read(rows, default_output=4).trace.output_tokens.tolist() == [4, 6]
    with pytest.raises(BadTrace, match="line 2: output_tokens is no whole number"):
        read(rows)


# --- rows of sessions


def turns(*lengths_and_ids, session="a"):
    return [
        row(1000 * n, length, 100, ids, session_id=session)
        for n, (length, ids) in enumerate(lengths_and_ids)
    ]


ADDS = turns((1100, [1, 2, 3]), (600, [10, 11]), (200, [20]))
REPEATS = turns((1100, [1, 2, 3]), (1800, [1, 2, 4, 5]), (2100, [1, 2, 4, 6, 7]))


def test_rows_that_add_to_their_sessions_prompt_are_put_together(read):
    """Read as whole prompts they would share nothing, and all reuse be gone."""
    reading = read(ADDS)
    trace = reading.trace
    assert_sound(trace)
    assert trace.input_tokens.tolist() == [1100, 1100 + 100 + 600, 1800 + 100 + 200]
    assert blocks_of(trace, 1)[:3] == blocks_of(trace, 0)
    assert blocks_of(trace, 2)[:4] == blocks_of(trace, 1)
    assert infinite_reuse(trace) > 0.4
    assert infinite_reuse(read(ADDS, session_rows="whole").trace) == 0
    (remark,) = reading.remarks
    assert remark.startswith("2 later rows of sessions were taken as what they add")
    assert "--session-rows whole" in remark
    assert reading.doubts == ()


def test_rows_that_repeat_their_sessions_prompt_stay_as_they_are(read):
    reading = read(REPEATS)
    assert reading.trace.input_tokens.tolist() == [1100, 1800, 2100]
    assert reading.trace.blocks.tolist() == [1, 2, 3, 1, 2, 4, 5, 1, 2, 4, 6, 7]
    assert reading.remarks == ("2 later rows of sessions were taken as whole prompts",)
    assert reading.doubts == ()


ODD = {
    # (rows, follow-ups that do not begin with the row before)
    "one that begins anew": ([*REPEATS, *turns((5000, [*range(30, 40)]))], 1),
    "a history that was cut": (turns((1600, [1, 2, 3, 4]), (1600, [1, 2, 8, 9])), 1),
    "both among many": ([*REPEATS, *turns((600, [50, 51]), (600, [60, 61]), session="b")], 1),
}


@pytest.mark.parametrize("case", ODD)
def test_a_session_that_does_not_go_on_from_itself_is_said_with_the_option(read, case):
    rows, n_odd = ODD[case]
    rows = [{**one, "timestamp": 1000 * n} for n, one in enumerate(rows)]
    reading = read(rows)
    (said,) = reading.doubts
    assert said.startswith(f"{n_odd} of ")
    assert "do not begin with the row of their session before" in said
    assert "--session-rows increment" in said
    assert reading.trace.input_tokens.tolist() == [one["input_length"] for one in rows]
    added = read(rows, session_rows="increment")
    assert added.trace.input_tokens.sum() > reading.trace.input_tokens.sum()
    has_repeats = case != "a history that was cut"
    assert any("--session-rows whole" in one for one in added.doubts) == has_repeats


def test_lengths_alone_tell_rows_that_add_and_else_it_is_said(read):
    def without_ids(*lengths):
        return [row(1000 * n, length, 100, session_id=1) for n, length in enumerate(lengths)]

    adds = read(without_ids(3000, 200, 900, 150))
    assert adds.trace.input_tokens.tolist() == [3000, 3300, 4300, 4550]
    assert infinite_reuse(adds.trace) > 0.5
    grows = read(without_ids(3000, 3200, 3500))
    assert grows.trace.input_tokens.tolist() == [3000, 3200, 3500]
    (said,) = grows.doubts
    assert "do not show whether they repeat their session's prompt" in said
    assert infinite_reuse(read(without_ids(3000, 3200), session_rows="increment").trace) > 0.2


def test_prompts_within_one_block_are_told_by_their_first_id_and_length():
    def seen(before, now):
        evidence = SessionEvidence()
        evidence.look(SessionRow(1, *before), SessionRow(2, *now), 512)
        return {
            name for name in ("repeat", "partly", "apart", "unknown") if getattr(evidence, name)
        }

    assert seen((300, 1, [1]), (900, 1, [1, 2])) == {"repeat"}
    assert seen((300, 1, [1]), (900, 1, [5, 2])) == {"unknown"}
    assert seen((300, 1, [1]), (200, 1, [5])) == {"apart"}
    assert seen((1300, 1, [1, 2, 3]), (1300, 1, [1, 5, 6])) == {"partly"}


def test_two_sessions_share_what_both_begin_with_and_nothing_that_follows():
    trace = trace_of(
        [
            (0, 10, 2, [1, 2, 3]),
            (1, 10, 2, [1, 2, 3]),
            (5, 3, 2, [9], 0),
            (5, 3, 2, [9], 1),
            (6, 3, 2, [9], 3),
        ]
    )
    found = accumulated(trace)
    assert_sound(found)
    assert found.input_tokens.tolist() == [10, 10, 15, 15, 20]
    a, b, a2, b2, b3 = (blocks_of(found, n) for n in range(5))
    assert a[:2] == b[:2]
    assert a[2] != b[2]  # partly filled: each session goes on from it otherwise
    assert (a2[:3], b2[:3], b3[:4]) == (a, b, b2)
    assert not {*a2[3:]} & {*b2[3:], *b3[3:]}


@pytest.mark.parametrize("seed", range(10))
def test_in_put_together_prompts_every_turn_begins_with_the_one_before(seed):
    trace = random_trace(seed, last_ns=1 << 40)
    chain = np.unique(trace.after[trace.after >= 0], return_counts=True)[1]
    if (chain > 1).any():  # some wait for the same one: no session is such a tree
        trace = trace_of(
            [(5 * n, 9, 2, [n, n + 99, n + 999], *([n - 1] if n % 4 else [])) for n in range(20)]
        )
    found = accumulated(trace)
    assert_sound(found)
    for request in np.flatnonzero(found.after >= 0).tolist():
        before = blocks_of(found, int(found.after[request]))
        assert blocks_of(found, request)[: len(before)] == before
    assert found.output_tokens.tolist() == trace.output_tokens.tolist()


def test_a_session_that_grows_beyond_reason_names_the_option(read):
    rows = [row(n, 9_000_000, 1, session_id="a") for n in range(3)]
    with pytest.raises(BadTrace, match=r"grow beyond 16,777,216 tokens: .*--session-rows whole"):
        read(rows, session_rows="increment")


def test_how_rows_of_sessions_are_meant_is_refused_where_nothing_is_open(read):
    with pytest.raises(BadTrace, match="format bailian leave nothing open about sessions"):
        read_trace(TRACES / "bailian.jsonl", session_rows="whole")
    with pytest.raises(BadTrace, match="are not both: give one of auto, whole, increment"):
        read(ADDS, session_rows="both")


# --- what was understood


def test_what_was_understood_is_told(read):
    reading = read([row(500 * n, ids=[1, 10 + n]) for n in range(11)])
    lines = understood(reading, reading.trace, 64, 0.4571)
    assert lines == [
        "t: 11 requests, within 5 s, 2 a second; format mooncake, times in milliseconds",
        "6,600 prompt tokens (mean 600), 55 output tokens (mean 5)",
        "blocks of 512 tokens, for the engine 64; 45.7% of the prompt tokens can be reused",
    ]
    azure = read_trace(TRACES / "azure2023.csv")
    lines = understood(azure, azure.trace, azure.trace.block_size, 0.0)
    assert lines[0].endswith("format azure")
    assert lines[2].endswith(
        "0.0% of the prompt tokens can be reused: no two prompts share a block"
    )
    followed = understood(read(REPEATS), read(REPEATS).trace, 64, 0.5)
    assert "2 requests come after the answer to another" in followed
