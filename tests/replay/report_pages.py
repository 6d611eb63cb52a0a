"""Reports of every sort that a page must be able to show, and a page taken apart."""

import json
from html.parser import HTMLParser
from typing import Any

import numpy as np

from radixroute.replay.findings import Finding
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.results import LIVE
from tests.replay.report_samples import (
    MS,
    ints,
    random_losses,
    random_run,
    tiny_report,
    tiny_run,
    tiny_trace,
)

HOSTILE = (
    "</title></script><script>alert(1)</script>\"' onload=alert(1) x=\x1b[31m\u202e\ud800&amp;{}"
)
POLICIES = (
    "radix",
    "dynamo_agentic",
    "round_robin",
    "vllm_kv_aware",
    "sglang_cache_aware",
    "session_affinity",
    "least_loaded",
)


class Page(HTMLParser):
    """Every element with its attributes; raises where tags do not pair up."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found: list[Any] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.found.append((tag, dict(attrs), tuple(self.open)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs, _ in self.found if name == tag]

    @property
    def scripts(self):
        return [data for tag, data in self.texts if tag == "script"]

    @property
    def charts(self):
        """What is drawn, by name."""
        return {one["name"]: one for one in json.loads(self.scripts[0])}

    @property
    def words(self):
        said = [data.strip() for tag, data in self.texts if tag not in {"script", "style"}]
        return " ".join(one for one in said if one)


def many(runs=7, requests=400, **changes):
    reported = []
    for k in range(runs):
        name = POLICIES[k] if k < len(POLICIES) else f"policy_{k}"
        result = random_run(name, k, requests=requests, **changes)
        reported.append(ReportedRun(result, request_losses=random_losses(result, k), reachable=0.6))
    return tuple(reported)


def never_run():
    never = np.full(4, -1)
    return tiny_run(
        "never", worker=never, decided_ns=never, admitted_ns=never, first_ns=never, finish_ns=never
    )


def live_run():
    unknown = ints(-1, -1, -1, -1)
    spans = ints(1, 2, 3, 4, 5, 6).reshape(2, 3) * MS
    lateness = ints(0, 1, 2, 5) * MS
    return tiny_run(
        ttft_ms=(50, 20, 30, 40),
        source=LIVE,
        lateness_ns=lateness,
        idle_ns=spans,
        admitted_ns=unknown,
    )


REPORTS = {
    "tiny": tiny_report,
    "no runs": lambda: Report(()),
    "a run that answered nobody": lambda: Report((ReportedRun(never_run()),)),
    "one that answered and one that did not": lambda: Report(
        (ReportedRun(never_run()), ReportedRun(tiny_run()))
    ),
    "no time at all": lambda: Report(
        (ReportedRun(tiny_run("instant", (0, 0, 0, 0))), ReportedRun(tiny_run()))
    ),
    "more policies than colours": lambda: Report(many(19), bounds={"infinite": 0.9}),
    "many workers": lambda: Report(many(3, workers=40)),
    "several settings": lambda: Report((*many(3), *many(3, speed=4.0), *many(2, workers=8))),
    "the same policy twice": lambda: Report((ReportedRun(tiny_run()), ReportedRun(tiny_run()))),
    "live beside simulated": lambda: Report((ReportedRun(live_run()), ReportedRun(tiny_run()))),
    "findings": lambda: Report(
        (ReportedRun(tiny_run(), findings=(Finding("starved", f"It got {HOSTILE}.", 0.4, (2,)),)),)
    ),
    "hostile names": lambda: Report(
        (
            ReportedRun(tiny_run(HOSTILE, trace=tiny_trace(HOSTILE)), losses={HOSTILE: 5}),
            ReportedRun(tiny_run("x" * 5000)),
        ),
        bounds={"infinite": 0.7, HOSTILE: 0.5},
        definitions={HOSTILE: HOSTILE},
        command=HOSTILE,
        config_hash=HOSTILE,
        settings={HOSTILE: HOSTILE},
    ),
}
