"""A router that answers from a script, over real gRPC on loopback."""

from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens

REQUEST_ID = "9f2c51d07a6e4b08b6a1c4de2f0c9e77"
USAGE = pb.Usage(
    prompt_tokens=480,
    cached_tokens=464,
    output_tokens=3,
    attempts=2,
    worker_id="worker-1",
    ttft_ms=12.5,
    queue_ms=0.5,
)
ANSWER = (
    pb.GenerateResponse(request_id=REQUEST_ID, token_ids=pack_tokens([7]), text="A ", usage=USAGE),
    pb.GenerateResponse(
        request_id=REQUEST_ID, token_ids=pack_tokens([8]), text="[b]tree[/b]", position=1
    ),
    pb.GenerateResponse(
        request_id=REQUEST_ID,
        token_ids=pack_tokens([9]),
        text=" 🎉",
        position=2,
        finish_reason=pb.FINISH_REASON_STOP,
        usage=USAGE,
    ),
)
WORKERS = pb.ListWorkersResponse(
    workers=[
        pb.WorkerStatus(
            worker_id="worker-0",
            address="127.0.0.1:41001",
            state="live",
            stream_state="live",
            in_flight=3,
            queued_tokens=120,
            kv_blocks_total=1000,
            kv_blocks_used=250,
            indexed_blocks=240,
            idle_planned_ms=7.25,
            idle_starting_ms=1.5,
            audit="drifted",
            audit_judged=70,
            audit_differing=3,
            audit_reason="told 4 [blocks]",
            adapters=["law [en]", "sums"],
        ),
        pb.WorkerStatus(worker_id="worker-1", state="dead", deaths=1, reason="stream [broken]"),
    ]
)
HITS = pb.HitRatesResponse(
    workers=[
        pb.WorkerHits(worker_id="worker-0", requests=4, prompt_tokens=400, cached_tokens=100),
        pb.WorkerHits(worker_id="worker-1"),
    ],
    total=pb.WorkerHits(requests=4, prompt_tokens=400, cached_tokens=100, kv_use=0.5),
)
EXPLANATION = pb.ExplainResponse(
    request_id=REQUEST_ID,
    policy="radix",
    prompt_tokens=480,
    block_size=16,
    outcome="stop",
    cached_tokens=464,
    attempts=[
        pb.AttemptDecision(
            attempt=1,
            chosen="worker-1",
            reason="lowest expected cost",
            candidates=[
                pb.CandidateTerms(
                    worker_id="worker-0",
                    eligible=True,
                    terms=[pb.Term(name="prefill", value=480.25, unit="ms")],
                    score=480.25,
                ),
                pb.CandidateTerms(
                    worker_id="worker-1",
                    eligible=True,
                    overlap_blocks=29,
                    terms=[
                        pb.Term(name="prefill", value=16.5, unit="ms"),
                        pb.Term(name="queue", value=2.0, unit="ms"),
                    ],
                    score=18.5,
                ),
                pb.CandidateTerms(worker_id="worker-2", excluded_because="suspect"),
            ],
        )
    ],
)


@dataclass
class Script:
    """What the router says, and what it was asked."""

    answer: Any = ANSWER
    refusal: tuple[grpc.StatusCode, str] | None = None  # code, details
    asked: list[pb.GenerateRequest] = field(default_factory=list)
    workers: Any = field(default_factory=lambda: WORKERS)
    hits: Any = field(default_factory=lambda: HITS)
    explanation: Any = field(default_factory=lambda: EXPLANATION)
    misses: pb.MissesResponse = field(default_factory=pb.MissesResponse)
    switch: pb.SwitchResponse = field(default_factory=lambda: pb.SwitchResponse(usual="radix"))
    switches: list[pb.SwitchRequest] = field(default_factory=list)  # that were asked for
    windows: list[float] = field(default_factory=list)  # misses were asked over
    shadows: pb.ShadowsResponse = field(default_factory=pb.ShadowsResponse)
    logs: list[pb.RequestLogResponse] = field(default_factory=list)  # the last one stays
    log_asked: list[int] = field(default_factory=list)
    info: pb.RouterInfoResponse = field(
        default_factory=lambda: pb.RouterInfoResponse(
            model="m", policy="radix", counters={"drops": 2**60}
        )
    )


class FakeRouter(rpc.RouterServicer):
    def __init__(self, script):
        self.script = script

    def Generate(self, request, context):
        self.script.asked.append(request)
        yield from self.script.answer
        _refuse(self.script, context)


class FakeAdmin(rpc.AdminServicer):
    def __init__(self, script):
        self.script = script

    def Switch(self, request, context):
        self.script.switches.append(request)
        _refuse(self.script, context)
        return self.script.switch


class FakeInsight(rpc.InsightServicer):
    def __init__(self, script):
        self.script = script

    def Misses(self, request, context):
        self.script.windows.append(request.window_s)
        _refuse(self.script, context)
        return self.script.misses

    def Shadows(self, request, context):
        _refuse(self.script, context)
        return self.script.shadows


class FakeInspect(rpc.InspectServicer):
    def __init__(self, script):
        self.script = script

    def ListWorkers(self, request, context):
        _refuse(self.script, context)
        return self.script.workers

    def HitRates(self, request, context):
        return self.script.hits

    def Explain(self, request, context):
        if request.request_id != REQUEST_ID:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such request in the log")
        return self.script.explanation

    def RequestLog(self, request, context):
        self.script.log_asked.append(request.after)
        logs = self.script.logs
        return logs.pop(0) if len(logs) > 1 else logs[0]

    def RouterInfo(self, request, context):
        return self.script.info


def _refuse(script, context):
    if script.refusal is not None:
        context.abort(*script.refusal)


@contextmanager
def fake_router(script=None, options=()):
    """Yields host:port."""
    script = script or Script()
    server = grpc.server(
        futures.ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0), *options)
    )
    rpc.add_RouterServicer_to_server(FakeRouter(script), server)
    rpc.add_InspectServicer_to_server(FakeInspect(script), server)
    rpc.add_AdminServicer_to_server(FakeAdmin(script), server)
    rpc.add_InsightServicer_to_server(FakeInsight(script), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
