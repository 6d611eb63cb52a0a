"""Our own trace files: written and read again they are the same; a wrong one is refused."""

import io
import json

import pytest

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.own_format import write_own
from tests.replay.traces import assert_sound, random_trace

HEADER = {"schema": "radixroute.trace", "version": 1, "block_size": 4, "name": "n"}


def row(arrival_ms=0, n=6, blocks=(1, 2), **more):
    fields = {"arrival_ms": arrival_ms, "input_tokens": n, "output_tokens": 2}
    return {**fields, "blocks": list(blocks), **more}


@pytest.fixture
def read(tmp_path):
    def reading(rows, **options):
        path = tmp_path / "own.jsonl"
        lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
        path.write_text("\n".join(lines) + "\n")
        return read_trace(path, **options)

    return reading


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_is_read_again(tmp_path, seed):
    trace = random_trace(seed)
    assert_sound(trace)
    file = io.BytesIO()
    write_own(trace, file)
    (tmp_path / "own").write_bytes(file.getvalue())
    again = read_trace(tmp_path / "own")
    assert again.format == "own"
    assert (again.trace.digest, again.trace.name) == (trace.digest, trace.name)
    assert (again.bad_lines, again.empty_outputs, again.late) == (0, 0, 0)


def test_every_line_written_is_json(tmp_path):
    file = io.BytesIO()
    write_own(random_trace(3), file)
    header, *rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert header == {**HEADER, "name": 'random "3" é'}
    assert any("after" in one for one in rows)
    assert not all("after" in one for one in rows)


def test_times_are_decimal_and_exact(read):
    text = json.dumps(row()).replace('"arrival_ms": 0', '"arrival_ms": 1234567890123.000001')
    assert read([HEADER, text]).trace.arrival_ns.tolist() == [1_234_567_890_123_000_001]


def test_a_session_follows_its_last_request_and_after_a_row(read):
    trace = read(
        [
            HEADER,
            row(5, session="a"),
            row(6),
            row(2, session="a"),
            row(1, after=1),
            row(3, session="a"),
        ]
    ).trace
    assert trace.after.tolist() == [-1, -1, 0, 1, 2]
    assert trace.arrival_ns.tolist() == [5_000_000, 6_000_000, 2_000_000, 1_000_000, 3_000_000]


def test_after_counts_rows_also_those_that_were_skipped(read):
    rows = [HEADER, row(0, n=99), row(1), row(7, after=1), row(9, after=0)]
    reading = read(rows, skip_bad=True)
    assert reading.trace.after.tolist() == [-1, 0]
    assert reading.trace.arrival_ns.tolist() == [1_000_000, 7_000_000]
    assert reading.bad_lines == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(after=1), "the number of a request above"),
        (row(after=-1), "the number of a request above"),
        (row(after=0, session="a"), "give one of them"),
        (row(blocks=[3, 3]), "twice in one prompt"),
        (row(blocks=[3]), "1 block ids, but"),
        (row("NaN"), "must be a number"),
        (row("sNaN"), "must be a number"),
        (row("1e999999"), "73 years"),
        (row(-1), "not negative"),
        (row(prompt="secret"), "unknown field"),
        ({"arrival_ms": 1}, "missing required field"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(read, bad, reason):
    with pytest.raises(BadTrace, match=f"own.jsonl, line 3: .*{reason}") as caught:
        read([HEADER, row(), bad])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({**HEADER, "version": 2}, "must say radixroute.trace, version 1"),
        ({**HEADER, "block_size": 0}, "a block of 0 tokens"),
        ({"schema": "radixroute.trace", "version": 1}, "block_size"),
    ],
)
def test_a_wrong_header_is_never_skipped(read, header, reason):
    with pytest.raises(BadTrace, match=f"line 1: .*{reason}"):
        read([header, row()], skip_bad=True)


def test_the_header_decides_the_block_size(read):
    with pytest.raises(BadTrace, match="its header says blocks of 4 tokens"):
        read([HEADER, row()], block_size=8)
    assert read([HEADER, row()], block_size=4).trace.block_size == 4
