"""Replay a trace from Python: policies on simulated workers, held against the best possible.

    python examples/replay_a_trace.py bench/data/conversation_trace.jsonl.gz

No cluster, no GPU, no model. The command line does the same and writes a report:
`radixroute replay TRACE --workers 8 -o report`.
"""

import sys
from pathlib import Path

from radixroute.replay import LabSettings, read_trace, replay_all

TRACE = Path(__file__).parents[1] / "bench" / "data" / "conversation_trace.jsonl.gz"
SETTINGS = LabSettings(policies=("round_robin", "least_loaded", "radix"), workers=(8,))


def main(path: str | Path = TRACE) -> None:
    reading = read_trace(Path(path))
    trace = reading.trace
    print(f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens")
    for what in (*reading.remarks, *reading.repairs, *reading.doubts):
        print(f"  {what}")
    report = replay_all(trace, SETTINGS, lambda done, n, what: print(f"{done}/{n} {what}"))
    for run, row in zip(report.runs, report.figures(), strict=True):
        print(f"{row.policy}: {row.reuse:.1%} of prompt tokens from caches", end=", ")
        print(f"first token after {row.ttft_mean_ms:.0f} ms in the mean")
        missed = {reason: n for reason, n in run.lost.items() if n and reason != "never_seen"}
        print(f"  tokens seen before and yet missed, by reason: {missed}")
    print("reuse that could be reached:", {name: round(x, 4) for name, x in report.bounds.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
