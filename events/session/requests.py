"""The one request a stream may have outstanding: its deadline, and when the next may go out.

Deterministic: intervals double from a base and fall back to it when a heartbeat agrees, so a
sender that keeps contradicting itself costs a bounded number of snapshots.
"""

from radixroute.events.session.actions import RequestResend, RequestSnapshot
from radixroute.events.settings import SessionSettings


class RequestClock:
    """Owned by one `StreamSession`."""

    def __init__(self, settings: SessionSettings) -> None:
        self._resend_timeout_ns = int(settings.replay_timeout_s * 1e9)
        self._snapshot_timeout_ns = int(settings.snapshot_timeout_s * 1e9)
        self._base_interval_ns = int(settings.snapshot_interval_s * 1e9)
        self._max_interval_ns = int(settings.snapshot_interval_max_s * 1e9)
        self.reset()

    @property
    def resend(self) -> RequestResend | None:
        """The outstanding resend."""
        return self._outstanding if isinstance(self._outstanding, RequestResend) else None

    def reset(self) -> None:
        """A new epoch: nothing outstanding, no grudge."""
        self._outstanding: RequestResend | RequestSnapshot | None = None
        self._deadline_ns = 0
        self._interval_ns = self._base_interval_ns
        self._next_snapshot_ns: int | None = None

    def start_resend(self, from_seq: int, to_seq: int, now_ns: int) -> bool:
        """Whether a resend may be asked for now; if so, it is outstanding."""
        if self._outstanding is not None:
            return False
        self._outstanding = RequestResend(from_seq, to_seq)
        self._deadline_ns = now_ns + self._resend_timeout_ns
        return True

    def start_snapshot(self, now_ns: int) -> bool:
        """Whether a snapshot may be asked for now; if so, it is outstanding."""
        too_early = self._next_snapshot_ns is not None and now_ns < self._next_snapshot_ns
        if self._outstanding is not None or too_early:
            return False
        self._outstanding = RequestSnapshot()
        self._deadline_ns = now_ns + self._snapshot_timeout_ns
        self._next_snapshot_ns = now_ns + self._interval_ns
        self._interval_ns = min(2 * self._interval_ns, self._max_interval_ns)
        return True

    def progressed(self, now_ns: int) -> None:
        """A snapshot part arrived: the rest has its full time again."""
        self._deadline_ns = now_ns + self._snapshot_timeout_ns

    def finish(self) -> None:
        """Nothing is outstanding any more, answered or not."""
        self._outstanding = None

    def calm(self) -> None:
        """A heartbeat agreed: the next trouble is a new one."""
        self._interval_ns = self._base_interval_ns

    def has_expired(self, now_ns: int) -> bool:
        """Whether the outstanding request's time is over."""
        return self._outstanding is not None and now_ns >= self._deadline_ns
