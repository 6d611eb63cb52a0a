"""`radixroute shadow`: a table within 80 columns, words, and JSON; and where there is nothing."""

import json

import pytest

from radixroute.insight.service import shadows_seen
from radixroute.insight.shadow.collector import Collected
from radixroute.insight.shadow.comparison import Estimate, ShadowFigures
from radixroute.insight.shadow.messages import ShadowState
from radixroute.insight.shadow.shadows import ShadowsSeen, WouldHave
from radixroute.protos import radixroute_pb2 as pb
from tests.frontdoor.console_rows import rows_of

NONE = Estimate(float("nan"), None)


def figures(policy, *, is_live=False, times=NONE, more=NONE, n=1200):
    return ShadowFigures(policy, is_live, n, 0.614, 182.4, 333, times, more)


class Seen:
    """Shadows that tell what they are told."""

    def __init__(self, *shown: ShadowFigures, would=()) -> None:
        states = tuple(ShadowState(n, 5, 0, 1, 2, 3_000_000_000, "") for n in range(len(shown) - 1))
        counts = Collected(rows=9, cut=2, left_out={"leased": 4})
        self._seen = ShadowsSeen("radix", shown, states, counts, 12.4, 1, 0)
        self._would = would

    def seen(self):
        return self._seen

    def would_have(self, request_id):
        return self._would


def told(*shown, would=()) -> pb.ShadowsResponse:
    return shadows_seen(Seen(*shown, would=would), "r")  # type: ignore[arg-type]


LIVE = figures("radix", is_live=True)
OWN = figures("radix", times=Estimate(1.04, 0.012), more=Estimate(-0.004, 0.001))
OTHER = figures("least_loaded", times=Estimate(1.31, None), more=Estimate(-0.213, 0.01))


def test_shadows_are_shown_beside_what_happened(cli, router, script):
    script.shadows = told(LIVE, OWN, OTHER)
    out = cli("shadow", "--router", router).stdout
    rows = rows_of(out)
    assert "radix, live radix, shadow least_loaded" in rows
    assert "requests 1200 1200 1200" in rows
    assert "sent elsewhere 27.8 % 27.8 %" in rows
    assert "more hits (points) -0.4 ±0.1 -21.3 ±1.0" in rows
    assert "TTFT x1.04 ±0.01 x1.31" in rows
    assert "x1.04 ±0.01: that is the error of the method" in " ".join(out.split())
    assert "12 s behind the router; began anew 1 times" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_what_each_shadow_did_with_one_request_is_told(cli, router, script):
    would = (WouldHave("least_loaded", "worker-3", 41.2, 96),)  # type: ignore[arg-type]
    script.shadows = told(LIVE, OWN, OTHER, would=would)
    out = cli("shadow", "r", "--router", router).stdout
    line = "least_loaded had sent it to worker-3: 96 tokens cached, first token after 41 ms"
    assert line in " ".join(out.split())
    script.shadows = told(LIVE, OWN, OTHER)
    assert "no shadow has come to that request yet" in cli("shadow", "r", "--router", router).stdout


def test_json_has_every_number_and_nothing_that_is_none(cli, router, script):
    script.shadows = told(LIVE, OWN, OTHER)
    shown = json.loads(cli("shadow", "--router", router, "--json").stdout)
    assert shown["figures"][0]["ttft_times"] is None
    assert shown["figures"][2]["ttft_times"]["value"] == pytest.approx(1.31)
    assert shown["figures"][1]["requests_failed"] == 3
    assert shown["left_out"] == {"leased": 4}


def test_a_router_whose_workers_have_not_come_has_none_yet(cli, router, script):
    script.shadows = told()
    assert "have not begun" in cli("shadow", "--router", router).stdout
