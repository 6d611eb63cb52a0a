"""Reader of a router's request log, page by page; counts what it could not get.

Owns the place reached; whoever has a client asks for the pages. Never hides a gap: entries that had
left the log are in `missed`, the router's restarts in `restarts`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.replay.traces.captured import CapturedRequest


class RequestLogReader:
    """One reader of one router."""

    def __init__(self) -> None:
        self.after = 0  # number of the last entry read, in this life of the router
        self.latest = 0  # as the last page said
        self.running = 0  # requests not ended then
        self.missed = 0  # entries that had left the log before they were asked for
        self.restarts = 0  # what the router had not told by then is lost, and nobody knows how much
        self._log_id = ""

    @property
    def is_behind(self) -> bool:
        """There is more: ask for what comes after `after` at once."""
        return self.after < self.latest

    def skip(self, page: pb.RequestLogResponse) -> None:
        """Begins with what ends after this page was made."""
        self._log_id = page.log_id
        self.after = self.latest = page.latest

    def take(self, page: pb.RequestLogResponse) -> Sequence[pb.EndedRequest]:
        """The new entries of a page that was asked for with `after`."""
        self.latest, self.running = page.latest, page.running
        if self._log_id not in ("", page.log_id):
            # Asked for with the number of another life: what it holds begins somewhere.
            self.restarts += 1
            self._log_id, self.after = page.log_id, 0
            return []
        self._log_id = page.log_id
        oldest = page.oldest or page.latest + 1
        if oldest > self.after + 1:
            self.missed += oldest - self.after - 1
            self.after = oldest - 1
        if page.requests:
            self.after = page.requests[-1].number
        return page.requests


def captured(entries: Iterable[pb.EndedRequest]) -> Iterator[CapturedRequest]:
    """As `replay` takes them."""
    for entry in entries:
        yield CapturedRequest(
            arrival_ns=entry.arrival_ns,
            prompt_tokens=entry.prompt_tokens,
            output_tokens=entry.output_tokens,
            block_size=entry.block_size,
            keys=np.frombuffer(entry.keys, "<u8").astype(np.uint64),
        )
