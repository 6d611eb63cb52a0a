"""`workers`, `hits` and `explain` on a terminal and in a pipe."""

import json

import pytest

from radixroute.protos import radixroute_pb2 as pb
from tests.frontdoor.console_rows import rows_of
from tests.frontdoor.fake_router import REQUEST_ID


def test_workers_are_listed_with_state_and_load(cli, router):
    out = cli("workers", "--router", router).stdout
    rows = rows_of(out)
    assert "worker-0 worker-1" in rows
    assert "state live dead" in rows
    assert "KV blocks 250 / 1000 0 / 0" in rows
    assert "queued tokens 120 0" in rows
    assert "deaths 0 1" in rows
    assert "idle planned (ms) 7 0" in rows
    assert "address 127.0.0.1:41001" in rows
    assert "worker-1: stream [broken]" in out
    assert "audit drifted" in rows
    assert "differing 3 / 70 0 / 0" in rows
    assert "worker-0: its cache counts for nothing: told 4 [blocks]" in out


def test_adapters_are_shown_once_for_all_workers_that_serve_them(cli, router, script):
    assert "adapters of worker-0: law [en], sums" in cli("workers", "--router", router).stdout
    listed = json.loads(cli("workers", "--router", router, "--json").stdout)
    assert [one["adapters"] for one in listed["workers"]] == [["law [en]", "sums"], []]
    script.workers = pb.ListWorkersResponse(
        workers=[pb.WorkerStatus(worker_id=name, adapters=["X", "Y"][: 1 + (name == "c")])
                 for name in "abcd"]
    )  # fmt: skip
    out = cli("workers", "--router", router).stdout
    assert "adapters of a, b, d: X" in out
    assert "adapters of c: X, Y" in out


def test_hits_show_rates_and_their_total(cli, router):
    rows = rows_of(cli("hits", "--router", router).stdout)
    assert "worker-0 worker-1 total" in rows
    assert "requests 4 0 4" in rows
    assert "hit rate 25.0 % - 25.0 %" in rows
    assert "KV use 0.0 % 0.0 % 50.0 %" in rows


def test_explain_shows_every_term_and_marks_the_choice(cli, router):
    result = cli("explain", REQUEST_ID, "--router", router)
    rows = rows_of(result.stdout)
    assert "→ worker-1 worker-0" in rows
    assert "overlap (blocks) 29 0" in rows
    assert "prefill (ms) 16.50 480.25" in rows
    assert "queue (ms) 2.00 -" in rows
    assert "score 18.50 480.25" in rows
    assert "not eligible, suspect: worker-2" in result.stdout
    assert "lowest expected cost" in result.stdout


def _many_workers() -> pb.ListWorkersResponse:
    return pb.ListWorkersResponse(
        workers=[
            pb.WorkerStatus(
                worker_id=f"worker-{n}",
                address=f"192.168.100.{n}:41001",
                state="live",
                stream_state="live",
                queued_tokens=10**6,
                kv_blocks_total=10**6,
                kv_blocks_used=10**6,
                reason="no heartbeat " * 12 if n == 3 else "",
            )
            for n in range(40)
        ]
    )


def _long_explanation() -> pb.ExplainResponse:
    terms = [
        pb.Term(name=name, value=12345.678, unit="ms")
        for name in ("queue", "prefill", "steps", "compute", "slow_down", "turnover", "replica")
    ]
    decision = pb.AttemptDecision(
        attempt=1,
        chosen="worker-7",
        reason="worker-1 holds more of it (60 blocks, 3 here) but costs 92.1 ms more, above all "
        "queue (900 ms): less is ahead of it here.",
        candidates=[
            pb.CandidateTerms(worker_id=f"worker-{n}", eligible=n < 30, terms=terms, score=n)
            for n in range(40)
        ],
    )
    return pb.ExplainResponse(request_id=REQUEST_ID, policy="radix", attempts=[decision])


@pytest.mark.parametrize("args", [("workers",), ("hits",), ("explain", REQUEST_ID), ("policies",)])
def test_what_is_shown_of_many_workers_fits_80_columns_piped_too(cli, router, script, args):
    script.workers, script.explanation = _many_workers(), _long_explanation()
    script.hits = pb.HitRatesResponse(
        workers=[pb.WorkerHits(worker_id=f"worker-{n}", prompt_tokens=10**9) for n in range(40)]
    )
    result = cli(*args, *(() if args == ("policies",) else ("--router", router)))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    if args != ("policies",):
        assert all(f"worker-{n}" in result.stdout for n in range(40))
        assert "\u2026" not in result.stdout  # nothing is cut


def test_the_cheapest_workers_stand_beside_the_chosen_one(cli, router, script):
    script.explanation = _long_explanation()
    heads = rows_of(cli("explain", REQUEST_ID, "--router", router).stdout)
    assert any(row.startswith("→ worker-7 worker-0 worker-1 worker-2") for row in heads)


def test_with_every_worker_away_it_says_that_they_are_being_brought_up(cli, router, script):
    script.workers = pb.ListWorkersResponse(
        workers=[
            pb.WorkerStatus(worker_id="worker-0", state="restarting", deaths=2, reason="killed"),
            pb.WorkerStatus(worker_id="worker-1", state="starting"),
        ]
    )
    out = cli("workers", "--router", router).stdout
    assert "state restarting starting" in rows_of(out)
    assert "deaths 2 0" in rows_of(out)
    assert "worker-0: killed" in out
    assert "no worker serves now; being brought up: worker-0, worker-1" in out
    script.workers = pb.ListWorkersResponse(workers=[pb.WorkerStatus(worker_id="a", state="live")])
    assert "no worker serves" not in cli("workers", "--router", router).stdout
