"""A live replay with the simulated one beside it: the same requests, policies and speeds.

Owns the order of things: what the cluster is, a trace that fits it, calibration, live runs one
after the other, then the simulation of each. Whoever calls prints and writes files.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from radixroute.client import AsyncRouterClient
from radixroute.errors import RequestFailed
from radixroute.live.calibration import measure
from radixroute.live.cluster import ClusterFacts, Fitting, ask_cluster, fit_trace
from radixroute.live.replay import LiveResult, LiveRun, replay_live
from radixroute.replay.analysis.detectors import detect
from radixroute.replay.analysis.warm_caches import DEFINITION, INFINITE_WARM, warm_share
from radixroute.replay.calibration.calibration_file import calibration_json
from radixroute.replay.calibration.fitting import Calibration, fit
from radixroute.replay.lab import LabSettings, replay_all
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Trace, prefixes

Progress = Callable[[int, int, str], None]  # done, in all, what


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What `--live` is asked for beside the settings of a simulated replay."""

    address: str  # of the router, host:port
    fitting: Fitting = field(default_factory=Fitting)
    own_policy: bool = True  # the router's, instead of those of the settings
    calibrates: bool = False


@dataclass(frozen=True, slots=True)
class LiveOutcome:
    """The report, what to tell beside it, and the calibration's file if one was made."""

    report: Report
    notes: tuple[str, ...]
    calibration: str | None = None


@dataclass(slots=True)
class Measured:
    """What the cluster gave, and the simulation that belongs beside it."""

    trace: Trace  # as it was sent
    settings: LabSettings
    live: list[LiveResult]
    notes: list[str]
    calibration: str | None  # its file


def replay_beside(
    trace: Trace, settings: LabSettings, options: LiveOptions, progress: Progress, command: str,
    on_answer: Callable[[], None] | None = None,
) -> LiveOutcome:  # fmt: skip
    """Raises `FrontDoorError` and `ReplayError`. `on_answer`: there is a cluster; called once."""
    measured = asyncio.run(run_live(trace, settings, options, progress, on_answer))
    return simulate_beside(measured, progress, command)


async def run_live(
    trace: Trace, settings: LabSettings, options: LiveOptions, progress: Progress,
    on_answer: Callable[[], None] | None = None,
) -> Measured:  # fmt: skip
    """The part that needs the cluster."""
    return await _Lab(settings, options, progress).run(trace, on_answer)


def simulate_beside(measured: Measured, progress: Progress, command: str) -> LiveOutcome:
    """The same in virtual time, and both in one report."""
    settings, notes = measured.settings, list(measured.notes)
    report = replay_all(measured.trace, settings, progress, command)
    numbered = prefixes(measured.trace, settings.sizes(measured.trace)[0])
    runs, warmest = [], 0.0
    for one in measured.live:
        warm = warm_share(one.result, numbered, report.bounds["infinite"])
        warmest = max(warmest, warm)
        notes.extend(_notes(one, warm))
        reachable = (report.runs[0].reachable or 0.0) + warm
        findings = detect.detect(one.result, numbered)
        runs.append(ReportedRun(one.result, reachable=reachable, findings=findings))
    bounds, definitions = dict(report.bounds), dict(report.definitions)
    if warmest:
        bounds[INFINITE_WARM] = min(1.0, bounds["infinite"] + warmest)
        definitions[INFINITE_WARM] = DEFINITION
    # Beside each live run the simulated one of the same policy and speed.
    order = sorted([*runs, *report.runs], key=lambda run: _place(settings, run.result))
    report = replace(report, runs=tuple(order), bounds=bounds, definitions=definitions)
    return LiveOutcome(report, tuple(notes), measured.calibration)


class _Lab:
    def __init__(self, settings: LabSettings, options: LiveOptions, progress: Progress) -> None:
        self._settings, self._options, self._progress = settings, options, progress
        self._notes: list[str] = []
        self._calibration: str | None = None

    async def run(self, trace: Trace, on_answer: Callable[[], None] | None) -> Measured:
        async with AsyncRouterClient(self._options.address) as client:
            cluster = await ask_cluster(client)
            if on_answer is not None:
                on_answer()
            fitted = self._fit(trace, cluster)
            settings = await self._adapted(client, cluster, fitted)
            live = await self._live(client, cluster, fitted, settings)
        return Measured(fitted, settings, live, self._notes, self._calibration)

    def _fit(self, trace: Trace, cluster: ClusterFacts) -> Trace:
        fitting = self._options.fitting
        fitted, n_skipped = fit_trace(trace, cluster, fitting)
        if fitting.scale_lengths is not None:
            factor = fitted.block_size / trace.block_size
            self._notes.append(
                f"lengths times {factor:.4g}: a block of {trace.block_size} tokens became"
                f" {fitted.block_size}, {fitted.block_size // cluster.block_size} of the cluster's"
            )
        if n_skipped:
            self._notes.append(f"{n_skipped:,} requests too long for the cluster were left out")
        return fitted

    async def _adapted(
        self, client: AsyncRouterClient, cluster: ClusterFacts, trace: Trace
    ) -> LabSettings:
        """The settings with the cluster's own shape, policy and, if asked for, timing."""
        settings = replace(
            self._settings,
            workers=(len(cluster.workers),),
            kv_blocks=cluster.kv_blocks,
            block_size=cluster.block_size,
            max_num_batched_tokens=cluster.max_num_batched_tokens,
            max_num_seqs=cluster.max_num_seqs,
        )
        if self._options.own_policy:
            settings = replace(settings, policies=(cluster.policy,))
        if not self._options.calibrates:
            return settings
        rows = await measure(
            client,
            cluster,
            int(trace.input_tokens.max()),
            np.random.default_rng(secrets.randbits(64)),
            lambda done, total: self._progress(done, total, "calibrating"),
        )
        found = fit(rows)
        self._calibration = calibration_json(rows)
        self._notes.extend(calibration_lines(found))
        conditions = found.way.onto(settings.conditions)
        return replace(settings, timing=found.timing, conditions=conditions)

    async def _live(
        self,
        client: AsyncRouterClient,
        cluster: ClusterFacts,
        trace: Trace,
        settings: LabSettings,
    ) -> list[LiveResult]:
        wanted = [(policy, speed) for speed in settings.speeds for policy in settings.chosen]
        found = []
        for salt, (policy, speed) in enumerate(wanted):
            what = f"{policy} live, {speed:g}x"
            self._progress(0, len(trace), what)
            found.append(
                await replay_live(
                    client,
                    trace,
                    cluster,
                    LiveRun(policy, speed, settings.seed, salt, settings.session_ends),
                    lambda done, what=what: self._progress(done, len(trace), what),  # type: ignore[misc]
                )
            )
        return found


def _notes(live: LiveResult, warm: float) -> list[str]:
    """What to know before believing a run. Raises `RequestFailed` where nothing was answered.

    `warm`: prompt tokens that were cached before it began / prompt tokens.
    """
    result, late = live.result, live.result.lateness_ns
    n_failed = sum(live.failures.values())
    notes = [f"{n:,} requests failed: {reason}" for reason, n in live.failures.most_common(3)]
    if not (result.first_ns >= 0).any():
        raise RequestFailed(f"no request of {n_failed:,} was answered; " + "; ".join(notes))
    if late is not None:
        notes.append(
            f"sent late by {late.mean() / 1e6:.2f} ms in the mean, {late.max() / 1e6:.1f} at most"
        )
    if live.short_outputs:
        notes.append(f"{live.short_outputs:,} outputs ended early")
    if live.restarts:
        notes.append(f"the router restarted {live.restarts} times meanwhile")
    if live.missed_log:
        notes.append(
            f"what the router predicted for {live.missed_log:,} requests is not known: 0 is shown"
        )
    if result.idle_ns is None:
        notes.append("idle times are not known: the router or a worker changed")
    if warm:
        notes.append(
            f"at least {warm:.1%} of the prompt tokens were cached before it began, by other runs"
            " of this seed, so it is no run of empty caches and its bound is higher by that;"
            " another --seed makes other prompts"
        )
    return [f"{result.policy} live, {result.speed:g}x: {note}" for note in notes]


def _place(settings: LabSettings, result: RunResult) -> tuple[int, int]:
    return settings.speeds.index(result.speed), settings.chosen.index(result.policy)


def calibration_lines(found: Calibration) -> list[str]:
    """The fitted timing and how well it fits, for people."""
    t = found.timing
    lines = [
        f"step ms = {t.every:.3g} + prefill + decode; beside steps {found.way.dispatch_ms:.3g} ms"
        f" from the router to an engine, {found.way.client_ms:.3g} between them and clients",
        f"prefill ms = {t.a1:.3g} t + {t.a_pair:.3g} r + {t.a_each:.3g} q  (t: prompt tokens, that"
        f" read r before them, of q prompts; {found.prefill.rows} measured, off by"
        f" {found.prefill.mean:.1%} in the mean, {found.prefill.most:.1%} at most)",
        f"decode ms = {t.d1:.3g} p + {t.d_each:.3g} n  (n: requests, p: their share of"
        f" {t.kv_tokens:,} KV tokens; {found.decode.rows} measured, off by {found.decode.mean:.1%}"
        f" in the mean, {found.decode.most:.1%} at most)",
    ]
    if found.beside is not None:
        lines.append(
            f"both together: {found.beside.rows} prompts beside decoding, off by"
            f" {found.beside.mean:.1%} in the mean, {found.beside.most:.1%} at most"
        )
    return lines
