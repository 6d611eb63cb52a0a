"""Follows records of streams into a prefix index, as a router would: the same sources, one index.

Owns the streams of every source that is listened to and is the only writer of the index. Driven by
the records' own times, never by a clock: silence and timeouts are noticed on a fixed grid of them.
So whoever records follows along and asks for what its streams want, and whoever reads the
recording later takes the very same steps and finds the answers in it.
"""

from collections.abc import Callable
from functools import partial

from radixroute.events.recording.followed import Followed, ForeignStreams, NativeStreams, Standing
from radixroute.events.recording.recording import (
    End,
    Header,
    Joined,
    Left,
    Message,
    Record,
    Source,
    Wire,
)
from radixroute.radix.index.prefix_index import PrefixIndex

# As often as the router looks at its streams.
TICK_NS = 100_000_000
# Ten seconds without any record: every native stream is stale by then, and ticks change nothing.
_MAX_TICKS = 100

AskSource = Callable[[int, list[bytes]], None]


def ask_nobody(source: int, frames: list[bytes]) -> None:
    """For whoever reads a recording: what was asked for then is in it."""


class StreamFollower:
    """All streams of one recording, up to the last record followed."""

    def __init__(
        self, header: Header, ask: AskSource = ask_nobody, index: PrefixIndex | None = None
    ) -> None:
        self._scope = header.scope
        self._ask = ask
        self.index = PrefixIndex() if index is None else index
        self._by_source: dict[int, Followed] = {}
        self._n_sources = 0
        self._now_ns = 0
        self.unheard = 0  # messages of a source that had left
        for source in header.sources:
            self._join(source)

    def follow(self, record: Record) -> None:
        """Takes the next record."""
        self.advance(record.at_ns)
        match record:
            case Message():
                followed = self._by_source.get(record.source)
                if followed is None:
                    self.unheard += 1
                else:
                    followed.receive(record)
            case Joined():
                self._join(record.source)
            case Left():
                self._leave(record.source)
            case End():
                pass

    def advance(self, now_ns: int) -> None:
        """Time goes by until `now_ns`; what silence does is done."""
        first = max(self._now_ns // TICK_NS + 1, now_ns // TICK_NS - _MAX_TICKS)
        for tick in range(first, now_ns // TICK_NS + 1):
            for followed in self._by_source.values():
                followed.tick(tick * TICK_NS)
        self._now_ns = max(self._now_ns, now_ns)

    def standings(self) -> list[Standing]:
        """Every holder's, in the order they joined."""
        return [one for followed in self._by_source.values() for one in followed.standings()]

    def standings_of(self, source: int) -> list[Standing]:
        """None for one that left or never joined."""
        followed = self._by_source.get(source)
        return [] if followed is None else followed.standings()

    def check(self) -> None:
        """Raises on a broken invariant. Slow."""
        self.index.check()

    def _join(self, source: Source) -> None:
        """A new life of holders that are there takes their place, and begins with nothing."""
        for number, old in list(self._by_source.items()):
            if set(old.source.holders) & set(source.holders):
                self._leave(number)
        number, self._n_sources = self._n_sources, self._n_sources + 1
        followed: Followed
        if source.wire is Wire.NATIVE:
            followed = NativeStreams(source, self.index, partial(self._ask, number))
        else:
            followed = ForeignStreams(source, self.index, self._scope, partial(self._ask, number))
        self._by_source[number] = followed
        followed.start(self._now_ns)

    def _leave(self, number: int) -> None:
        followed = self._by_source.pop(number, None)
        if followed is not None:
            followed.end()
