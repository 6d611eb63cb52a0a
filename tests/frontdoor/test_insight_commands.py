"""`misses` and `shadow`: tables within 80 columns, words, and JSON; and where there is nothing."""

import json

import pytest

from radixroute.insight.misses.sums import MINUTE_NS, PROMPT, MissSums, Whose, new_tokens
from radixroute.insight.misses.view import view_of
from radixroute.insight.service import misses_seen, shadows_seen
from radixroute.insight.shadow.collector import Collected
from radixroute.insight.shadow.comparison import Estimate, ShadowFigures
from radixroute.insight.shadow.messages import ShadowState
from radixroute.insight.shadow.shadows import ShadowsSeen, WouldHave
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.replay.analysis import misses_layout as at
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


# -- misses


def missed(cached=600, never=100, evicted=300, extra=64, why="stream") -> pb.MissesResponse:
    """Of two workers and sessions, in three minutes."""
    sums = MissSums(60)
    for n in range(3):
        tokens = new_tokens()
        tokens[at.NEVER_SEEN], tokens[at.EVICTED_EVERYWHERE] = never, evicted
        tokens[PROMPT : PROMPT + 3] = cached + never + evicted, cached, 1
        whose = Whose(WorkerId(f"worker-{n % 2}"), "acme" if n else "", 0xABC + n % 2)
        sums.add([whose], tokens[None], [extra], n * MINUTE_NS)
    sums.leave_out(500, why, 0)
    now_ns = 2 * MINUTE_NS + 1
    return misses_seen(view_of(sums.within(1 << 60, now_ns), 1000, 16, now_ns))


def test_misses_are_shown_by_class_with_the_one_thing_to_change(cli, router, script):
    script.misses = missed()
    out = cli("misses", "--router", router).stdout
    rows = rows_of(out)
    assert "evicted everywhere 900 75.0 % 30.0 %" in rows
    assert "never seen 300 25.0 % 10.0 %" in rows
    words = " ".join(out.split())
    assert (
        "3 requests in 3 min: 60.0 % of 3,000 prompt tokens from cache, 66.7 % of what one cache"
        in words
    )
    assert (
        "75 % of what was missed was evicted everywhere: 64 KV blocks (1,024 tokens) more a"
        " worker, 6 % of what it has, would have kept 80 % of it." in words
    )
    assert "500 prompt tokens are left out: a worker's event stream was not up to date" in words
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("worker", "worker-0 2 2,000 60.0 % 800 600"),
        ("tenant", "acme 2 2,000 60.0 % 800 600"),
        ("session", "0000000000000abd 1 1,000 60.0 % 400 300"),
        ("time", "2 min ago 1 1,000 60.0 % 400 300"),
    ],
)
def test_misses_are_told_apart_by_what_is_asked(cli, router, script, by, row):
    script.misses = missed()
    out = cli("misses", "--by", by, "--router", router).stdout
    assert row in rows_of(out)
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_window_is_a_time_and_what_is_none_says_how_to_write_one(cli, router, script):
    script.misses = missed()
    for text, seconds in (("90s", 90.0), ("15m", 900.0), ("1.5h", 5400.0)):
        cli("misses", "--window", text, "--router", router)
        assert script.windows[-1] == seconds
    for wrong in ("15", "m", "0m", "-3m", "1d"):
        refused = cli("misses", f"--window={wrong}", "--router", router)
        assert refused.exit_code != 0
        assert "90s, 15m or 1h" in refused.stderr


def test_where_nothing_was_attributed_that_is_said(cli, router, script):
    script.misses = misses_seen(view_of([], 0, 16, 5))
    assert "no request was attributed" in cli("misses", "--router", router).stdout


def test_misses_as_json(cli, router, script):
    script.misses = missed()
    shown = json.loads(cli("misses", "--json", "--router", router).stdout)
    assert shown["total"]["missed"] == {"evicted_everywhere": 900, "never_seen": 300}
    assert shown["unattributed"] == {"stream": 500}
    assert shown["largest"] == "evicted_everywhere"
