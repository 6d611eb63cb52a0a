"""Lines of recordings: entries, contents and changes as lines, cells and JSON values. Pure."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from radixroute.events.recording.followed import Agreement, Standing
from radixroute.events.recording.listing import Entry, Names, ToldEvent, name_of, stream_name
from radixroute.events.recording.recorded import HolderChange, HolderContent, Rebuilt
from radixroute.events.recording.recording import Header
from radixroute.radix.ids import Keys, Tier
from radixroute.replay.report.text import printable

# Of a chain; enough to recognise it by.
FIRST_KEYS = 3
SHORT = 8  # hexadecimal digits
TROUBLES = frozenset({"gap", "lost", "malformed", "epoch", "left"})
PLACE_COLUMNS = ("stream", "state", "last seq", "blocks", *(t.name.lower() for t in Tier))


def header_line(header: Header) -> str:
    """What a recording is of."""
    begun = datetime.fromtimestamp(header.started_unix_ns / 1e9, UTC)
    scope = header.scope
    model = f"; model {scope.model}, blocks of {scope.block_size}" if scope.block_size else ""
    return printable(f"begun {begun:%Y-%m-%d %H:%M:%S} UTC by {header.by}{model}")


def entry_lines(entry: Entry) -> list[str]:
    """One line; one more for each event after the first."""
    number = f"r{entry.record}"
    head = f"{number:>8} {entry.at_ns / 1e9:>10.3f}s  {entry.source:<12} {entry.kind:<10}"
    seq = "" if entry.seq is None else f"seq {entry.seq}"
    event_texts = [_event_text(event) for event in entry.events]
    parts = (
        [f"{entry.count} since {entry.since_ns / 1e9:.3f}s"] if entry.since_ns is not None else []
    )
    parts += [entry.note] if entry.note else []
    if len(event_texts) == 1 and not parts:
        parts, event_texts = event_texts, []
    first = f"{head} {seq:<10} {', '.join(parts)}".rstrip()
    return [printable(line) for line in (first, *(" " * 35 + text for text in event_texts))]


def entry_json(entry: Entry) -> dict[str, Any]:
    """Every key; never a token."""
    value: dict[str, Any] = {
        "record": entry.record,
        "at_s": entry.at_ns / 1e9,
        "source": entry.source,
        "kind": entry.kind,
    }
    if entry.seq is not None:
        value["seq"] = entry.seq
    if entry.note:
        value["note"] = entry.note
    if entry.since_ns is not None:
        value |= {"count": entry.count, "since_s": entry.since_ns / 1e9}
    if entry.events:
        value["events"] = [_event_json(event) for event in entry.events]
    return value


def content_cells(content: HolderContent) -> tuple[str, ...]:
    """As `PLACE_COLUMNS`, then gaps and digest."""
    standing = content.standing
    return (
        stream_name(standing.holder),
        standing.state.value,
        "-" if standing.applied_seq is None else str(standing.applied_seq),
        str(content.n_blocks),
        *(str(len(content.keys_by_tier.get(tier, ()))) for tier in Tier),
        str(standing.gaps),
        agreement(standing),
    )


def agreement(standing: Standing) -> str:
    """What the heartbeats proved; of an engine without any, what is missing."""
    if standing.known_from is not None:
        last = standing.known_from - 1
        return "none missing" if last < 0 else f"seq {f'0 to {last}' if last else 0} missing"
    if standing.agreement is Agreement.UNKNOWN:
        return str(standing.agreement.value)
    seq = "the start" if standing.agreed_seq is None else f"seq {standing.agreed_seq}"
    return f"{standing.agreement.value} at {seq}"


def rebuilt_json(rebuilt: Rebuilt) -> dict[str, Any]:
    return {
        "record": rebuilt.record,
        "at_s": rebuilt.at_ns / 1e9,
        "streams": [_content_json(one) for one in rebuilt.contents],
    }


def change_json(change: HolderChange, *, with_keys: bool) -> dict[str, Any]:
    sides = {"added": change.added, "removed": change.removed}
    value: dict[str, Any] = {"stream": stream_name(change.holder)}
    value |= {
        name: {t.name.lower(): len(keys) for t, keys in s.items()} for name, s in sides.items()
    }
    if with_keys:
        value["keys"] = {
            name: {tier.name.lower(): names_of(keys) for tier, keys in side.items()}
            for name, side in sides.items()
        }
    return value


def change_lines(change: HolderChange) -> list[str]:
    """Every key that came or went."""
    return [
        f"{sign} {printable(stream_name(change.holder))} {tier.name.lower()} {name}"
        for sign, side in (("+", change.added), ("-", change.removed))
        for tier, keys in side.items()
        for name in names_of(keys)
    ]


def names_of(keys: Names) -> list[str]:
    return [name_of(key) for key in (keys.tolist() if isinstance(keys, np.ndarray) else keys)]


def counts_text(by_tier: dict[Tier, Keys]) -> str:
    return ", ".join(f"{len(keys)} {tier.name.lower()}" for tier, keys in by_tier.items()) or "0"


def _event_text(event: ToldEvent) -> str:
    if event.kind == "cleared":
        return "cleared"
    n = len(event.keys)
    parts = [f"{event.kind} {n} block{'' if n == 1 else 's'}"]
    if event.tier:
        parts.append(event.tier)
    if event.n_tokens is not None:
        parts.append(f"{event.n_tokens} tokens")
    if event.kind == "stored":
        parts.append("begins a prompt" if event.parent is None else f"after {_short(event.parent)}")
    shown = " ".join(_short(int(key)) for key in event.keys[:FIRST_KEYS])
    parts.append(f"{shown}{' ..' if n > FIRST_KEYS else ''}")
    return ", ".join(parts)


def _event_json(event: ToldEvent) -> dict[str, Any]:
    value: dict[str, Any] = {"kind": event.kind}
    if event.kind == "cleared":
        return value
    value |= {"blocks": len(event.keys), "tier": event.tier, "keys": names_of(event.keys)}
    if event.kind == "stored":
        value["parent"] = None if event.parent is None else name_of(event.parent)
    if event.n_tokens is not None:
        value["tokens"] = event.n_tokens
    return value


def _content_json(content: HolderContent) -> dict[str, Any]:
    standing = content.standing
    return {
        "stream": stream_name(standing.holder),
        "state": standing.state.value,
        "epoch": standing.epoch.hex(),
        "applied_seq": standing.applied_seq,
        "blocks": content.n_blocks,
        "by_tier": {t.name.lower(): len(content.keys_by_tier.get(t, ())) for t in Tier},
        "gaps": standing.gaps,
        "known_from": standing.known_from,
        "rejected": standing.rejected,
        "dropped": dict(standing.dropped),
        "digest": standing.agreement.value,
        "digest_seq": standing.agreed_seq,
    }


def _short(key: int) -> str:
    return name_of(key)[:SHORT]
