"""`PrefixIndex` against the reference, over event histories that hypothesis makes up."""

import random

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index import layout
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.index.reference import ReferenceIndex
from tests.radix.machines import played
from tests.radix.test_index_contract import assert_parents_first, pairs_of

HOLDERS = [Holder(WorkerId("a")), Holder(WorkerId("a"), 1), Holder(WorkerId("b"))]
# A fixed forest of prompts: node -> parent; a key names a place in it, as real keys do.
_SHAPE = random.Random(11)
PARENTS = {0: None} | {node: _SHAPE.choice([None, *range(node)]) for node in range(1, 24)}
HOLDER = st.sampled_from(HOLDERS)
TIER = st.sampled_from([Tier.DEVICE, Tier.DEVICE, Tier.HOST, Tier.DISK])
NODE = st.sampled_from(sorted(PARENTS))


def key_of(node: int) -> int:
    return (node + 1) * 0x9E3779B97F4A7C15 % 2**64


def keys_of(nodes: list[int]) -> np.ndarray:
    return np.array([key_of(node) for node in nodes], np.uint64)


def path_to(node: int | None) -> list[int]:
    path = []
    while node is not None:
        path.append(node)
        node = PARENTS[node]
    return path[::-1]


PROMPTS = [keys_of(path_to(node)) for node in PARENTS]


class IndexMachine(RuleBasedStateMachine):
    """Each rule is an event; every answer is compared after each."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.reference = ReferenceIndex()
        for holder in HOLDERS[:2]:
            self.both(lambda index, holder=holder: index.join(holder))

    def both(self, act):
        return [act(self.index), act(self.reference)]

    def joined(self, holder: Holder) -> bool:
        return holder in self.reference.holders

    @rule(holder=HOLDER)
    def join(self, holder):
        if not self.joined(holder):
            self.both(lambda index: index.join(holder))

    @precondition(lambda self: self.reference.holders)
    @rule(holder=HOLDER, leave=st.booleans())
    def leave_or_clear(self, holder, leave):
        if self.joined(holder):
            self.both(lambda index: index.leave(holder) if leave else index.clear(holder))

    @rule(holder=HOLDER, node=NODE, skip=st.integers(0, 6), tier=TIER)
    def store(self, holder, node, skip, tier):
        path = path_to(node)
        skip = min(skip, len(path) - 1)  # a chain that begins below blocks perhaps never seen
        if self.joined(holder):
            parent = BlockKey(key_of(path[skip - 1])) if skip else None
            self.both(lambda index: index.store(holder, parent, keys_of(path[skip:]), tier))

    @rule(holder=HOLDER, nodes=st.lists(NODE, min_size=1, max_size=6), tier=TIER)
    def remove(self, holder, nodes, tier):
        if self.joined(holder):
            unknown, expected = self.both(lambda i: i.remove(holder, keys_of(nodes), tier))
            assert unknown == expected

    @rule(holder=HOLDER, node=NODE, there=TIER)
    def move(self, holder, node, there):
        parent = PARENTS[node]
        above = None if parent is None else BlockKey(key_of(parent))
        if self.joined(holder) and self.reference.holds(holder, BlockKey(key_of(node))):
            self.both(lambda index: index.store(holder, above, keys_of([node]), there))
            for tier in set(Tier) - {there}:
                self.both(lambda index, tier=tier: index.remove(holder, keys_of([node]), tier))

    @rule(giver=HOLDER, taker=HOLDER)
    def restore(self, giver, taker):
        if self.joined(giver) and self.joined(taker):
            self.both(lambda index: index.restore(taker, index.dump(giver)))

    @rule(budget=st.integers(0, 9))
    def sweep(self, budget):
        before = self.index.n_unswept
        done = self.index.sweep(budget)
        assert self.index.n_unswept <= before
        assert done <= budget + 3 * len(HOLDERS)  # a row is looked at with all its entries

    @invariant()
    def every_answer_is_the_references(self):
        self.index.check()
        for prompt in PROMPTS:
            found, expected = self.both(lambda index, prompt=prompt: index.overlaps(prompt))
            assert found.holders == expected.holders
            assert found.blocks.tolist() == expected.blocks.tolist()
            assert found.tiers.tolist() == expected.tiers.tolist()
        for holder in self.reference.holders:
            assert self.index.n_blocks(holder) == self.reference.n_blocks(holder)
            assert self.index.account(holder) == self.reference.account(holder)
            runs = self.index.dump(holder)
            assert_parents_first(runs)
            assert pairs_of(runs) == pairs_of(self.reference.dump(holder))


TestIndex = played(IndexMachine, 40)
TestIndexAtLength = pytest.mark.deep(played(IndexMachine, 120))


def filled() -> PrefixIndex:
    index = PrefixIndex()
    for holder in HOLDERS:
        index.join(holder)
        for prompt in PROMPTS:
            index.store(holder, None, prompt, Tier.DEVICE)
    return index


def test_the_dead_are_swept_by_the_stores_of_the_living():
    index = filled()
    index.leave(HOLDERS[0])
    index.clear(HOLDERS[1])
    assert index.n_unswept == 2 * len(PARENTS)
    for prompt in PROMPTS:
        index.store(HOLDERS[2], None, prompt, Tier.DEVICE)
        index.check()
    assert index.n_unswept == 0


def test_lanes_are_used_again_after_their_sweep():
    index = filled()
    for _ in range(50):
        index.clear(HOLDERS[0])
        index.store(HOLDERS[0], None, PROMPTS[5], Tier.DEVICE)
        index.sweep(1000)
        index.check()
    assert index._head[layout.N_LANES] <= len(HOLDERS) + 2


def _lose_a_slot(index: PrefixIndex) -> None:
    page = index._directory[0]
    index._cells[page + index._cells[page:].nonzero()[0][0]] = 0


def _change_a_key(index: PrefixIndex) -> None:
    index._cells[layout.ROW_WORDS] = index._cells[2 * layout.ROW_WORDS]


def _lose_a_parent(index: PrefixIndex) -> None:
    rows = index._cells[: layout.ROW_WORDS * int(index._head[layout.N_ROWS] + 1)]
    parents = rows[1 :: layout.ROW_WORDS]
    child = (parents & layout.LOW_32).nonzero()[0][0]
    parents[child] &= ~layout.LOW_32


def _forget_a_hole(index: PrefixIndex) -> None:
    index.remove(HOLDERS[0], PROMPTS[0], Tier.DEVICE)
    index._lanes[index._lane_by_holder[HOLDERS[0]], layout.HOLES] -= 1


def _lose_a_buddy(index: PrefixIndex) -> None:
    order = index._head[layout.FREE_BUDDY : layout.HEAD_LEN].nonzero()[0][0]
    index._head[layout.FREE_BUDDY + order] = 0


def _share_a_lane(index: PrefixIndex) -> None:
    index._free.append(1)


def _forget_a_holder(index: PrefixIndex) -> None:
    index._holders = index._holders[1:]


def _swap_results(index: PrefixIndex) -> None:
    index._head[layout.OUT_ROWS + index._lane_by_holder[HOLDERS[0]]] = 1


def _miscount(index: PrefixIndex) -> None:
    index._lanes[index._lane_by_holder[HOLDERS[0]], layout.PAIRS] += 1


def _copy_an_entry(index: PrefixIndex) -> None:
    rows = index._cells[: layout.ROW_WORDS * int(index._head[layout.N_ROWS] + 1)]
    pooled = (rows[1 :: layout.ROW_WORDS] & layout.POOLED).nonzero()[0][0]
    first = int(rows[layout.ROW_WORDS * pooled + 2] & layout.POSITION)
    index._cells[first] = index._cells[first + 1]


@pytest.mark.parametrize(
    "damage",
    [
        _lose_a_slot, _change_a_key, _lose_a_parent, _forget_a_hole, _lose_a_buddy, _share_a_lane,
        _forget_a_holder, _swap_results, _miscount, _copy_an_entry,
    ],
)  # fmt: skip
def test_check_notices_damage(damage):
    index = filled()
    index.check()
    damage(index)
    with pytest.raises(BrokenInvariant):
        index.check()
