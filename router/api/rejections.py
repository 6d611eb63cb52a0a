"""Rejections: how many requests clients were told to change, by what is wrong with them; too long
ones have a counter of their own.

Owns the numbers. Clients choose what they send, so names are few, and are names of fields: nothing
that a request holds.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from radixroute.metrics.few_names import OTHER, FewNames
from radixroute.request.errors import InvalidRequest
from radixroute.router.errors import (
    PolicyNotOffered,
    RequestRejected,
    Unauthenticated,
    UnknownModel,
    UnknownPolicy,
)

MOST_FIELDS: Final = 32
_FIELD: Final = re.compile(r"[a-z][a-z0-9_.]{0,39}")
_NAMES: Final = (
    (Unauthenticated, "authorization"),
    (UnknownModel, "model"),
    ((UnknownPolicy, PolicyNotOffered), "policy"),
)
WORKER: Final = "worker"  # no door: the engine that it was sent to


class Rejections:
    """Of all doors of one router."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names = FewNames(MOST_FIELDS)

    def add(self, error: InvalidRequest | RequestRejected) -> None:
        self._counts.update(self._names.fold({_field_of(error): 1}))

    @property
    def by_field(self) -> Mapping[str, int]:
        return self._counts


def _field_of(error: InvalidRequest | RequestRejected) -> str:
    if isinstance(error, InvalidRequest):
        found = _FIELD.match(error.field)
        return OTHER if found is None else found[0].rstrip(".")
    return next((name for kind, name in _NAMES if isinstance(error, kind)), WORKER)
