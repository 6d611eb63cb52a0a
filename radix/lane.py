"""I am what one holder holds: copies of each (key, tier), their number and their digest.

A lane is one life of a holder's cache: when the holder clears or leaves, the lane retires and the
next life gets a new one. Only `index` uses me. I know nothing of other lanes and of prefixes.
"""

from dataclasses import dataclass, field

from radixroute.radix.digest import DIGEST_MASK, mix
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Tier


def _no_copies() -> tuple[dict[int, int], ...]:
    return tuple({} for _ in Tier)


@dataclass(slots=True, eq=False)
class Lane:
    """`bit` is this lane's place in the index's masks."""

    bit: int
    copies: tuple[dict[int, int], ...] = field(default_factory=_no_copies)  # by tier, by key
    n_pairs: int = 0  # distinct (key, tier)
    digest: int = 0

    def add(self, key: int, tier: Tier) -> None:
        held = self.copies[tier]
        count = held.get(key, 0)
        held[key] = count + 1
        if count == 0:
            self.n_pairs += 1
            self.digest = (self.digest + mix(key, tier)) & DIGEST_MASK

    def take(self, key: int, tier: Tier) -> bool:
        """One copy less; False if there was none."""
        held = self.copies[tier]
        count = held.get(key, 0)
        if count == 0:
            return False
        if count > 1:
            held[key] = count - 1
            return True
        del held[key]
        self.n_pairs -= 1
        self.digest = (self.digest - mix(key, tier)) & DIGEST_MASK
        return True

    def holds(self, key: int) -> bool:
        return any(key in held for held in self.copies)

    def pop(self) -> int | None:
        """Some key, now gone from every tier; None when empty. Only for a retired lane."""
        for held in self.copies:
            if held:
                key = next(reversed(held))
                for other in self.copies:
                    other.pop(key, None)
                return key
        return None

    def counts(self, key: int) -> tuple[int, ...]:
        """Copies by tier."""
        return tuple(held.get(key, 0) for held in self.copies)

    @property
    def is_only_on_device(self) -> bool:
        return not any(self.copies[tier] for tier in Tier if tier != Tier.DEVICE)

    def check(self) -> None:
        pairs = [(key, tier) for tier in Tier for key in self.copies[tier]]
        if len(pairs) != self.n_pairs:
            raise BrokenInvariant("lane: pairs are miscounted")
        if sum(mix(key, tier) for key, tier in pairs) & DIGEST_MASK != self.digest:
            raise BrokenInvariant("lane: the digest is wrong")
        if any(count < 1 for held in self.copies for count in held.values()):
            raise BrokenInvariant("lane: a block without copies")
