"""A pool of 100 blocks, one symbol a letter, and requests that run through it."""

from radixroute.radix.tree.eviction import eviction_named, over_age
from radixroute.radix.tree.radix_tree import RadixTree

BLOCKS, SIZE = 100, 16


class Pool:
    """A tree of one policy, and requests that run through it whole."""

    def __init__(self, name: str) -> None:
        self.tree: RadixTree[str] = RadixTree(eviction_named(name, BLOCKS, SIZE), over_age(BLOCKS))
        self.now_ns = 0
        self.n_blocks = 0

    def serve(self, text, last_of=None, *, is_touched=True):
        """`last_of`: it is the last of a session of so many requests."""
        self.now_ns += 1
        ref = self.tree.lock(self.tree.match(text))
        rest = text[ref.length :]
        self.tree.extend(ref, rest, range(self.n_blocks, self.n_blocks + len(rest)))
        self.n_blocks += len(rest)
        if is_touched:
            self.tree.touch(ref, self.now_ns)
        self.tree.unlock(ref, last_of)
        self.tree.check()

    def store(self, letter, n):
        """A request that nobody repeats: the clock goes on by `n` blocks."""
        self.serve(letter * n)

    def gone(self, n, *texts):
        """Those of these prefixes that are not whole after `n` blocks were evicted."""
        assert len(self.tree.evict(n)) == n
        self.tree.check()
        return [text for text in texts if self.tree.match(text).length < len(text)]

    def first_gone(self, *texts):
        """Of prefixes in the tree, the one that is evicted first."""
        while True:
            assert self.tree.evict(1)
            for text in texts:
                if self.tree.match(text).length < len(text):
                    return text
