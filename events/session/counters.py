"""What happened to a stream, counted: nothing is dropped without one of these."""

from dataclasses import dataclass


@dataclass(slots=True)
class SessionCounters:
    """Owned by one `StreamSession`; others read. Counts since it was made."""

    applied: int = 0  # batches
    duplicates: int = 0  # batches already applied or buffered
    foreign: int = 0  # items of an epoch that does not count
    wrong_rank: int = 0  # items that claim another rank
    malformed: int = 0  # messages that could not be decoded
    overflows: int = 0  # batches pushed out of the buffer
    unwanted_parts: int = 0  # snapshot parts nobody waits for
    late_replies: int = 0  # ends of resends nobody waits for any more: the gap had mended
    gaps: int = 0
    resends_requested: int = 0
    resends_failed: int = 0
    snapshots_requested: int = 0
    snapshots_applied: int = 0
    timeouts: int = 0  # requests without an answer in time
    digest_mismatches: int = 0
    silences: int = 0  # times the heartbeat stopped

    @property
    def rejected(self) -> int:
        """Items refused for what they are, not for when they came."""
        return self.foreign + self.wrong_rank + self.malformed
