"""Small runs made by hand, for tests of reports."""

import numpy as np

from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Trace

MS = 1_000_000
CLASSES = ("never_seen", "not_chosen", "last_token")


def ints(*values):
    return np.array(values, np.int64)


def tiny_trace(name="tiny"):
    """Four requests, one a second, of 100 to 400 prompt tokens."""
    return Trace(
        name=name,
        block_size=16,
        arrival_ns=ints(0, 1000, 2000, 3000) * MS,
        input_tokens=ints(100, 200, 300, 400),
        output_tokens=ints(11, 1, 21, 5),
        first_block=ints(0, 1, 3, 6, 10),
        blocks=ints(0, 0, 1, 0, 1, 2, 0, 1, 2, 3),
        after=ints(-1, -1, -1, -1),
    )


def tiny_run(policy="radix", ttft_ms=(40, 10, 20, 30), workers=2, **changes):
    """Worker 0 gets requests 0 and 3. Every gap between tokens is 5 ms."""
    trace = changes.pop("trace", None) or tiny_trace()
    first = trace.arrival_ns + ints(*ttft_ms) * MS
    columns = {
        "arrival_ns": trace.arrival_ns,
        "worker": ints(0, 1, 1, 0),
        "decided_ns": trace.arrival_ns + 1000,
        "admitted_ns": trace.arrival_ns + 2000,
        "first_ns": first,
        "finish_ns": first + (trace.output_tokens - 1) * 5 * MS,
        "cached_tokens": ints(0, 96, 192, 288),
        "predicted_tokens": ints(0, 96, 208, 288),
        "recomputed_tokens": ints(0, 0, 0, 0),
        "speed": 1.0,
        "seed": 7,
        "wall_s": 0.5,
        **changes,
    }
    return RunResult(trace=trace, policy=policy, workers=workers, block_size=16, **columns)


def tiny_losses():
    """With the cached tokens of `tiny_run` they make up every prompt token."""
    tokens = (ints(99, 103, 107, 100), ints(0, 0, 0, 11), ints(1, 1, 1, 1))
    return dict(zip(CLASSES, tokens, strict=True))


def tiny_report():
    return Report(
        runs=(
            ReportedRun(tiny_run(), request_losses=tiny_losses()),
            ReportedRun(
                tiny_run("round_robin", (50, 60, 70, 80), cached_tokens=ints(0, 0, 96, 0)),
                losses={"never_seen": 800, "last_token": 104},
            ),
        ),
        bounds={"infinite": 0.75, "pooled_belady": 0.72, "pooled_lru": 0.6},
        definitions={"never_seen": "nobody had begun to compute it", "pooled_lru": "one LRU cache"},
        command="radixroute replay tiny.jsonl",
        config_hash="00ff",
    )


def random_run(policy, seed, requests=400, workers=4, **changes):
    """Numbers that could be a run's; the trace depends on `requests` alone."""
    draw = np.random.default_rng(requests)
    trace = Trace(
        name="random",
        block_size=16,
        arrival_ns=np.sort(draw.integers(0, 600_000 * MS, requests)),
        input_tokens=draw.integers(20, 5000, requests),
        output_tokens=draw.integers(1, 400, requests),
        first_block=np.zeros(requests + 1, np.int64),
        blocks=np.zeros(0, np.int64),
        after=np.full(requests, -1),
    )
    draw = np.random.default_rng(seed)
    first = trace.arrival_ns + (draw.lognormal(4, 1, requests) * MS).astype(np.int64)
    cached = (trace.input_tokens * draw.beta(1, 2, requests)).astype(np.int64)
    zeros = np.zeros(requests, np.int64)
    return RunResult(
        **{
            "trace": trace,
            "policy": policy,
            "workers": workers,
            "speed": 1.0,
            "seed": 0,
            "block_size": 16,
            "arrival_ns": trace.arrival_ns,
            "worker": draw.integers(0, workers, requests),
            "decided_ns": trace.arrival_ns + 1,
            "admitted_ns": trace.arrival_ns + 2,
            "first_ns": first,
            "finish_ns": first + trace.output_tokens * 8 * MS,
            "cached_tokens": cached,
            "predicted_tokens": cached,
            "recomputed_tokens": zeros,
            "wall_s": 0.1,
            **changes,
        }
    )


def random_losses(result, seed, classes=11):
    """Missed tokens of each request over so many classes, none left over."""
    draw = np.random.default_rng(seed)
    missed = result.trace.input_tokens - result.cached_tokens
    parts = draw.multinomial(missed, np.full(classes, 1 / classes))
    return {f"class {k}": parts[:, k] for k in range(classes)}
