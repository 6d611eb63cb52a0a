"""RouterCore: requests and leases, one behaviour a test, in a world without I/O or real time."""

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Abort, Fail, Failure, Grant
from radixroute.router.messages.inputs import Delta
from tests.router.worlds import MS, S, World, packed, request, token


def test_a_burst_of_one_cold_prefix_does_not_scatter():
    """Nobody holds it when the first arrives; the next ones go where it is being computed."""
    world = World("a", "b")
    for n in range(3):
        world.submit(request(f"r{n}", prefix=7, blocks=64, shared=64))
    assert sorted(len(world.on(w)) for w in "ab") == [0, 3]


def test_a_burst_of_one_cold_prefix_fills_no_worker_beyond_what_it_can_seat():
    world = World("a", "b", "c", "d", seats=8, queue=4)
    for n in range(60):
        world.submit(request(f"r{n}", prefix=7, blocks=64, shared=64))
    assert [len(world.on(w)) for w in "abcd"] == [12] * 4
    assert world.core.n_waiting == 12


def test_expected_blocks_end_with_the_stored_event():
    world = World("a", "b")
    world.submit(request("r0", prefix=7, n=100))
    holder = "a" if world.on("a") else "b"
    assert world.core._state.expected.n_blocks(WorkerId(holder)) == 8
    world.step(holder)
    assert world.core._state.expected.n_blocks(WorkerId(holder)) == 0


def test_a_stale_worker_serves_without_cache_credit():
    world = World("a", "b")
    keys = request("x", prefix=7).keys
    world.index.held[WorkerId("a")].update(keys.tolist())
    world.core.cache_believed(WorkerId("a"), False)
    served = [world.submit(request(f"r{n}", prefix=7, n=1)) for n in range(4)]
    for w in "ab" * 4:
        world.step(w)
    assert all(client.end is FinishReason.LENGTH for client in served)
    for n in range(4):
        decision = world.core._state.log.get(f"r{n}").decisions[0]
        position = decision.view.worker_ids.index(WorkerId("a"))
        assert decision.view.overlap_blocks[position] == 0


def test_load_is_booked_with_the_selection():
    """A burst in one instant spreads: each choice sees the ones before it."""
    world = World("a", "b", "c")
    for n in range(9):
        world.submit(request(f"r{n}", prefix=n, policy="least_loaded"))
    assert [len(world.on(w)) for w in "abc"] == [3, 3, 3]


@pytest.mark.parametrize("emitted", range(6))
def test_a_death_at_any_position_leaves_the_stream_whole(emitted):
    world = World("a", "b")
    client = world.submit(request("r", n=6))
    first = "a" if world.on("a") else "b"
    for _ in range(emitted):
        world.step(first)
    world.kill(first)
    other = {"a": "b", "b": "a"}[first]
    assert world.on(other) == ["r"]
    for _ in range(6 - emitted):
        world.step(other)
    assert (client.end, client.got) == (FinishReason.LENGTH, 6)


def test_a_finish_that_the_dead_worker_owed_is_made_up_once():
    world = World("a", "b")
    client = world.submit(request("r", n=1))
    first = "a" if world.on("a") else "b"
    world.deliver(first, [Delta("r", 1, 0, packed(token("r", 0)), "x")])
    assert len(world.core._state.requests) == 1
    world.kill(first)
    assert client.end is FinishReason.LENGTH
    assert world.core._state.counters[Count.FINISHES_SYNTHESISED] == 1


def test_an_end_token_that_was_emitted_is_not_continued():
    world = World("a", "b")
    world.submit(request("r", n=9))
    state = world.core._state.requests.get("r")
    assert state is not None
    state.emit(packed(2), "x")
    assert state.implied_finish(frozenset({2})) is FinishReason.STOP
    assert state.implied_finish(frozenset()) is None


def test_an_end_token_in_the_last_place_is_a_stop_as_at_the_worker():
    """Seed 62 of the simulation: with the finish lost, it was a length."""
    world = World("a", "b")
    world.submit(request("r", n=1))
    state = world.core._state.requests.get("r")
    assert state is not None
    state.emit(packed(2), "x")
    assert state.implied_finish(frozenset({2})) is FinishReason.STOP
    assert state.implied_finish(frozenset()) is FinishReason.LENGTH


def test_two_deaths_end_a_request_cleanly():
    world = World("a", "b", "c")
    client = world.submit(request("r", n=9))
    for _ in range(2):
        world.kill(next(w for w in "abc" if world.on(w)))
    assert client.end is Failure.TOO_MANY_DEATHS
    assert world.core._state.counters[Count.DEATHS_EXHAUSTED] == 1


def test_workers_of_one_process_that_ends_are_one_death():
    world = World("a", "b", "c", "d")
    for member in world.core._state.members:
        member.process = "p"
    client = world.submit(request("r", n=9))
    for _ in range(3):  # the next takes it before its own end is known
        world.kill(next(w for w in "abcd" if world.on(w)))
    assert client.end is None
    (last,) = (w for w in "abcd" if world.on(w))
    world.now_ns += 2 * S  # the process lives: it was what runs there that died
    world.kill(last)
    assert client.end is Failure.TOO_MANY_DEATHS


def test_a_session_that_was_lost_is_avoided_while_others_can_serve():
    world = World("a", "b")
    world.submit(request("r", n=9))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    world.kill(other)
    world.kill(first)
    assert len(world.core._state.waiting) == 1
    world.workers[first].is_up = world.workers[other].is_up = True
    # The first comes back in the same life: it alone is better than no answer.
    world.join(first)
    assert world.on(first) == ["r"]


def test_outputs_of_an_old_attempt_are_fenced_and_counted():
    world = World("a", "b")
    client = world.submit(request("r", n=6))
    first = "a" if world.on("a") else "b"
    world.step(first)
    world.kill(first)
    world.revive(first)
    world.deliver(first, [Delta("r", 1, 1, packed(token("r", 1)), "x")])
    assert client.got == 1
    assert world.core._state.counters[Count.DELTAS_FENCED] == 1


def test_an_old_attempt_on_the_same_worker_is_fenced_too():
    world = World("a")
    client = world.submit(request("r", n=6))
    world.deliver("a", [Delta("r", 1, 0, packed(), "", FinishReason.ABORT)])
    assert ("r", 2) in world.workers["a"].running
    world.deliver("a", [Delta("r", 1, 0, packed(token("r", 0)), "x")])
    assert client.got == 0
    assert world.core._state.counters[Count.DELTAS_FENCED] == 1


def test_a_worker_that_gave_a_request_up_is_not_asked_again_for_its_cache():
    world = World("a", "b")
    made = request("r", n=6)
    world.index.held[WorkerId("a")].update(made.keys.tolist())
    world.submit(made)
    assert world.on("a") == ["r"]
    world.workers["a"].running.clear()
    world.deliver("a", [Delta("r", 1, 0, packed(), "", FinishReason.ABORT)])
    assert world.on("b") == ["r"]


@pytest.mark.parametrize("finish", [FinishReason.INVALID, FinishReason.ABORT])
def test_a_resumed_attempt_may_be_refused_without_a_position(finish):
    world = World("a", "b")
    client = world.submit(request("r", n=6))
    first = "a" if world.on("a") else "b"
    world.step(first)
    world.kill(first)
    other = {"a": "b", "b": "a"}[first]
    world.deliver(other, [Delta("r", 2, 0, packed(), "", finish)])
    failures = {
        FinishReason.INVALID: Failure.REFUSED,
        FinishReason.ABORT: Failure.TOO_MANY_DEATHS,
    }
    assert client.end is failures[finish]
    assert world.core._state.counters[Count.DELTAS_MISPLACED] == 0


def test_repeated_positions_are_dropped_and_counted():
    world = World("a")
    client = world.submit(request("r", n=6))
    world.step("a")
    world.deliver("a", world.workers["a"].last)
    assert client.got == 1
    assert world.core._state.counters[Count.DELTAS_DUPLICATE] == 1


def test_a_hole_in_the_positions_breaks_the_attempt_not_the_stream():
    world = World("a", "b")
    client = world.submit(request("r", n=3))
    first = "a" if world.on("a") else "b"
    world.deliver(first, [Delta("r", 1, 2, packed(token("r", 2)), "x")])
    assert world.core._state.counters[Count.DELTAS_MISPLACED] == 1
    assert world.on(first) == []
    for _ in range(3):
        world.step({"a": "b", "b": "a"}[first])
    assert client.end is FinishReason.LENGTH


def test_a_worker_that_gives_a_request_up_is_not_the_end_of_it():
    world = World("a", "b")
    client = world.submit(request("r", n=3))
    first = "a" if world.on("a") else "b"
    world.deliver(first, [Delta("r", 1, 0, packed(), "", FinishReason.ABORT)])
    for _ in range(3):
        world.step({"a": "b", "b": "a"}[first])
    assert client.end is FinishReason.LENGTH


def test_a_waiting_request_ends_at_its_deadline_if_that_is_sooner():
    world = World("a")
    world.kill("a")
    client = world.submit(request("r0", deadline_ns=S))
    world.pass_time(1100 * MS)
    assert client.end is Failure.DEADLINE


def test_resumed_requests_go_before_new_ones():
    world = World("a")
    world.submit(request("old", n=9))
    world.step("a")
    world.workers["a"].is_up = False
    world.kill("a")
    world.submit(request("new"))
    world.revive("a")
    assert world.on("a") == ["old", "new"]


def test_the_queue_is_bounded():
    world = World("a", max_waiting=2)
    world.kill("a")
    clients = [world.submit(request(f"r{n}")) for n in range(3)]
    assert [c.end for c in clients] == [None, None, Failure.QUEUE_FULL]
    assert world.core._state.counters[Count.QUEUE_OVERFLOWED] == 1
    assert world.core._state.counters[Count.REQUESTS_ACCEPTED] == 2  # each is counted once


def test_an_abort_reaches_the_worker_and_settles():
    world = World("a")
    world.submit(request("r"))
    world.abort("r")
    assert world.on("a") == []
    assert len(world.core._state.loads) == 0
    assert world.core._state.expected.n_blocks(WorkerId("a")) == 0
    assert world.core.abort("r", world.now_ns) == []


def test_an_abort_while_waiting_leaves_nothing():
    world = World("a")
    world.kill("a")
    world.submit(request("r"))
    world.abort("r")
    assert len(world.core._state.waiting) == 0


def test_a_deadline_in_flight_aborts_on_the_worker():
    world = World("a")
    client = world.submit(request("r", n=99, deadline_ns=S))
    world.pass_time(1100 * MS)
    assert client.end is Failure.DEADLINE
    assert world.on("a") == []


def in_flight(world: World, w: str) -> int:
    return world.core._state.loads.load(WorkerId(w)).in_flight


def test_a_lease_books_and_lapses_soon_when_its_worker_never_sees_the_client():
    world = World("a")
    lease = world.route(request("r", prefix=3), "lease")
    assert isinstance(lease, Grant)
    assert (lease.worker_id, lease.address) == ("a", "a:1")
    assert in_flight(world, "a") == 1
    assert world.core._state.expected.n_blocks(WorkerId("a")) == 8
    world.pass_time(1900 * MS)
    assert in_flight(world, "a") == 1
    world.pass_time(200 * MS)
    assert in_flight(world, "a") == 0
    assert world.core._state.counters[Count.LEASES_LAPSED] == 1
    assert not world.release("lease")


def test_a_lease_that_is_used_lives_and_ends_with_its_request():
    world = World("a")
    world.route(request("r"), "lease")
    world.workers["a"].direct = ("r",)
    world.pass_time(60 * S)
    assert in_flight(world, "a") == 1
    world.workers["a"].direct, world.workers["a"].direct_ended = (), ("other", "r")
    world.pass_time(300 * MS)
    assert in_flight(world, "a") == 0
    assert world.core._state.counters[Count.LEASES_USED] == 1


def test_leases_are_admitted_like_requests():
    world = World("a", max_in_flight=10)
    answers = [world.route(request(f"r{n}"), f"l{n}") for n in range(20)]
    assert [isinstance(answer, Grant) for answer in answers] == [True] * 10 + [False] * 10
    assert answers[-1] is Failure.QUEUE_FULL
    assert world.release("l3")
    assert isinstance(world.route(request("again"), "again"), Grant)


def test_a_release_ends_a_lease_once():
    world = World("a")
    world.route(request("r"), "lease")
    assert world.release("lease")
    assert not world.release("lease")
    assert world.core._state.expected.n_blocks(WorkerId("a")) == 0
    world.core.check()


def test_a_lease_waits_for_a_worker_like_any_request():
    world = World("a")
    world.kill("a")
    assert world.route(request("r"), "lease") is None
    world.revive("a")
    assert in_flight(world, "a") == 1


def test_hits_count_each_request_once_whatever_happens_to_it():
    world = World("a", "b")
    world.submit(request("r", n=4))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    world.step(first)
    world.kill(first)
    for _ in range(3):
        world.step(other)
    hits = world.core._state.hits
    assert (hits.of(WorkerId(first)).requests, hits.of(WorkerId(other)).requests) == (1, 0)
    assert hits.of(WorkerId(other)).resumed_requests == 1
    # The whole prompt and one emitted token were computed again.
    assert hits.of(WorkerId(other)).recomputed_tokens == 8 * 16 + 3 + 1


def test_the_decision_log_is_bounded():
    world = World("a", decision_log_len=3)
    for n in range(5):
        world.submit(request(f"r{n}", n=1))
        world.step("a")
    assert len(world.core._state.log) == 3
    assert world.core._state.log.get("r4").outcome == "length"


def test_failures_of_requests_are_counted_by_name():
    world = World("a", max_in_flight=1)
    world.submit(request("r0"))
    actions = world.core.submit(request("r1"), 0)
    assert actions == [Fail("r1", Failure.QUEUE_FULL)]
    assert world.core._state.counters[Count.REQUESTS_FAILED] == 1
    assert isinstance(world.core.abort("r0", 0)[0], Abort)
