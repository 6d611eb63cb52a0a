"""Few names: a bounded set of label values out of names that somebody else chooses.

A client that draws a new tenant name for each request must not make a new series each time: the
first names are kept for the life of the process, and all that come later count as one. Owns which.
"""

from collections.abc import Mapping

OTHER = "other"


class FewNames:
    """The first `most` names."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def name_of(self, name: str) -> str:
        """As it is shown."""
        return next(iter(self.fold({name: 0})))

    def fold(self, values: Mapping[str, int]) -> dict[str, int]:
        """Values by name, at most `most` and one for the rest; new names in the order given."""
        folded: dict[str, int] = {}
        for name, value in values.items():
            if name not in self._known and len(self._known) < self._most:
                self._known.add(name)
            shown = name if name in self._known else OTHER
            folded[shown] = folded.get(shown, 0) + value
        return folded
