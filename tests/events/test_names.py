"""Which block an engine hash stands for: the compiled table against a dict, and its bounds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.events.engines import names_layout as at
from radixroute.events.engines.foreign import EngineHash
from radixroute.events.engines.names import NameTable
from radixroute.events.engines.names_layout import CONFLICT, NO_ROOM, STORED
from radixroute.events.errors import LocalEventError
from radixroute.radix.ids import BlockKey, Keys, Tier
from radixroute.radix.keys.scope import Scope
from tests.parts import examples

ROOT, OTHER = Scope("model", 16), Scope("model", 16, lora="x")


def keys(*values: int) -> Keys:
    return np.array(values, np.uint64)


def table_of(n: int, first: int = 0, **more: Any) -> NameTable:
    table = NameTable(ROOT, **more)
    for start in range(first, first + n, 10):
        chain = np.arange(start, start + 10, dtype=np.uint64) + np.uint64(1)
        names = [EngineHash(name) for name in range(start, start + 10)]
        assert table.store(None, names, None, chain, ROOT, Tier.DEVICE) == STORED
    return table


class DictTable:
    """The same by a dict: what each name means and its copies."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[int | None, int], list[Any]] = {}

    def find(self, group: int | None, name: int) -> tuple[int, int | None, Scope] | None:
        found = self.blocks.get((group, name))
        return None if found is None else (found[0], found[1], found[2])

    def store(self, group, names, parent, chain, scope, tier) -> int:
        told = dict(zip(names, chain, strict=True))
        for name, key in zip(names, chain, strict=True):
            if self.blocks.get((group, name), [told[name]])[0] != key or told[name] != key:
                return CONFLICT
        for name, key in zip(names, chain, strict=True):
            block = self.blocks.setdefault((group, name), [key, parent, scope, 0, 0, 0])
            block[3 + tier] += 1
            parent = key
        return STORED

    def remove(self, group, names, tier) -> list[int]:
        gone = []
        for name in names:
            block = self.blocks.get((group, name))
            if block is not None and block[3 + tier]:
                gone.append(block[0])
                block[3 + tier] -= 1
                if not any(block[3:]):
                    del self.blocks[group, name]
        return gone


# Few names, some of them alike in their low words, so that they meet often.
NAMES = st.one_of(
    st.integers(0, 40),
    st.integers(0, 8).map(lambda n: 2**64 - 1 - n),
    st.integers(0, 8).map(lambda n: n + (n % 3 << 64) + (1 << 255)),
)
GROUPS = st.sampled_from((None, 0, 1, at.MAX_GROUP))
CHAINS = st.lists(NAMES, min_size=1, max_size=12)
STORES = st.tuples(
    st.just("store"), GROUPS, CHAINS, st.integers(0, 1), st.booleans(), st.sampled_from(list(Tier))
)
REMOVALS = st.tuples(st.just("remove"), GROUPS, CHAINS, st.sampled_from(list(Tier)))
GROWTHS = st.tuples(st.just("grow"), st.integers(0, 3), st.integers(0, 2000))
CLEARS = st.tuples(st.just("clear"))


@examples(50, 150)
def test_any_stores_and_removals_leave_what_a_dict_would_hold(n_examples):
    steps = st.lists(st.one_of(STORES, STORES, REMOVALS, REMOVALS, GROWTHS, CLEARS), max_size=40)
    limits = settings(max_examples=n_examples, deadline=None, derandomize=True)
    limits(given(steps)(assert_equals_a_dict))()


def assert_equals_a_dict(steps):
    ours, theirs = NameTable(ROOT), DictTable()
    used = set()
    n_filled = 0
    for verb, *more in steps:
        if verb == "store":
            group, names, way, is_other, tier = more
            # A name's key is the same wherever it stands, unless it is told in the other way.
            chain = keys(*(hash((name, way)) % 1000 + 1 for name in names))
            scope = OTHER if is_other else ROOT
            event = (group, names, BlockKey(7), chain, scope, tier)
            assert ours.store(*event) == theirs.store(*event[:3], chain.tolist(), *event[4:])
            used |= {(group, name) for name in names}
        elif verb == "remove":
            assert ours.remove(*more) == theirs.remove(*more)
        elif verb == "clear":
            ours.clear()
            theirs.blocks.clear()
        else:
            group, n = more
            names = [EngineHash(1000 + n_filled + i) for i in range(n)]
            chain = np.arange(n, dtype=np.uint64) + np.uint64(1)
            n_filled += n
            filling = (group, names, None, chain, ROOT, Tier.DISK)
            theirs.store(*filling[:3], chain.tolist(), *filling[4:])
            assert ours.store(*filling) == STORED
        ours.check()
        assert len(ours) == len(theirs.blocks)
        for group, name in used:
            found = ours.find(group, name)
            assert (found and (found.key, found.parent, found.scope)) == theirs.find(group, name)
    for (group, name), block in theirs.blocks.items():
        found = ours.find(group, EngineHash(name))
        assert found is not None
        assert found.key == block[0]


def test_names_keep_keys_parents_scopes_and_copies_through_growth():
    table = NameTable(ROOT)
    for number in range(300):
        first = 10 * number
        names = tuple(range(first, first + 10))
        chain = np.arange(first, first + 10, dtype=np.uint64) + np.uint64(1)
        parent = None if number % 2 else BlockKey(99)
        scope = ROOT if number % 3 else OTHER
        assert table.store(None, names, parent, chain, scope, Tier.DEVICE) == STORED  # type: ignore[arg-type]
        if number % 20 == 0:
            table.check()  # in the middle of a move, too
    table.check()
    assert len(table) == 3000
    for name, above, scope in ((0, 99, OTHER), (9, 9, OTHER), (10, None, ROOT)):
        found = table.find(None, EngineHash(name))
        assert found is not None
        assert (found.key, found.parent, found.scope) == (name + 1, above, scope)
    assert table.find(0, EngineHash(5)) is None


def test_names_go_with_their_last_copy_and_their_places_are_used_again():
    table = NameTable(ROOT)
    store: Any = table.store
    assert store(0, (1, 2), None, keys(11, 12), ROOT, Tier.DEVICE) == STORED
    assert store(0, (1, 3), None, keys(11, 13), ROOT, Tier.HOST) == STORED
    assert store(0, (2,), None, keys(99), ROOT, Tier.HOST) == CONFLICT
    remove: Any = table.remove
    assert remove(0, (1, 2, 3, 4), Tier.DEVICE) == [11, 12]
    assert len(table) == 2
    assert remove(0, (1, 3), Tier.HOST) == [11, 13]
    assert remove(0, (1,), Tier.HOST) == []
    n_bytes = table.n_bytes
    for n in range(0, 10_000, 2):
        assert store(0, (n, n + 1), None, keys(n + 1, n + 2), ROOT, Tier.DISK) == STORED
        assert remove(0, (n, n + 1), Tier.DISK) == [n + 1, n + 2]
    table.check()
    assert (len(table), table.n_bytes) == (0, n_bytes)


@pytest.mark.parametrize("n", [2, 70, 200])
def test_a_chain_that_cannot_be_stored_leaves_nothing_of_itself(n):
    table = table_of(400)
    before = [table.find(None, EngineHash(i)) for i in range(1000)]
    names = [EngineHash(i) for i in range(300, 300 + n)]
    chain = np.arange(301, 301 + n, dtype=np.uint64)
    for last in (5, 300, 299 + n - 1):  # known as another block, and twice in the chain
        broken = [*names[:-1], EngineHash(last)]
        assert table.store(None, broken, None, chain, ROOT, Tier.DEVICE) == CONFLICT
        table.check()
    assert [table.find(None, EngineHash(i)) for i in range(1000)] == before
    known = [EngineHash(i) for i in range(400)]
    assert len(table.remove(None, known, Tier.DEVICE)) == 400  # one copy each, as before
    assert len(table) == 0


@pytest.mark.parametrize("tier", [Tier.DEVICE, Tier.HOST, Tier.DISK])
def test_copies_beyond_what_can_be_counted_are_held_until_a_clear(tier):
    """They were refused, and removals then took the name away while copies were left."""
    table = NameTable(ROOT)
    event: Any = (None, (1,), None, keys(11), ROOT, tier)
    for _ in range(at.MOST_COPIES):
        assert table.told(None, EngineHash(1), tier) is None
        assert table.store(*event) == STORED
    assert table.told(None, EngineHash(1), tier) == 11
    for _ in range(3):
        assert table.store(*event) == at.TOLD
        assert table.remove(None, [EngineHash(1)], tier) == []
    assert table.n_on_device == (at.MOST_COPIES if tier == Tier.DEVICE else 0)
    table.check()
    table.clear()
    assert (len(table), table.n_on_device) == (0, 0)


def test_where_one_copy_is_kept_the_first_removal_takes_the_name_away():
    table = NameTable(ROOT)
    event: Any = (None, (1,), None, keys(11), ROOT, Tier.DEVICE)
    assert [table.store(*event) for _ in range(2)] == [STORED, STORED]
    table.keep_one_copy()
    assert len(table) == 0
    assert [table.store(*event) for _ in range(3)] == [STORED, at.TOLD, at.TOLD]
    host: Any = (*event[:5], Tier.HOST)
    assert table.store(*host) == STORED  # in another tier it is another copy
    assert table.remove(None, [EngineHash(1)], Tier.DEVICE) == [11]
    assert table.remove(None, [EngineHash(1)], Tier.DEVICE) == []
    assert table.n_on_device == 0
    table.clear()
    assert [table.store(*event) for _ in range(2)] == [STORED, at.TOLD]
    table.check()


def test_digests_that_share_their_last_words_are_different_names():
    table, low = table_of(100), 7
    # So many that searches pass over others of them.
    digests = [EngineHash(low + (n << shift)) for shift in (64, 128, 192) for n in range(1, 150)]
    for n, digest in enumerate(digests):
        assert table.store(None, (digest,), None, keys(500 + n), ROOT, Tier.DEVICE) == STORED
    table.check()
    found = [table.find(None, name) for name in (EngineHash(low), *digests)]
    assert [one and one.key for one in found] == [low + 1, *range(500, 500 + len(digests))]


def test_names_within_their_bytes_and_no_more():
    table = table_of(600, max_bytes=1 << 16)
    n = 600
    chain = keys(1)
    while table.store(None, (EngineHash(n),), None, chain, ROOT, Tier.DEVICE) == STORED:
        n += 1
        assert table.n_bytes <= 1 << 16
    assert table.store(None, (EngineHash(n),), None, chain, ROOT, Tier.DEVICE) == NO_ROOM
    assert n > 900  # of the 1,024 places that fit with their successors' in 64 KiB
    table.check()
    table.remove(None, [EngineHash(0)], Tier.DEVICE)
    assert table.store(None, (EngineHash(n),), None, chain, ROOT, Tier.DEVICE) == STORED


def test_growing_moves_a_bounded_part_with_each_store():
    table = table_of(640)
    most, left = 0, 0
    for n in range(10_000, 90_000, 8):
        before = int(table._head[at.OLD_LEFT])
        names = [EngineHash(i) for i in range(n, n + 8)]
        assert table.store(None, names, None, keys(*range(n, n + 8)), ROOT, Tier.DEVICE) == STORED
        left = int(table._head[at.OLD_LEFT])
        most = max(most, before - left)
    assert 0 < most <= 64
    table.check()


def test_scopes_that_nobody_needs_are_forgotten():
    table = NameTable(ROOT)
    for n in range(5000):
        scope = Scope("model", 16, tenant_salt=str(n))
        assert table.store(None, (EngineHash(n),), None, keys(n + 1), scope, Tier.DEVICE) == STORED
        found = table.find(None, EngineHash(n))
        assert found is not None
        assert found.scope == scope
        if n >= 20:
            table.remove(None, (EngineHash(n - 20),), Tier.DEVICE)
    table.check()
    assert len(table._scopes.seeds) == 64


def test_a_broken_table_is_noticed():
    for harm in ("twice", "count", "scope", "hole"):
        table = table_of(400)
        rows = table._cells.reshape(-1, at.NARROW)
        used = rows[:, at.HELD].nonzero()[0]
        if harm == "twice":
            rows[used[0], at.NAME] = rows[used[1], at.NAME]
        elif harm == "count":
            table._head[at.N_NAMES] += 1
        elif harm == "scope":
            rows[used[0], at.HELD] |= np.uint64(1) << at.SCOPE_SHIFT
        else:
            home = used[np.flatnonzero(np.diff(used) == 1)]
            rows[home, at.HELD] = 0
            table._head[at.N_NAMES] -= len(home)
            table._scopes.seeds[0, 2] -= np.uint64(len(home))
        with pytest.raises(LocalEventError):
            table.check()
