"""The text of a Prometheus page, read: samples of the names that are asked for. Pure.

Never raises: a page is another program's, and a line that cannot be read says nothing.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value and its labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def samples(page: bytes, names: Collection[str]) -> dict[str, list[Sample]]:
    """By name, in the order of the page; names that are not there have an empty list."""
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for line in page.decode("utf-8", "replace").splitlines():
        end = min((at for at in (line.find("{"), line.find(" ")) if at >= 0), default=-1)
        if end < 0 or line[:end] not in found:
            continue
        head, _, text = line.rpartition(" ")
        try:
            value = float(text)
        except ValueError:
            continue
        found[line[:end]].append(Sample(value, dict(_LABEL.findall(head[end:]))))
    return found


def by_label(found: Mapping[str, list[Sample]], label: str) -> list[dict[str, float]]:
    """Values by name, one record for each value of the label, in the order of numbers. Of several
    samples of one name the first counts."""
    records: dict[int, dict[str, float]] = {}
    for name, listed in found.items():
        for one in listed:
            value = one.labels.get(label, "0")
            number = int(value) if value.isascii() and value.isdecimal() else 0
            records.setdefault(number, {}).setdefault(name, one.value)
    return [records[number] for number in sorted(records)]


def total(of: list[Sample]) -> float | None:
    """Over all labels; None: no sample."""
    return sum(one.value for one in of) if of else None
