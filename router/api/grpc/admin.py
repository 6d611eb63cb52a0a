"""Admin: `radixroute.v1.Admin`, what changes a router while it runs. For its machine alone."""

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.api.guard.inspect_guard import NEAR
from radixroute.router.core.trial import Side, Trials, TrialState, TrialTerms
from radixroute.router.errors import BadTrial, UnknownPolicy
from radixroute.router.runtime import RouterRuntime

NOT_NEAR = "this changes the router: ask from its own machine, over loopback"
MIN_REQUESTS = 200
MOST_TIMES = 1.1
LEAST_HITS = -0.02


class AdminServer:
    """Of one router."""

    def __init__(self, runtime: RouterRuntime) -> None:
        self._runtime = runtime

    async def Switch(
        self, request: pb.SwitchRequest, context: grpc.aio.ServicerContext
    ) -> pb.SwitchResponse:
        if not context.peer().startswith(NEAR):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, NOT_NEAR)
        try:
            self._switch(request)
        except (BadTrial, UnknownPolicy) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return switch_seen(self._runtime.core.trials)

    def _switch(self, request: pb.SwitchRequest) -> None:
        trials, now_ns = self._runtime.core.trials, self._runtime.now_ns()
        match request.WhichOneof("what"):
            case "begin":
                trials.begin(_terms(request.begin), now_ns)
            case "back":
                trials.end("somebody ended it", now_ns)
            case "keep":
                trials.keep(now_ns)


def switch_seen(trials: Trials) -> pb.SwitchResponse:
    """As a message."""
    told = pb.SwitchResponse(
        usual=trials.usual,
        is_running=trials.running is not None,
        stepped_back=trials.stepped_back,
    )
    if trials.last is not None:
        _tell(told, trials.last)
    return told


def _tell(told: pb.SwitchResponse, last: TrialState) -> None:
    terms = last.terms
    told.terms.CopyFrom(
        pb.TrialTerms(
            policy=terms.policy,
            share=terms.share,
            min_requests=terms.min_requests,
            most_times=terms.most_times,
            least_hits=terms.least_hits,
        )
    )
    told.mine.CopyFrom(_side(last.mine))
    told.others.CopyFrom(_side(last.others))
    told.why, told.beside = last.why, last.usual


def _side(side: Side) -> pb.TrialSide:
    return pb.TrialSide(requests=side.requests, ttft_ms=side.mean_ms, hit_rate=side.hit_rate)


def _terms(asked: pb.TrialTerms) -> TrialTerms:
    return TrialTerms(
        policy=asked.policy,
        share=asked.share,
        min_requests=asked.min_requests or MIN_REQUESTS,
        most_times=asked.most_times or MOST_TIMES,
        least_hits=asked.least_hits if asked.HasField("least_hits") else LEAST_HITS,
    )
