"""Pacing: how many resumed requests a worker computes again at once.

Owns who is being resumed where. When a worker dies its streams go to those that are left; all at
once, each would wait for the last one's prompt, and so would the streams that run there. Pure.
"""

from typing import Final

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.load import BookingId

MOST: Final = 8  # prompts of resumed requests on one worker without a first token


class ResumePace:
    """Resumed requests without a first token of their new attempt."""

    def __init__(self) -> None:
        self._worker_by_booking: dict[BookingId, WorkerId] = {}
        self._n_on: dict[WorkerId, int] = {}

    def __len__(self) -> int:
        return len(self._worker_by_booking)

    def may_resume(self, worker_id: WorkerId) -> bool:
        return self._n_on.get(worker_id, 0) < MOST

    def began(self, booking: BookingId, worker_id: WorkerId) -> None:
        self._worker_by_booking[booking] = worker_id
        self._n_on[worker_id] = self._n_on.get(worker_id, 0) + 1

    def ended(self, booking: BookingId) -> None:
        """It has a first token, or is over. Others' bookings are no error."""
        worker_id = self._worker_by_booking.pop(booking, None)
        if worker_id is not None:
            self._n_on[worker_id] -= 1
            if not self._n_on[worker_id]:
                del self._n_on[worker_id]
