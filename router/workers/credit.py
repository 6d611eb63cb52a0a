"""Credit: whether what a worker's events say counts, after how its reports compared with them.

The first difference takes it, reports in agreement give it back, more of them each time. Pure;
`Audit` owns one for each worker and says what follows.
"""

from dataclasses import dataclass
from typing import Final

# Reports in agreement that give credit back: so many first, twice as many after each relapse.
FIRST_AGREED: Final = 2
MOST_AGREED: Final = 64
FORGIVEN: Final = 256  # reports in agreement after which the next loss is a first one


@dataclass(slots=True)
class Credit:
    """One worker's. Its verbs alone change it."""

    is_given: bool = True
    reason: str = ""  # why not
    agreed: int = 0  # reports in a row since it was lost, or came back
    wanted: int = 0  # of them, to have it back; 0: it never lost it, or long ago
    asked_at: int = 0  # snapshots that had come when the last one was asked for
    differed: int = 0  # reports since then

    def renew(self) -> None:
        """Another life of the worker begins, with nothing held against it."""
        self.is_given, self.reason = True, ""
        self.agreed = self.wanted = 0

    def restart(self) -> None:
        """Its snapshots are counted anew."""
        self.asked_at = 0

    def differs(self, reason: str, n_snapshots: int) -> bool:
        """A report that is not what its events say. True: a snapshot is worth asking for."""
        self.agreed = 0
        self.differed += 1
        # One is on its way; or it told the same lie, and the next one is not worth much.
        is_hopeless = n_snapshots == self.asked_at or self.differed < self.wanted
        if not self.is_given and is_hopeless:
            return False
        self.wanted = min(MOST_AGREED, 2 * self.wanted) or FIRST_AGREED
        self.asked_at, self.differed = n_snapshots, 0
        self.is_given, self.reason = False, reason
        return True

    def agrees(self) -> bool:
        """A report that is. True: credit has come back with it."""
        if not self.wanted:
            return False
        self.agreed += 1
        if self.is_given:
            if self.agreed >= FORGIVEN:
                self.wanted = 0
            return False
        if self.agreed < self.wanted:
            return False
        self.agreed = 0
        self.is_given, self.reason = True, ""
        return True
