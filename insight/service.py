"""Service: `radixroute.v1.Insight`, what the readers of a router's tape say over gRPC.

Pure readers, in the router's loop; guarded as `Inspect` is. Changes nothing.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import grpc

from radixroute.insight.misses.reader import Misses
from radixroute.insight.misses.view import MissRow, MissView
from radixroute.insight.reader import Reader
from radixroute.insight.shadow.comparison import Estimate, ShadowFigures
from radixroute.insight.shadow.messages import ShadowState
from radixroute.insight.shadow.shadows import Shadows
from radixroute.protos import radixroute_pb2 as pb

NO_SHADOWS = (
    "this router has no shadows: name policies in insight.shadows, for example"
    " --set insight.shadows=least_loaded, and start it again"
)
NO_MISSES = (
    "this router keeps nothing of misses: insight.misses_bytes is 0; give it some and start it"
    " again"
)
ALL_S = 1e9
R = TypeVar("R", bound=Reader)


class InsightServer:
    """Of one router."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers

    async def Shadows(
        self, request: pb.ShadowsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ShadowsResponse:
        shadows = self._reader(Shadows)
        if shadows is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_SHADOWS)
            raise AssertionError  # abort raises
        return shadows_seen(shadows, request.request_id)

    async def Misses(
        self, request: pb.MissesRequest, context: grpc.aio.ServicerContext
    ) -> pb.MissesResponse:
        misses = self._reader(Misses)
        if misses is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_MISSES)
            raise AssertionError  # abort raises
        return misses_seen(misses.view(request.window_s or ALL_S))

    def _reader(self, kind: type[R]) -> R | None:
        return next((one for one in self._readers if isinstance(one, kind)), None)


def misses_seen(view: MissView) -> pb.MissesResponse:
    """As a message."""
    return pb.MissesResponse(
        window_s=view.window_s,
        total=_miss_row(view.total),
        by_worker=map(_miss_row, view.by_worker),
        by_tenant=map(_miss_row, view.by_tenant),
        by_session=map(_miss_row, view.by_session),
        by_minute=map(_miss_row, view.by_minute),
        unattributed=view.unattributed,
        largest=view.largest,
        advice=view.advice,
        ago_s=view.ago_s,
    )


def _miss_row(row: MissRow) -> pb.MissRow:
    return pb.MissRow(
        name=row.name,
        requests=row.requests,
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.cached_tokens,
        missed=row.missed,
        reachable_tokens=row.reachable_tokens,
    )


def shadows_seen(shadows: Shadows, request_id: str) -> pb.ShadowsResponse:
    """As a message."""
    seen = shadows.seen()
    states = {state.policy: state for state in seen.states}
    figures = [_figures(one, states.get(n - 1)) for n, one in enumerate(seen.figures)]
    return pb.ShadowsResponse(
        live_policy=seen.live_policy,
        figures=figures,
        behind_s=seen.behind_s,
        restarts=seen.restarts,
        batches_lost=seen.batches_lost,
        requests_cut=seen.counts.cut,
        left_out=seen.counts.left_out,
        choices=[
            pb.ShadowChoice(
                policy=one.policy,
                worker_id=one.worker_id,
                ttft_ms=one.ttft_ms,
                cached_tokens=one.cached_tokens,
            )
            for one in (shadows.would_have(request_id) if request_id else ())
        ],
    )


def _figures(one: ShadowFigures, state: ShadowState | None) -> pb.ShadowFigures:
    told = pb.ShadowFigures(
        policy=one.policy,
        is_live=one.is_live,
        requests=one.requests,
        hit_rate=one.hit_rate,
        ttft_ms=one.ttft_ms,
        flips=one.flips,
        ttft_times=_estimate(one.ttft_times),
        hit_rate_more=_estimate(one.hit_rate_more),
    )
    if state is not None:
        told.busy_s = state.busy_ns / 1e9
        told.requests_failed = state.n_failed + state.n_unfit
        told.error = state.error
    return told


def _estimate(one: Estimate) -> pb.Estimate | None:
    """None: there was nothing to compare."""
    return None if math.isnan(one.value) else pb.Estimate(value=one.value, margin=one.margin)
