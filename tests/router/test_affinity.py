"""Sessions stay where they are, as far as the load and the fleet allow."""

import random
from collections import Counter

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import session_of
from radixroute.router.policy.baselines.hashed.session_affinity import Session
from radixroute.router.policy.baselines.hashed.session_affinity import pick as session_affinity
from tests.router.scalar_score import Row, view
from tests.router.worlds import World, request


def home(session: int, *names: str, full: str = "") -> str:
    rows = [Row(name, in_flight=99 if name in full else 1) for name in names]
    what = view(*rows, own=Session(session, 9.0))
    return what.worker_ids[session_affinity(what).chosen]


def test_sessions_spread_evenly():
    counts = Counter(home(session, *"abcd") for session in range(2000))
    assert min(counts.values()) > 420


def test_a_worker_that_leaves_or_comes_moves_only_its_own_sessions():
    before = {session: home(session, *"abcd") for session in range(500)}
    for session, worker in before.items():
        assert worker == "c" or home(session, *"abd") == worker
        assert home(session, *"abcde") in {worker, "e"}


def test_a_full_worker_hands_its_sessions_to_the_next_of_each():
    moved: Counter[str] = Counter()
    for session in range(600):
        first, second = home(session, *"abcd"), home(session, *"abcd", full="b")
        assert second == home(session, *"acd") if first == "b" else second == first
        moved[second] += first == "b"
    assert min(moved[w] for w in "acd") > 20


def test_the_reason_and_the_terms_say_that_it_was_full():
    rows = [Row("a", in_flight=1), Row("b", in_flight=1)]
    session = next(s for s in range(50) if home(s, "a", "b") == "b")
    assert session_affinity(view(*rows, own=Session(session, 9.0))).reason.startswith("It is the")
    rows[1] = Row("b", in_flight=9)
    choice = session_affinity(view(*rows, own=Session(session, 9.0)))
    assert choice.reason.startswith("Those before it")
    assert choice.scores.terms.tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_a_session_is_what_its_client_calls_it():
    assert session_of("") is None
    assert session_of("alice") == session_of("alice") != session_of("bob")


def placed(world: World, name: str, prefix: int, session: int | None, **more) -> str:
    world.submit(request(name, prefix, policy="session_affinity", session=session, n=1, **more))
    (where,) = [w for w in world.workers if world.on(w)]
    world.step(where)
    return where


def test_without_a_name_the_first_1024_tokens_say_whose_request_it_is():
    world = World(*"abcdefgh")
    rng = random.Random(1)
    wanted: dict[int, str] = {}
    for n in range(60):
        prefix = rng.randrange(12)
        where = placed(world, f"r{n}", prefix, None, blocks=70, shared=64)
        assert wanted.setdefault(prefix, where) == where
    assert len(set(wanted.values())) > 3
    own = {placed(world, f"q{n}", 0, None, blocks=70, shared=63) for n in range(20)}
    assert len(own) > 3, "one block sooner they are different"
    assert len({placed(world, f"s{n}", n, session=5) for n in range(12)}) == 1


def test_a_hot_session_is_bounded_by_the_cap():
    world = World(*"abcd")
    for n in range(60):
        world.submit(request(f"r{n}", policy="session_affinity", session=3, n=9))
    loads = sorted(len(world.on(w)) for w in "abcd")
    assert loads[-1] <= np.ceil(1.5 * 60 / 4) + 1
    assert loads[0] < loads[-1], "it stays together as far as the cap allows"


def test_a_session_goes_elsewhere_when_its_worker_dies_and_comes_back_with_it():
    world = World(*"abcd")
    first = placed(world, "r0", 1, session=77)
    world.kill(first)
    other = placed(world, "r1", 1, session=77)
    assert other != first
    world.revive(first)
    assert placed(world, "r2", 1, session=77) == first
    assert world.core._state.members.get(WorkerId(first)) is not None
