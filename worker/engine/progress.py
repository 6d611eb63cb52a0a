"""Progress of each worker session: the last dispatch the engine saw, and the load of its requests.

Owns the acknowledged dispatch numbers, from a worker session's first request until it is forgotten.
Load is counted from the sequences at each step, never booked. Called by `InferenceEngine`; one
thread.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from radixroute.worker.engine.engine import WorkerSessionProgress
from radixroute.worker.engine.sequence import Sequence


@dataclass(slots=True)
class _Load:
    in_flight: int = 0
    queued_tokens: int = 0
    active_blocks: int = 0


class ProgressTracker:
    """Progress by worker session."""

    def __init__(self) -> None:
        self._acknowledged: dict[str, int] = {}

    def acknowledge(self, session_id: str, dispatch_seq: int) -> None:
        """The engine has seen this dispatch, whatever becomes of it."""
        highest = self._acknowledged.get(session_id, 0)
        self._acknowledged[session_id] = max(highest, dispatch_seq)

    def forget(self, session_id: str) -> None:
        self._acknowledged.pop(session_id, None)

    def of(self, sequences: Iterable[Sequence]) -> tuple[WorkerSessionProgress, ...]:
        """Load of every worker session that is not forgotten, idle ones too. O(requests)."""
        load = {session_id: _Load() for session_id in self._acknowledged}
        for sequence in sequences:
            entry = load[sequence.request.session_id]
            entry.in_flight += 1
            entry.queued_tokens += sequence.n_queued
            if sequence.lease is not None:
                entry.active_blocks += len(sequence.lease.table)
        return tuple(
            WorkerSessionProgress(
                session_id=session_id,
                acknowledged_dispatch=self._acknowledged[session_id],
                in_flight=entry.in_flight,
                queued_tokens=entry.queued_tokens,
                active_blocks=entry.active_blocks,
            )
            for session_id, entry in load.items()
        )
