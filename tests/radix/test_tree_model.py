"""`RadixTree` against the naive model, over histories of requests that hypothesis makes up."""

from collections.abc import Hashable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from radixroute.radix.tree.eviction import EvictionPolicy, HeadStart, LeafFacts
from radixroute.radix.tree.node import downwards
from radixroute.radix.tree.radix_tree import NodeRef, RadixTree
from tests.radix.machines import played
from tests.radix.reference_tree import ReferenceTree

TEXT = st.text("ab", min_size=0, max_size=9)  # two letters: prompts meet and part all the time
PICK = st.integers(0, 10**6)


class TreeMachine(RuleBasedStateMachine):
    """Requests match, lock, extend, fail, touch and end; memory pressure evicts."""

    policy: EvictionPolicy | None = None

    def __init__(self) -> None:
        super().__init__()
        self.tree: RadixTree[Hashable] = RadixTree(self.policy)
        self.model = ReferenceTree()
        self.refs: dict[int, NodeRef[Hashable]] = {}
        self.n_refs = 0
        self.n_blocks = 0
        self.now_ns = 0

    def pick(self, number: int) -> int:
        return sorted(self.refs)[number % len(self.refs)]

    def do_lock(self, text):
        match = self.tree.match(text)
        before = self.tree.n_evictable
        ref = self.tree.lock(match)
        assert before - self.tree.n_evictable == match.n_unlocked
        self.model.lock(self.n_refs, text)
        self.refs[self.n_refs] = ref
        self.n_refs += 1
        return self.n_refs - 1

    def do_unlock(self, name):
        self.tree.unlock(self.refs.pop(name))
        self.model.unlock(name)

    def do_extend(self, name, text):
        blocks = list(range(self.n_blocks, self.n_blocks + len(text)))
        self.n_blocks += len(text)
        done = self.tree.extend(self.refs[name], text, blocks)
        existing = self.model.extend(name, text, blocks)
        assert list(done.existing) == existing
        assert list(done.stored) == blocks[len(existing) :]

    def do_touch(self, name, pause):
        self.now_ns += pause
        self.tree.touch(self.refs[name], self.now_ns)
        self.model.touch(name, self.now_ns)

    @rule(text=TEXT)
    def lock(self, text):
        self.do_lock(text)

    @rule(text=TEXT, use=st.booleans())
    def serve(self, text, use):
        """A whole request at once."""
        name = self.do_lock(text)
        self.do_extend(name, text[self.refs[name].length :])
        if use:
            self.do_touch(name, 1)
        self.do_unlock(name)

    @precondition(lambda self: self.refs)
    @rule(number=PICK)
    def unlock(self, number):
        self.do_unlock(self.pick(number))

    @precondition(lambda self: self.refs)
    @rule(number=PICK, text=TEXT)
    def extend(self, number, text):
        self.do_extend(self.pick(number), text)

    @precondition(lambda self: self.refs)
    @rule(number=PICK, n=st.integers(0, 9))
    def retract(self, number, n):
        name = self.pick(number)
        n = min(n, self.refs[name].length)
        freed = self.tree.retract(self.refs[name], n)
        assert len(set(freed)) == len(freed)
        assert set(freed) == self.model.retract(name, n)

    @precondition(lambda self: self.refs)
    @rule(number=PICK, pause=st.integers(0, 1))
    def touch(self, number, pause):
        self.do_touch(self.pick(number), pause)

    @rule(n=st.integers(0, 6))
    def evict(self, n):
        before = self.tree.n_evictable
        freed = self.tree.evict(n)
        assert len(freed) == min(n, before)
        for block in freed:
            leaves = self.model.evictable_leaves()
            assert leaves[block] == min(leaves.values())
            self.model.evict(block)

    @rule()
    def clear(self):
        freed = self.tree.clear()
        assert self.tree.n_evictable == 0
        while leaves := self.model.evictable_leaves():
            for block in leaves:
                freed.remove(block)
                self.model.evict(block)
        assert freed == []

    @invariant()
    def it_is_sound_and_equal_to_the_model(self):
        self.tree.check()
        model = self.model.block_by_prefix
        assert self.tree.n_blocks == len(model)
        assert self.tree.n_evictable == len(set(model) - self.model.locked())
        assert self.tree.n_locked_paths == len(self.refs)
        for name, ref in self.refs.items():
            path = self.model.path_by_ref[name]
            assert ref.length == len(path)
            assert self.tree.blocks_of(ref) == self.model.match(path)

    @invariant()
    def every_match_is_the_models_and_changes_nothing(self):
        version, leaves = self.tree._version, list(self.tree._queue)
        for prefix, block in self.model.block_by_prefix.items():
            match = self.tree.match(prefix)
            assert match.blocks[-1] == block
            assert list(match.blocks) == self.model.match(prefix)
            for symbol in "ab":
                longer = [*prefix, symbol]
                assert list(self.tree.match(longer).blocks) == self.model.match(longer)
        self.tree.check()
        assert (self.tree._version, list(self.tree._queue)) == (version, leaves)


class AgedTreeMachine(TreeMachine):
    """The same under a policy that counts uses: what goes first is said by the nodes themselves."""

    policy = HeadStart(step=3, top=2, intervals=2)

    @rule(n=st.integers(0, 6))
    def evict(self, n):
        for _ in range(min(n, self.tree.n_evictable)):
            first = self.first_leaf()
            (block,) = self.tree.evict(1)
            assert block == first[-1]
            self.model.evict(block)

    def first_leaf(self):
        """(rank, touched, born, last block) of the leaf with the smallest."""
        return min(
            (
                self.policy.rank(LeafFacts(*(getattr(node, name) for name in LeafFacts._fields))),
                node.touched_ns,
                node.born,
                node.blocks[-1],
            )
            for node in downwards(self.tree._root)[1:]
            if not node.children and not node.locks
        )


TestAgedTree = played(AgedTreeMachine, 40)
TestTree = played(TreeMachine, 80)
TestTreeAtLength = pytest.mark.deep(played(TreeMachine, 250))
