"""`switch`: what it asks for, and how a trial stands."""

import json

import pytest

from radixroute.protos import radixroute_pb2 as pb
from tests.frontdoor.console_rows import rows_of


def stands(**more) -> pb.SwitchResponse:
    terms = pb.TrialTerms(
        policy="random", share=0.1, min_requests=200, most_times=1.1, least_hits=-0.02
    )
    mine = pb.TrialSide(requests=40, ttft_ms=120.4, hit_rate=0.5)
    others = pb.TrialSide(requests=360, ttft_ms=100.2, hit_rate=0.6)
    return pb.SwitchResponse(
        usual="radix", terms=terms, mine=mine, others=others, beside="radix", **more
    )


def test_a_policy_is_tried_by_the_terms_that_were_given(cli, router, script):
    script.switch = stands(is_running=True)
    out = cli("switch", "random", "--share", "25", "--least-hits", "-5", "--router", router).stdout
    (asked,) = script.switches
    assert asked.begin.policy == "random"
    assert asked.begin.share == pytest.approx(0.25)
    assert asked.begin.least_hits == pytest.approx(-0.05)
    rows = rows_of(out)
    assert "random radix" in rows
    assert "share 10.0 % 90.0 %" in rows
    assert "TTFT (ms) 120 100" in rows
    assert "random is being tried" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize(("flag", "what"), [("--keep", "keep"), ("--back", "back")])
def test_it_is_kept_or_ended(cli, router, script, flag, what):
    script.switch = stands(why="first tokens took 300 ms")
    out = cli("switch", flag, "--router", router).stdout
    assert script.switches[0].WhichOneof("what") == what
    assert "tried no more: first tokens took 300 ms" in " ".join(out.split())


def test_without_anything_it_says_how_it_stands(cli, router, script):
    assert "go by radix; nothing was tried yet" in cli("switch", "--router", router).stdout
    assert script.switches[0].WhichOneof("what") is None
    shown = json.loads(cli("switch", "--json", "--router", router).stdout)
    assert shown["usual"] == "radix"


def test_only_one_of_these_may_be_asked_for(cli, router, script):
    refused = cli("switch", "random", "--back", "--router", router)
    assert refused.exit_code != 0
    assert "one of them" in refused.stderr
    assert script.switches == []
