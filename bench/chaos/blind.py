"""Blind decisions: requests that a router sent somewhere without knowing what was cached there.

A router that was killed begins with an empty index and fills it from its workers' event streams.
Of the first requests it serves afterwards, one is blind when its worker found tokens of the prompt
in its cache and the router had thought of none. Counted from the router's request log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radixroute.client import RouterClient
from radixroute.protos import radixroute_pb2 as pb

DECISIONS = 2135  # after each death, as another router's were counted
BAR_SHARE = 0.006


@dataclass(frozen=True, slots=True)
class Sighted:
    """Decisions of one router, or of several."""

    decisions: int = 0
    blind: int = 0

    def __add__(self, other: "Sighted") -> "Sighted":
        return Sighted(self.decisions + other.decisions, self.blind + other.blind)

    @property
    def blind_share(self) -> float:
        return self.blind / self.decisions if self.decisions else 0.0


def first_decisions(entries: Sequence[pb.EndedRequest]) -> Sighted:
    """Of a router that has just begun."""
    sent = [one for one in entries if one.HasField("first_token_ns")]
    first = sorted(sent, key=lambda one: one.dispatched_ns)[:DECISIONS]
    blind = sum(one.cached_tokens > 0 and not one.predicted_tokens for one in first)
    return Sighted(len(first), blind)


def log_of(client: RouterClient) -> Iterator[pb.EndedRequest]:
    """All that has ended there and is still kept."""
    after = 0
    while page := client.request_log(after).requests:
        yield from page
        after = page[-1].number
