"""What a `RadixTree` means, naively: whole prefixes, each with a block and a time."""

from collections.abc import Hashable, Sequence

Prefix = tuple[Hashable, ...]


class ReferenceTree:
    """What `RadixTree` means: whole prefixes, each with a block, a time and the refs on it."""

    def __init__(self) -> None:
        self.block_by_prefix: dict[Prefix, int] = {}
        self.touched_ns: dict[Prefix, int] = {}
        self.path_by_ref: dict[int, Prefix] = {}

    def match(self, symbols: Sequence[Hashable]) -> list[int]:
        blocks: list[int] = []
        for prefix in _prefixes(tuple(symbols)):
            if prefix not in self.block_by_prefix:
                break
            blocks.append(self.block_by_prefix[prefix])
        return blocks

    def lock(self, ref: int, symbols: Sequence[Hashable]) -> None:
        self.path_by_ref[ref] = tuple(symbols)[: len(self.match(symbols))]

    def unlock(self, ref: int) -> None:
        del self.path_by_ref[ref]

    def extend(self, ref: int, symbols: Sequence[Hashable], blocks: Sequence[int]) -> list[int]:
        """Blocks that were there already."""
        path = self.path_by_ref[ref]
        existing: list[int] = []
        for symbol, block in zip(symbols, blocks, strict=True):
            above, path = path, (*path, symbol)
            if path in self.block_by_prefix:
                existing.append(self.block_by_prefix[path])
            else:
                self.block_by_prefix[path] = block
                self.touched_ns[path] = self.touched_ns.get(above, 0)
        self.path_by_ref[ref] = path
        return existing

    def retract(self, ref: int, n: int) -> set[int]:
        path = self.path_by_ref[ref]
        kept_len = len(path) - n
        self.path_by_ref[ref] = path[:kept_len]
        wrong = [p for p in _prefixes(path)[kept_len:] if p not in self.locked()]
        gone = [p for p in self.block_by_prefix if any(p[: len(w)] == w for w in wrong)]
        return {self._remove(prefix) for prefix in gone}

    def touch(self, ref: int, now_ns: int) -> None:
        for prefix in _prefixes(self.path_by_ref[ref]):
            self.touched_ns[prefix] = max(self.touched_ns[prefix], now_ns)

    def evictable_leaves(self) -> dict[int, int]:
        """Block -> last touch, of the prefixes that nobody locks and nothing continues."""
        continued = {prefix[:-1] for prefix in self.block_by_prefix}
        return {
            block: self.touched_ns[prefix]
            for prefix, block in self.block_by_prefix.items()
            if prefix not in self.locked() and prefix not in continued
        }

    def evict(self, block: int) -> None:
        self._remove(next(p for p, b in self.block_by_prefix.items() if b == block))

    def locked(self) -> set[Prefix]:
        return {prefix for path in self.path_by_ref.values() for prefix in _prefixes(path)}

    def _remove(self, prefix: Prefix) -> int:
        del self.touched_ns[prefix]
        return self.block_by_prefix.pop(prefix)


def _prefixes(path: Prefix) -> list[Prefix]:
    return [path[: i + 1] for i in range(len(path))]
