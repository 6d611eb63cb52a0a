"""Outcome: what came of one run, as a record and as rows with their bars."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.chaos.blind import BAR_SHARE, Sighted
from bench.chaos.faults import Fault
from bench.chaos.pauses import ROUTER_BACK_S, bar_s
from bench.chaos.verdicts import Tally, Verdict
from bench.rows import Row, alone, per_cent_99

BAD = (Verdict.LOST, Verdict.DUPLICATED, Verdict.MISSING, Verdict.HUNG, Verdict.DIFFERENT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    faults: Counter[Fault]
    tally: Tally
    pauses_s: Sequence[float]  # each stream's longest
    by_fault_s: Mapping[Fault, Sequence[float]]  # pauses of the streams that were open
    silent_after_s: float  # a router's patience with a worker that says nothing
    mended_s: Sequence[float]  # from each fault to a fleet that is ready
    served_again_s: Sequence[float]  # from each kill of a router
    sighted: Sighted  # after kills of routers
    log_complaints: int  # of actors whose log found no room on its disk
    resumes: Counter[str]  # by the router, by clients

    @property
    def requests(self) -> int:
        return self.tally.verdicts.total()

    @property
    def pause_p99_ms(self) -> float:
        return 1e3 * per_cent_99(self.pauses_s)

    @property
    def record(self) -> dict[str, object]:
        found = self.tally.verdicts
        return {
            "requests": self.requests,
            "kills": {f.value: n for f, n in sorted(self.faults.items()) if f.kills},
            "stops": {f.value: n for f, n in sorted(self.faults.items()) if not f.kills},
            "resumes": dict(self.resumes),
            "whole": found[Verdict.WHOLE],
            "lost": found[Verdict.LOST],
            "lost_because": dict(self.tally.losses),
            "duplicated": found[Verdict.DUPLICATED],
            "missing": found[Verdict.MISSING],
            "hung": found[Verdict.HUNG],
            "clean_errors": dict(self.tally.clean_errors),
            "greedy_identical": not found[Verdict.DIFFERENT],
            "pause_p99_ms": round(self.pause_p99_ms, 1),
            "pauses_ms": {
                fault.value: {"streams": len(waits), **_spread_ms(waits)}
                for fault, waits in sorted(self.by_fault_s.items())
            },
            "served_again_s": [round(seconds, 2) for seconds in self.served_again_s],
            "decisions_after_router_kills": self.sighted.decisions,
            "blind": self.sighted.blind,
            "log_complaints": self.log_complaints,
        }

    @property
    def rows(self) -> list[Row]:
        found = self.tally.verdicts
        return [
            *(alone(verdict.value, found[verdict], "streams", 0) for verdict in BAD),
            alone("clean_errors", found[Verdict.CLEAN_ERROR], "streams"),
            alone("pause.p99", self.pause_p99_ms, "ms"),
            alone("pause.longest", 1e3 * max(self.pauses_s), "ms"),
            *(row for fault in sorted(self.by_fault_s) for row in self._pause_rows(fault)),
            *self._router_rows(),
            alone("mended.longest", max(self.mended_s, default=0.0), "s"),
        ]

    def _pause_rows(self, fault: Fault) -> list[Row]:
        bar = bar_s(fault, self.silent_after_s)
        spread = _spread_ms(self.by_fault_s[fault])
        return [
            alone(f"{fault.value}.p50", spread["p50"], "ms"),
            alone(f"{fault.value}.p99", spread["p99"], "ms", None if bar is None else 1e3 * bar),
        ]

    def _router_rows(self) -> list[Row]:
        if not self.served_again_s:
            return []
        return [
            alone("router.serves", max(self.served_again_s), "s", ROUTER_BACK_S),
            alone("router.blind", 100 * self.sighted.blind_share, "%", 100 * BAR_SHARE),
        ]


def _spread_ms(waits_s: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(1e3 * median(waits_s), 1),
        "p99": round(1e3 * per_cent_99(waits_s), 1),
    }
