"""Recordings of event streams: the index as a router had it at any point of one, and what changed.

Owns points and how they are written, and the records of what was found. The way through a
recording is `StreamFollower`'s, so the index is built by the router's own sources. One pass over
the file, whatever the points; times are the recording's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from radixroute.events.errors import BadPoint, PointBeyondEnd
from radixroute.events.recording.followed import Standing
from radixroute.events.recording.follower import StreamFollower
from radixroute.events.recording.reader import RecordingReader
from radixroute.radix.ids import Holder, Keys, Tier
from radixroute.radix.index.prefix_index import PrefixIndex

_NO_KEYS: Keys = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class AtTime:
    """After everything that was received up to then."""

    ns: int  # since the recording began


@dataclass(frozen=True, slots=True)
class AtRecord:
    """After this record; 0: before the first."""

    number: int


@dataclass(frozen=True, slots=True)
class AtEnd:
    """After the last record that can be read."""


Point: TypeAlias = AtTime | AtRecord | AtEnd


@dataclass(frozen=True, slots=True)
class HolderContent:
    """What one holder held: distinct blocks by tier, sorted."""

    standing: Standing
    keys_by_tier: dict[Tier, Keys]

    @property
    def n_blocks(self) -> int:
        """Distinct (block, tier) pairs."""
        return sum(len(keys) for keys in self.keys_by_tier.values())


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The index at one point."""

    at_ns: int
    record: int  # the last one applied
    contents: tuple[HolderContent, ...]

    def content_of(self, holder: Holder) -> HolderContent | None:
        return next((one for one in self.contents if one.standing.holder == holder), None)


@dataclass(frozen=True, slots=True)
class HolderChange:
    """How one holder's content differs between two points: (block, tier) pairs."""

    holder: Holder
    added: dict[Tier, Keys]
    removed: dict[Tier, Keys]

    @property
    def n_added(self) -> int:
        return sum(len(keys) for keys in self.added.values())

    @property
    def n_removed(self) -> int:
        return sum(len(keys) for keys in self.removed.values())


def parse_point(text: str) -> Point:
    """`12.5` or `12.5s`: seconds; `r120`: a record's number; `end`. Raises `BadPoint`."""
    if text == "end":
        return AtEnd()
    try:
        if text.startswith("r") and text[1:].isdecimal():
            return AtRecord(int(text[1:]))
        return AtTime(_nanoseconds(text.removesuffix("s")))
    except ValueError as error:
        raise BadPoint(
            f"{text!r} is no point: give seconds (12.5), a record's number (r120) or end"
        ) from error


def rebuild(
    reader: RecordingReader, points: Sequence[Point], index: PrefixIndex | None = None
) -> list[Rebuilt]:
    """The index at each point, in their order; stops reading at the last of them.

    Raises `PointBeyondEnd`, and the reader's error if the file is damaged before a point.
    """
    follower = StreamFollower(reader.header, index=index)
    found: dict[Point, Rebuilt] = {}

    def reach(reached: Iterable[Point], number: int, at_ns: int) -> None:
        for point in reached:
            if point not in found:
                found[point] = _look(follower, number, at_ns)

    times = sorted((one for one in points if isinstance(one, AtTime)), key=lambda one: one.ns)
    reach([one for one in points if one == AtRecord(0)], 0, 0)
    for place in reader:
        for point in [one for one in times if one.ns < place.record.at_ns and one not in found]:
            follower.advance(point.ns)
            reach([point], place.number - 1, point.ns)
        follower.follow(place.record)
        number = AtRecord(place.number)
        reach([one for one in points if one == number], place.number, place.record.at_ns)
        if len(found) == len(set(points)):
            break
    else:
        ended = [one for one in times if one.ns <= reader.end_ns]
        ends = [one for one in points if isinstance(one, AtEnd)]
        reach([*ended, *ends], reader.n_records, reader.end_ns)
    return [_found(point, found, reader) for point in points]


def changes(before: Rebuilt, after: Rebuilt) -> list[HolderChange]:
    """For every holder of either point."""
    holders = dict.fromkeys(
        one.standing.holder for content in (before, after) for one in content.contents
    )
    return [_change(holder, before, after) for holder in holders]


def _nanoseconds(text: str) -> int:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise ValueError(text)
    return round(seconds * 1e9)


def _look(follower: StreamFollower, number: int, at_ns: int) -> Rebuilt:
    return Rebuilt(
        at_ns,
        number,
        tuple(
            HolderContent(standing, _keys_by_tier(follower.index, standing.holder))
            for standing in follower.standings()
        ),
    )


def _keys_by_tier(index: PrefixIndex, holder: Holder) -> dict[Tier, Keys]:
    runs = index.dump(holder)
    by_tier = {tier: [run.keys for run in runs if run.tier is tier] for tier in Tier}
    return {tier: np.unique(np.concatenate(keys)) for tier, keys in by_tier.items() if keys}


def _found(point: Point, found: dict[Point, Rebuilt], reader: RecordingReader) -> Rebuilt:
    if point not in found:
        raise PointBeyondEnd(
            f"the recording ends at {reader.end_ns / 1e9:.3f} s with record "
            f"r{reader.n_records}: give a point up to there, or end"
        )
    return found[point]


def _change(holder: Holder, before: Rebuilt, after: Rebuilt) -> HolderChange:
    old, new = before.content_of(holder), after.content_of(holder)
    olds = {} if old is None else old.keys_by_tier
    news = {} if new is None else new.keys_by_tier
    return HolderChange(holder, added=_without(news, olds), removed=_without(olds, news))


def _without(keys_by_tier: dict[Tier, Keys], others: dict[Tier, Keys]) -> dict[Tier, Keys]:
    differences = {
        tier: np.setdiff1d(keys, others.get(tier, _NO_KEYS), assume_unique=True)
        for tier, keys in keys_by_tier.items()
    }
    return {tier: keys for tier, keys in differences.items() if len(keys)}
