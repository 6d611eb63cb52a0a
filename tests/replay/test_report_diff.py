"""Two runs compared request by request: totals by hand, and files that are none."""

import pytest

from radixroute.replay.errors import InvalidShape, UnreadableRows
from radixroute.replay.report.diff import diff, diff_text, read_rows
from radixroute.replay.report.report import ReportedRun, requests_jsonl
from tests.replay.report_samples import ints, random_run, tiny_losses, tiny_run


def rows(result):
    return read_rows(requests_jsonl(ReportedRun(result)).splitlines())


A = tiny_run()
B = tiny_run(
    "dynamo",
    (40, 15, 120, 10),
    worker=ints(0, 0, 0, 0),
    cached_tokens=ints(0, 96, 0, 304),
)


def test_what_moved_and_what_it_cost():
    found = diff(rows(A), rows(B))
    assert (found.moved.requests, found.stayed.requests) == (2, 2)
    assert (found.moved.ttft_ms, found.moved.cached_tokens) == (105.0, -192)
    assert (found.stayed.ttft_ms, found.stayed.cached_tokens) == (-20.0, 16)
    assert found.moved.mean_ttft_ms == 52.5
    assert [(one.a.index, one.ttft_ms, one.cached_tokens) for one in found.top] == [
        (2, 100.0, -192),
        (1, 5.0, 0),
    ]
    assert len(diff(rows(A), rows(B), top=1).top) == 1
    assert diff(rows(A), rows(B), top=0).top == ()


def test_the_text_says_the_same():
    lines = diff_text(diff(rows(A), rows(B))).splitlines()
    assert lines[0].startswith("2 of 4 requests went to another worker (50.0 %)")
    assert " ".join(lines[1].split()) == (
        "moved 2 requests: mean TTFT +52.5 ms, summed +105 ms; cached tokens -192"
    )
    assert " ".join(lines[5].split()) == "2 1 > 0 20.0 > 120.0 +100.0 192 > 0 -192"
    assert len(lines) == 7


def test_turned_around_it_says_the_opposite():
    there, back = diff(rows(A), rows(B)), diff(rows(B), rows(A))
    assert there.moved.ttft_ms == -back.moved.ttft_ms
    assert there.stayed.cached_tokens == -back.stayed.cached_tokens
    assert [one.a.index for one in there.top] == [one.a.index for one in back.top]


def test_a_run_differs_from_itself_in_nothing():
    found = diff(rows(A), rows(A))
    assert (found.moved.requests, found.top) == (0, ())
    assert (found.stayed.ttft_ms, found.stayed.cached_tokens) == (0.0, 0)


def test_moved_and_stayed_are_all_and_the_top_is_the_largest():
    a, b = random_run("radix", 1), random_run("dynamo", 2)
    found = diff(rows(a), rows(b), top=7)
    assert found.moved.requests == (a.worker != b.worker).sum()
    total = (b.first_ns - a.first_ns).sum() / 1e6
    assert found.moved.ttft_ms + found.stayed.ttft_ms == pytest.approx(total)
    moved = abs(b.first_ns - a.first_ns)[a.worker != b.worker] / 1e6
    assert [abs(one.ttft_ms or 0) for one in found.top] == pytest.approx(sorted(moved)[::-1][:7])


def test_requests_answered_by_one_run_only_count_in_no_time():
    gone = tiny_run(
        worker=ints(0, -1, 1, 0),
        first_ns=ints(40, -1, 2020, 3030) * 1_000_000,
        finish_ns=ints(90, -1, 2120, 3050) * 1_000_000,
    )
    found = diff(rows(A), rows(gone))
    assert (found.answered_only_by_a, found.answered_only_by_b) == (1, 0)
    assert (found.moved.requests, found.moved.answered, found.moved.ttft_ms) == (1, 0, 0.0)
    text = diff_text(found)
    assert "1 answered only by the first run" in text
    assert "10.0 > never" in text


def test_no_requests_are_no_fault():
    assert diff_text(diff([], [])) == "No requests.\n"


def test_runs_of_different_traces_are_refused():
    with pytest.raises(InvalidShape, match="one run has 4 requests, the other 3"):
        diff(rows(A), rows(B)[:3])
    with pytest.raises(InvalidShape, match="request 2 has 300 prompt"):
        diff(rows(A), [*rows(A)[:2], rows(A)[3], rows(A)[2]])


GOOD = requests_jsonl(ReportedRun(A, request_losses=tiny_losses())).splitlines()[0]


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "7",
        "null",
        GOOD.replace('"worker":0', '"worker":"0"'),
        GOOD.replace('"worker":0', '"worker":-1'),
        GOOD.replace('"cached_tokens":0', '"cached_tokens":true'),
        GOOD.replace('"cached_tokens":0', '"cached_tokens":0.5'),
        GOOD.replace('"ttft_ms":40.0', '"ttft_ms":NaN'),
        GOOD.replace('"ttft_ms":40.0', '"ttft_ms":1e999'),
        GOOD.replace('"ttft_ms":40.0', '"ttft_ms":' + "9" * 400),
        GOOD.replace('"input_tokens":100,', ""),
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_request_is_named(bad):
    assert bad != GOOD
    with pytest.raises(UnreadableRows, match="line 3 is not a request"):
        read_rows([GOOD, "", bad])
