"""Whose fault it is decides what becomes of a request: errors, full workers, deaths, no workers."""

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Failure
from radixroute.router.messages.inputs import Absence, AbsentWorker, Delta
from tests.router.worlds import MS, S, World, packed, request


def other_of(w: str) -> str:
    return {"a": "b", "b": "a"}[w]


def give_up(world: World, w: str, request_id: str, attempt: int, finish: FinishReason) -> None:
    world.workers[w].running.pop((request_id, attempt), None)
    world.deliver(w, [Delta(request_id, attempt, 0, packed(), "", finish)])


def test_an_error_of_a_worker_is_tried_once_more_elsewhere_and_then_a_clean_error():
    world = World("a", "b")
    client = world.submit(request("r"))
    first = "a" if world.on("a") else "b"
    give_up(world, first, "r", 1, FinishReason.ERROR)
    assert world.on(other_of(first)) == ["r"]
    give_up(world, other_of(first), "r", 2, FinishReason.ERROR)
    assert client.end is Failure.WORKER_ERROR
    assert len(world.core._state.loads) == 0
    assert world.core._state.counters[Count.REQUESTS_RETRIED] == 1


def test_retries_are_a_fifth_of_what_runs_and_no_more():
    world = World("a", "b", policy="round_robin")
    clients = [world.submit(request(f"r{n}", n=99, policy="round_robin")) for n in range(40)]
    for w in "ab":
        for request_id in world.on(w):
            give_up(world, w, request_id, 1, FinishReason.ERROR)
    counters = world.core._state.counters
    failed = sum(client.end is Failure.WORKER_ERROR for client in clients)
    assert counters[Count.REQUESTS_RETRIED] + failed == 40
    assert 3 <= counters[Count.REQUESTS_RETRIED] <= 8


def test_a_full_worker_gives_the_request_back_and_gets_no_more_until_heard_of():
    world = World("a")
    client = world.submit(request("r", n=2))
    give_up(world, "a", "r", 1, FinishReason.FULL)
    assert [client.end] == [None]
    assert world.on("a") == []
    assert world.core.n_waiting == 1
    later = world.submit(request("later", n=2))
    assert world.on("a") == [], "it has no room yet"
    world.beat("a")
    assert world.on("a") == ["r", "later"], "each in its old place"
    for _ in range(2):
        world.step("a")
    assert (client.end, later.end) == (FinishReason.LENGTH,) * 2
    assert world.core._state.counters[Count.REQUESTS_SENT_BACK] == 1


def test_what_a_worker_cannot_serve_ends_the_request_and_opens_no_breaker():
    world = World("a", "b")
    for n in range(20):
        client = world.submit(request(f"r{n}"))
        w = "a" if world.on("a") else "b"
        give_up(world, w, f"r{n}", 1, FinishReason.INVALID)
        assert client.end is Failure.REFUSED
    assert world.core._state.counters[Count.BREAKERS_OPENED] == 0
    assert world.core._state.counters[Count.REQUESTS_RETRIED] == 0


def fail_on(world: World, w: str, n: int) -> None:
    """Requests that only this worker gets, and fails."""
    for turn in range(n):
        rid = f"{w}{turn}@{world.now_ns}"
        spec = request(rid, prefix=ord(w), blocks=40, shared=39)
        world.index.held[WorkerId(w)].update(spec.keys.tolist())
        world.submit(spec)
        assert world.on(w) == [rid]
        give_up(world, w, rid, 1, FinishReason.ERROR)
        world.abort(rid)


def test_a_worker_that_fails_five_in_a_row_rests_and_is_tried_again():
    world = World("a", "b", "c")
    fail_on(world, "a", 5)
    assert world.core._state.counters[Count.BREAKERS_OPENED] == 1
    spec = request("elsewhere", prefix=ord("a"), blocks=40, shared=39)
    world.submit(spec)
    assert world.on("a") == [], "it holds the prefix and rests"
    world.abort("elsewhere")
    world.pass_time(11 * S)
    fail_on(world, "a", 1)  # tried again; one more error is enough
    assert world.core._state.counters[Count.BREAKERS_OPENED] == 2


def test_with_most_breakers_open_they_are_not_believed():
    world = World("a", "b", "c")
    fail_on(world, "a", 5)
    fail_on(world, "b", 5)
    spec = request("r", prefix=ord("a"), blocks=40, shared=39)
    world.submit(spec)
    assert world.on("a") == ["r"]


def test_without_workers_requests_wait_while_one_is_being_restarted():
    world = World("a")
    world.kill("a")
    early = world.submit(request("r0"))
    world.pass_time(30 * S)
    late = world.submit(request("r1", now_ns=world.now_ns))
    assert (early.end, late.end) == (None, None)
    world.revive("a")
    assert world.on("a") == ["r0", "r1"]


def test_with_nobody_listed_requests_wait_a_while_and_then_fail():
    world = World("a")
    world.do(world.core.set_members([], world.now_ns))
    early = world.submit(request("r0"))
    world.pass_time(3 * S)
    late = world.submit(request("r1", now_ns=world.now_ns))
    world.pass_time(2 * S)
    assert (early.end, late.end) == (Failure.NO_WORKERS, None)


def test_requests_wait_while_the_controller_starts_a_worker_again():
    world = World("a")
    world.core.set_absent([AbsentWorker(WorkerId("a"), Absence.RESTARTING)])
    world.do(world.core.set_members([], world.now_ns))
    client = world.submit(request("r"))
    world.pass_time(60 * S)
    assert client.end is None
    world.core.set_absent([])
    world.pass_time(6 * S)
    assert client.end is Failure.NO_WORKERS


def test_waiting_requests_outlive_a_step_of_the_only_worker_that_takes_long():
    """Suspect is not gone (R7)."""
    world = World("a")
    world.workers["a"].is_mute = True
    world.pass_time(1500 * MS)
    client = world.submit(request("r"))
    assert world.on("a") == []
    world.workers["a"].is_mute = False
    world.workers["a"].step_age_ms = 9_000.0
    world.pass_time(10 * S)
    assert client.end is None
    world.workers["a"].step_age_ms = 0.0
    world.pass_time(300 * MS)
    assert world.on("a") == ["r"]


def test_deaths_long_ago_do_not_count_against_a_request():
    world = World("a", "b")
    client = world.submit(request("r", n=9, deadline_ns=9000 * S))
    first = "a" if world.on("a") else "b"
    world.kill(first)
    world.revive(first)
    world.pass_time(700 * S, tick_ns=S)
    world.kill(other_of(first))
    assert client.end is None
    assert world.on(first) == ["r"]


def test_a_deadline_that_not_even_an_idle_fleet_can_make_is_refused_at_once():
    world = World("a")
    for n in range(20):
        world.core._state.speeds.observe(
            WorkerId("a"), step_ms=500.0, prefill_tokens=512, decode_tokens=0, now_ns=n + 1
        )
    world.now_ns = S
    hopeless = request("hopeless", blocks=1000, now_ns=S, deadline_ns=S + S)
    assert world.submit(hopeless).end is Failure.HOPELESS
    assert world.submit(request("short", now_ns=S, deadline_ns=S + S)).end is None
    world.index.held[WorkerId("a")].update(hopeless.keys.tolist())
    cached = request("cached", blocks=1000, shared=1000, now_ns=S, deadline_ns=S + S)
    world.index.held[WorkerId("a")].update(cached.keys.tolist())
    assert world.submit(cached).end is None, "nearly all of it is cached"


def test_requests_that_came_at_one_time_are_sent_back_to_their_old_places():
    world = World("a")
    for request_id in ("first", "second"):
        world.submit(request(request_id, policy="least_loaded"))
    for request_id in ("second", "first"):
        give_up(world, "a", request_id, 1, FinishReason.FULL)
    assert world.on("a") == []
    world.beat("a")
    assert world.on("a") == ["first", "second"]


def test_a_worker_that_is_not_listed_any_more_leaves_no_errors_behind():
    world = World("a", "b")
    world.submit(request("r"))
    (worker,) = [w for w in "ab" if world.on(w)]
    give_up(world, worker, "r", 1, FinishReason.ERROR)
    assert len(world.core._state.breakers) == 1
    world.core.set_members([], world.now_ns)
    assert len(world.core._state.breakers) == 0
