"""Parents that events name are hints: what they say wrongly changes no overlap, of nobody's."""

import random

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index import layout
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex
from radixroute.radix.index.reference import ReferenceIndex
from tests.radix.machines import played
from tests.radix.test_index_model import HOLDERS, NODE, PARENTS, PROMPTS, key_of, keys_of, path_to

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"))
HOLDER = st.sampled_from(HOLDERS)
TIER = st.sampled_from([Tier.DEVICE, Tier.DEVICE, Tier.HOST])
CHAIN = st.lists(NODE, min_size=1, max_size=5)
ROUNDS = 150
N_CASES = 200


def chain(n: int, start: int = 1) -> Keys:
    return np.arange(start, start + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def key_at(keys: Keys, place: int) -> BlockKey:
    return BlockKey(int(keys[place]))


def new_index() -> PrefixIndex:
    index = PrefixIndex(MIN_BYTES)
    index.join(A)
    index.join(B)
    return index


def overlaps(index: PrefixIndex, keys: Keys) -> list[int]:
    index.check()
    found: list[int] = index.overlaps(keys).blocks.tolist()
    index.check()
    return found


class LiarsMachine(RuleBasedStateMachine):
    """Workers that store chains as they are, and in any order below any parent."""

    def __init__(self) -> None:
        super().__init__()
        self.index, self.reference = PrefixIndex(MIN_BYTES), ReferenceIndex()
        for holder in HOLDERS:
            self.both(lambda index, holder=holder: index.join(holder))

    def both(self, act):
        return [act(self.index), act(self.reference)]

    @rule(holder=HOLDER, node=NODE, skip=st.integers(0, 6), tier=TIER)
    def store(self, holder, node, skip, tier):
        path = path_to(node)
        skip = min(skip, len(path) - 1)
        parent = BlockKey(key_of(path[skip - 1])) if skip else None
        self.both(lambda index: index.store(holder, parent, keys_of(path[skip:]), tier))

    @rule(holder=HOLDER, parent=st.none() | NODE, nodes=CHAIN)
    def lie(self, holder, parent, nodes):
        above = None if parent is None else BlockKey(key_of(parent))
        self.both(lambda index: index.store(holder, above, keys_of(nodes), Tier.DEVICE))

    @rule(holder=HOLDER, node=NODE, parent=st.none() | NODE)
    def lie_about_one(self, holder, node, parent):
        self.lie(holder, parent, [node])

    @rule(holder=HOLDER, node=NODE, tier=TIER, backwards=st.booleans())
    def remove_a_path(self, holder, node, tier, backwards):
        path = path_to(node)[:: -1 if backwards else 1]
        unknown, expected = self.both(lambda i: i.remove(holder, keys_of(path), tier))
        assert unknown == expected

    @rule(holder=HOLDER, nodes=CHAIN, tier=TIER)
    def remove(self, holder, nodes, tier):
        unknown, expected = self.both(lambda i: i.remove(holder, keys_of(nodes), tier))
        assert unknown == expected

    @rule(holder=HOLDER, budget=st.integers(0, 30))
    def clear(self, holder, budget):
        self.both(lambda index: index.clear(holder))
        self.index.sweep(budget)

    @rule(node=NODE)
    def look_up(self, node):
        prompt = PROMPTS[sorted(PARENTS).index(node)]
        found, expected = self.both(lambda index: index.overlaps(prompt))
        assert found.blocks.tolist() == expected.blocks.tolist()
        assert found.tiers.tolist() == expected.tiers.tolist()

    @rule()
    def look_up_all(self):
        for node in sorted(PARENTS, reverse=True):
            self.look_up(node)
            self.index.check()

    @invariant()
    def all_agrees(self):
        self.index.check()

    def teardown(self):
        self.look_up_all()


TestLiars = played(LiarsMachine, 20, n_steps=25)
TestLiarsAtLength = pytest.mark.deep(played(LiarsMachine, 40, n_steps=25))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(s, marks=pytest.mark.deep) for s in range(2, 6))]
)
def test_long_prompts_and_many_liars_are_brute_force(seed):
    """Chains so long that places are jumped over."""
    rng = random.Random(f"liars/{seed}")
    holders = [Holder(WorkerId(str(number))) for number in range(8)]
    index, reference = PrefixIndex(1 << 22), ReferenceIndex()
    for holder in holders:
        index.join(holder)
        reference.join(holder)
    trunk = chain(200)
    prompts = [
        np.append(trunk[: rng.randrange(1, 200)], chain(150, 10**6 * i)) for i in range(1, 6)
    ]
    for _ in range(ROUNDS):
        holder, prompt = rng.choice(holders), rng.choice(prompts)
        start = rng.choice((0, 0, rng.randrange(len(prompt))))
        keys = prompt[start : start + rng.randrange(1, 300)]
        parent = BlockKey(int(prompt[start - 1])) if start else None
        kind = rng.random()
        if kind < 0.25:
            parent = rng.choice((None, BlockKey(int(rng.choice(rng.choice(prompts))))))
        for one in (index, reference):
            if kind < 0.65:
                one.store(holder, parent, keys, Tier.DEVICE)
            elif kind < 0.95:
                one.remove(holder, keys, Tier.DEVICE)
            else:
                one.clear(holder)
        for asked in rng.sample(prompts, 2):
            found, right = index.overlaps(asked).blocks, reference.overlaps(asked).blocks
            assert found.tolist() == right.tolist()
    index.check()


def test_first_prompts_over_chains_with_pieces_left_out_are_brute_force():
    """New indexes each time: nothing is proven, and nobody was told the truth before."""
    rng = random.Random("pieces left out")
    for _ in range(N_CASES):
        index, reference = PrefixIndex(MIN_BYTES), ReferenceIndex()
        n, n_shared = rng.randrange(2, 120), rng.randrange(1, 60)
        prompts = [chain(n), np.append(chain(n)[:n_shared], chain(60, 10**6))]
        for holder in HOLDERS:
            index.join(holder)
            reference.join(holder)
        for holder in HOLDERS * 2:
            prompt, start, above = rng.choice(prompts), 0, None
            while start < len(prompt):
                end = rng.choice((len(prompt), rng.randrange(start, len(prompt)) + 1))
                for one in (index, reference):
                    one.store(holder, above, prompt[start:end], Tier.DEVICE)
                above = key_at(prompt, end - 1)
                start = rng.choice((end, rng.randrange(end, len(prompt) + 1)))
        for prompt in rng.sample(prompts, 2):
            found, right = index.overlaps(prompt).blocks, reference.overlaps(prompt).blocks
            assert found.tolist() == right.tolist()
        index.check()


@pytest.mark.parametrize("n", [2, 3, 10, 300])
@pytest.mark.parametrize("parent", [None, BlockKey(77)], ids=["root", "stranger"])
def test_a_block_told_once_with_a_false_parent_costs_nobody_else(n, parent):
    """A has only the last block and says that a prompt begins there; B has all before it."""
    index, keys = new_index(), chain(n)
    index.store(A, parent, keys[-1:], Tier.DEVICE)
    index.store(B, None, keys[:-1], Tier.DEVICE)
    assert overlaps(index, keys) == [0, n - 1]
    assert index.n_conflicts == 1
    assert overlaps(index, keys) == [0, n - 1]
    assert index.n_conflicts == 1


@pytest.mark.parametrize("middle", [1, 50, 99])
@pytest.mark.parametrize("says_it_follows", [False, True], ids=["nothing", "the_first_block"])
def test_a_false_parent_in_the_middle_hides_no_gap(middle, says_it_follows):
    """A has the beginning and what follows a false parent, and so no holes by its own words."""
    index, keys = new_index(), chain(100)
    parent = key_at(keys, 0) if says_it_follows else None
    index.store(A, None, keys[:1], Tier.DEVICE)
    index.store(A, parent, keys[middle:], Tier.DEVICE)
    index.store(B, None, keys[:middle], Tier.DEVICE)
    assert overlaps(index, keys) == [100 if middle == 1 else 1, middle]


def test_once_proven_a_block_is_doubted_no_more():
    index, keys = new_index(), chain(100)
    index.store(A, None, keys, Tier.DEVICE)
    assert overlaps(index, keys) == [100, 0]
    index.store(B, None, keys[50:], Tier.DEVICE)
    assert index.n_conflicts == 1
    assert overlaps(index, keys) == [100, 0]
    assert (index.n_holes(A), index.n_holes(B)) == (0, 1)
    index.store(B, None, keys[:50], Tier.DEVICE)
    assert overlaps(index, keys) == [100, 100]
    assert index._head[layout.N_DIRTY] == 0


def test_a_block_told_with_two_parents_is_believed_again_once_a_prompt_shows_which_is_right():
    index, keys = new_index(), chain(100)
    index.store(A, None, keys, Tier.DEVICE)
    index.store(B, key_at(keys, 3), keys[50:], Tier.DEVICE)
    assert (index.n_holes(A), index.n_holes(B)) == (1, 2)
    assert overlaps(index, keys) == [100, 0]
    assert (index.n_holes(A), index.n_holes(B)) == (0, 1)


def test_a_false_parent_is_matched_block_by_block_as_long_as_it_is_held():
    index, keys = new_index(), chain(100)
    index.store(B, None, keys[50:], Tier.DEVICE)
    index.store(A, None, keys, Tier.DEVICE)
    for _ in range(2):
        assert overlaps(index, keys) == [100, 0]
        assert index.n_holes(A) == 1
    for holder in (A, B):
        index.remove(holder, keys[50:], Tier.DEVICE)
    assert (index.n_holes(A), index.n_holes(B)) == (0, 0)
    index.store(A, key_at(keys, 49), keys[50:], Tier.DEVICE)
    assert overlaps(index, keys) == [100, 0]
    assert index._head[layout.N_DIRTY] == 0


def test_a_lie_about_a_block_that_went_and_came_back_is_noticed_below_it():
    """What is below was proven when this block still had its right parent."""
    index, keys = new_index(), chain(100)
    index.store(A, None, keys, Tier.DEVICE)
    assert overlaps(index, keys) == [100, 0]
    index.remove(A, keys[:60], Tier.DEVICE)
    index.store(A, None, keys[59:60], Tier.DEVICE)  # as if it began a prompt
    index.store(A, None, keys[:1], Tier.DEVICE)
    assert overlaps(index, keys) == [1, 0]


def test_parents_that_form_a_loop_change_no_overlap():
    index, keys = new_index(), chain(3)
    index.store(A, key_at(keys, 2), keys, Tier.DEVICE)
    index.store(B, key_at(keys, 0), keys[:1], Tier.DEVICE)
    assert overlaps(index, keys) == [3, 1]
    for holder in (A, B):
        index.remove(holder, keys, Tier.DEVICE)
    index.check()
    assert index._head[layout.N_USED_ROWS] == 0


def n_proven(index: PrefixIndex, keys: Keys) -> int:
    flags = index._cells[1 :: layout.ROW_WORDS][: int(index._head[layout.N_ROWS]) + 1]
    rows = np.isin(index._cells[:: layout.ROW_WORDS][: len(flags)], keys)
    return int((flags[rows] & layout.PROVEN != 0).sum())


@pytest.mark.parametrize("step", [1, 3, 32, 300])
@pytest.mark.parametrize("is_backwards", [False, True], ids=["forwards", "backwards"])
def test_the_first_prompt_over_a_chain_proves_it_to_its_end(step, is_backwards):
    """Wherever its rows stand: in order, in runs, or each before the one that it follows."""
    index, keys = new_index(), chain(300)
    starts = range(0, len(keys), step)
    for start in reversed(starts) if is_backwards else starts:
        parent = key_at(keys, start - 1) if start else None
        index.store(A, parent, keys[start : start + step], Tier.DEVICE)
        index.store(B, None, chain(1, 10**6 + start), Tier.DEVICE)  # a row between the runs
    assert n_proven(index, keys) == 0
    assert overlaps(index, keys) == [300, 0]
    assert n_proven(index, keys) == 300


@pytest.mark.parametrize("wrong", [1, 100, 299])
def test_a_chain_said_to_follow_a_proven_one_is_proven_by_prompts_that_have_that_before_it(wrong):
    """B says so of the end of another chain, which A has the beginning of."""
    index, keys, other = new_index(), chain(300), chain(300, 10**6)
    index.store(A, None, keys, Tier.DEVICE)
    index.store(A, None, other[:wrong], Tier.DEVICE)
    index.store(B, None, keys[:wrong], Tier.DEVICE)
    assert overlaps(index, keys) == [300, wrong]
    index.store(B, key_at(keys, wrong - 1), other[wrong:], Tier.DEVICE)
    assert overlaps(index, other) == [wrong, 0]
    assert n_proven(index, other) == wrong
