"""DualMap: two candidates for each beginning, by cache while the goal is met, else by load."""

import random

import msgspec
import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.policy.baselines.hashed.dualmap import GOAL_MS, WINDOW, Hotness, Pair, pick
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.policy import Dispatched
from radixroute.router.workers.load import BookingId
from tests.router.fixed_snapshot import FixedSnapshot, ask, make
from tests.router.scalar_score import Row, view
from tests.router.worlds import World, request

NAMES = "abcdefgh"


def loaded(rng: random.Random, names: str = NAMES):
    """A view in which anything may be cached and queued anywhere."""
    rows = [
        Row(
            name,
            rng.choice([0, 5, 60]),
            in_flight=rng.randint(0, 9),
            queued=rng.choice([0, 500, 9000]),
            backlog_ms=rng.choice([0.0, 80.0, 5000.0]),
        )
        for name in names
    ]
    return view(*rows, draw=rng.getrandbits(64))


def chosen(prefix: int, what) -> WorkerId:
    asked = ask(prefix=prefix, shared=700)
    (bound,) = make("dualmap").choose(asked, FixedSnapshot(what)).bound
    return bound.decision.worker_id


def test_whatever_the_load_a_beginning_has_two_candidates():
    rng = random.Random(4)
    pairs = []
    for prefix in range(12):
        seen = {chosen(prefix, loaded(rng)) for _ in range(60)}
        assert len(seen) == 2, "never a third, and both are used"
        pairs.append(frozenset(seen))
    assert len(set(pairs)) > 8, "other beginnings have others"
    assert set().union(*pairs) == set(NAMES)


def test_a_worker_that_leaves_moves_only_the_beginnings_that_had_it():
    rng = random.Random(5)
    for prefix in range(8):
        seen = {chosen(prefix, loaded(rng)) for _ in range(40)}
        (gone, *_) = sorted(set(NAMES) - seen)
        left = NAMES.replace(gone, "")
        assert {chosen(prefix, loaded(rng, left)) for _ in range(40)} == seen


def better(*rows: Row):
    what = view(*rows, own=Pair(0, 1))
    choice = pick(what)
    return what.worker_ids[choice.chosen], choice.reason


def test_of_the_two_the_one_that_holds_more_has_it_while_the_goal_is_met():
    """A prompt of 1,000 tokens at half a millisecond; the third is idle and holds all of it."""
    third = Row("c", 62)
    holder = Row("a", 40, in_flight=9, backlog_ms=GOAL_MS - 200.0, queued=1900)
    assert better(holder, Row("b", 20), third)[0] == "a"
    late = Row("a", 40, in_flight=9, backlog_ms=GOAL_MS, queued=2500)
    where, reason = better(late, Row("b", 20), third)
    assert where == "b"
    assert "would miss the goal" in reason


def test_when_both_would_be_late_load_decides():
    rows = (Row("a", 40, backlog_ms=9000.0, queued=9000), Row("b", backlog_ms=9500.0, queued=9700))
    assert better(*rows)[0] == "a"
    rows = (Row("a", 40, backlog_ms=9900.0, queued=9900), Row("b", backlog_ms=9000.0, queued=9000))
    assert better(*rows)[0] == "b"


def test_two_that_hold_as_much_go_by_load():
    where, reason = better(Row("a", 20, queued=800), Row("b", 20, queued=300), Row("c", 62))
    assert where == "b"
    assert "as much" in reason


def counted(hotness: Hotness, keys: np.ndarray) -> None:
    spec = msgspec.structs.replace(request("r", policy="dualmap"), keys=keys)
    decision = Decision(1, "dualmap", view(Row("a")), 0)
    hotness.count(Dispatched(spec, BookingId("r", 1), decision, 0, 0))


def test_a_hot_beginning_is_taken_longer_until_it_is_asked_for_no_more():
    hotness = Hotness()
    rng = np.random.default_rng(1)

    def prompt(shared: int) -> np.ndarray:
        keys = rng.integers(1, 1 << 63, 300, np.uint64)
        keys[:shared] = np.arange(1, shared + 1)
        return keys

    assert hotness.key(prompt(100), 16, 8) == 64, "1,024 tokens of blocks of 16"
    for _ in range(300):
        counted(hotness, prompt(100))
    hot, other = prompt(100), prompt(0)
    assert hotness.key(hot, 16, 8) == hot[127], "twice as long: its own from there on"
    assert hotness.key(other, 16, 8) == other[63]
    assert hotness.key(hot, 16, 2) == 64, "two workers are both candidates of everything"
    for _ in range(WINDOW):
        counted(hotness, prompt(0))
    assert hotness.key(hot, 16, 8) == 64
    assert len(hotness._counts) <= 4 * WINDOW, "what left the window is forgotten"


def test_prompts_too_short_to_have_a_key_go_by_load():
    hotness = Hotness()
    assert hotness.key(np.empty(0, np.uint64), 16, 8) is None
    assert hotness.key(np.array([7, 9], np.uint64), 16, 8) == 9
    what = view(Row("a", queued=50), Row("b"), Row("c", queued=10), own=None)
    assert pick(what).chosen == 1


def test_in_a_router_a_conversation_stays_with_its_pair():
    world = World(*NAMES)
    homes = set()
    for n in range(10):
        world.submit(request(f"r{n}", 3, policy="dualmap", blocks=90, shared=80, n=1))
        (where,) = [w for w in world.workers if world.on(w)]
        homes.add(where)
        world.step(where)
    assert len(homes) == 1, "the first has it cached"
