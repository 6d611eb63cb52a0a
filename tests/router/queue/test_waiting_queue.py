"""The order of the queue: lost ones, bands with age, tenants by what they were served, arrival."""

import random
from collections import Counter

import pytest

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.core.queue.tenants import DECODE_WEIGHT, MAX_IDLE, Tenants
from radixroute.router.core.queue.waiting_queue import QUANTUM, Front, WaitingQueue
from radixroute.router.core.requests import Request
from radixroute.router.counters import Count
from tests.router.worlds import S, request

AGE_NS = 30 * S


def new_queue(**limits) -> WaitingQueue:
    wanted = {"max_requests": 1000, "max_tokens": 1 << 40, "age_ns": AGE_NS, **limits}
    return WaitingQueue(**wanted)


def waiting(request_id: str, at_ns: int = 0, **named):
    """`tenant`, `priority`, `lora`, `blocks`."""
    return Request(request(request_id, now_ns=at_ns, **named))


def put(queue: WaitingQueue, *requests: Request, now_ns: int = 0) -> None:
    for one in requests:
        queue.push(one, now_ns)
        queue.check()


def order(queue: WaitingQueue, now_ns: int = 0, limit: int = 100) -> list[str]:
    return names(queue.front(now_ns, limit))


def names(front: Front) -> list[str]:
    requests = [*front.lost, *(one for level in front.levels for one in level)]
    return [one.request_id for one in requests]


def test_who_lost_a_worker_goes_first_then_bands_then_arrival():
    queue = new_queue()
    lost = waiting("lost", 9, priority=9)
    lost.excluded.add((WorkerId("a"), "e1"))
    put(queue, waiting("late", 2), waiting("early", 1), waiting("urgent", 3, priority=0), lost)
    assert order(queue) == ["lost", "urgent", "early", "late"]
    assert queue.front(0, 100).levels == [
        [found(queue, "urgent")], [found(queue, "early"), found(queue, "late")],
    ]  # fmt: skip


def found(queue: WaitingQueue, request_id: str) -> Request:
    return next(one for one in queue if one.request_id == request_id)


def test_a_band_is_worth_so_much_waiting():
    queue = new_queue()
    put(queue, waiting("old", 0, priority=7), waiting("new", 50 * S, priority=6), now_ns=50 * S)
    assert order(queue, 50 * S) == ["old", "new"], "aged by one band: the same, and it came first"
    queue = new_queue()
    put(queue, waiting("old", 0, priority=8), waiting("new", 50 * S, priority=6), now_ns=50 * S)
    assert order(queue, 50 * S) == ["new", "old"]
    assert order(queue, 61 * S) == ["old", "new"]


def test_bands_that_have_aged_into_one_go_by_arrival():
    queue = new_queue()
    put(queue, waiting("young", 40 * S, priority=0), waiting("old", 20 * S, priority=1))
    put(queue, waiting("oldest", 0, priority=2))
    assert order(queue, 70 * S) == ["oldest", "old", "young"]


def test_nobody_starves_behind_more_urgent_ones_that_keep_coming():
    """One urgent request a second, one served a second: the patient one goes after nine bands."""
    queue = new_queue()
    put(queue, waiting("patient", 0, priority=9))
    for second in range(1, 400):
        now_ns = second * S
        put(queue, waiting(f"u{second}", now_ns, priority=0), now_ns=now_ns)
        first = found(queue, order(queue, now_ns)[0])
        queue.remove(first, now_ns)
        if first.request_id == "patient":
            break
    assert second == 9 * 30 == 270


def serve_in_order(queue: WaitingQueue, n: int, decode: int = 0) -> Counter[str]:
    """Tokens by tenant, of the first `n` requests, each looked at alone."""
    served: Counter[str] = Counter()
    for _ in range(n):
        first = found(queue, order(queue, limit=1)[0])
        queue.remove(first, 0)
        tokens = first.prompt_tokens
        queue.serve(first.spec.tenant, prefill=tokens, decode=decode)
        served[first.spec.tenant] += tokens + DECODE_WEIGHT * decode
    return served


def test_tenants_share_by_tokens_and_not_by_requests():
    queue = new_queue()
    for n in range(200):
        put(queue, waiting(f"small{n}", n, tenant="small", blocks=4))
    for n in range(40):
        put(queue, waiting(f"large{n}", n, tenant="large", blocks=40))
    served = serve_in_order(queue, 100)
    assert served["small"] == pytest.approx(served["large"], rel=0.1)


def test_output_counts_too():
    queue = new_queue()
    for n in range(60):
        put(queue, waiting(f"talks{n}", n, tenant="talks"), waiting(f"quiet{n}", n, tenant="quiet"))
    turns: Counter[str] = Counter()
    for _ in range(40):
        first = found(queue, order(queue, limit=1)[0])
        queue.remove(first, 0)
        tenant = first.spec.tenant
        decode = first.prompt_tokens if tenant == "talks" else 0
        queue.serve(tenant, prefill=first.prompt_tokens, decode=decode)
        turns[tenant] += 1
    assert turns == {"talks": 10, "quiet": 30}, "who answers at length gets a third of the turns"


def test_a_tenant_that_was_away_has_not_saved_up():
    queue = new_queue()
    put(queue, *(waiting(f"busy{n}", n, tenant="busy") for n in range(50)))
    serve_in_order(queue, 20)
    put(queue, *(waiting(f"back{n}", n, tenant="back") for n in range(50)))
    served = serve_in_order(queue, 20)
    assert served["busy"] == pytest.approx(served["back"], rel=0.2)


def test_one_tenants_short_prompts_pass_another_by_a_quantum_at_most():
    """What a policy sees at once bounds what its own order can move between tenants."""
    queue = new_queue()
    put(queue, *(waiting(f"short{n}", n, tenant="short", blocks=4) for n in range(900)))
    put(queue, waiting("long", 0, tenant="long", blocks=600))
    seen = order(queue, limit=1000)
    assert "long" in seen
    tokens = sum(found(queue, one).prompt_tokens for one in seen if one != "long")
    assert QUANTUM < tokens <= QUANTUM + 1000
    assert len(order(new_filled("only", 900), limit=1000)) == 900, "alone it is not cut"


def new_filled(tenant: str, n: int) -> WaitingQueue:
    queue = new_queue()
    put(queue, *(waiting(f"{tenant}{i}", i, tenant=tenant, blocks=4) for i in range(n)))
    return queue


def test_the_front_is_bounded_and_goes_on_into_the_next_band():
    queue = new_queue()
    put(queue, *(waiting(f"a{n}", n, priority=1) for n in range(3)))
    put(queue, *(waiting(f"b{n}", n, priority=2) for n in range(9)))
    assert order(queue, limit=5) == ["a0", "a1", "a2", "b0", "b1"]
    assert order(queue, limit=2) == ["a0", "a1"]


def test_room_is_by_requests_and_by_tokens_and_never_for_who_lost_a_worker():
    queue = new_queue(max_requests=2)
    put(queue, waiting("a"))
    assert queue.limit_reached(waiting("b")) is None
    put(queue, waiting("b"))
    assert queue.limit_reached(waiting("c")) is Count.WAITING_FULL
    lost = waiting("lost")
    lost.excluded.add((WorkerId("a"), "e1"))
    put(queue, lost)
    assert len(queue) == 3
    queue = new_queue(max_tokens=200)
    put(queue, waiting("a"))
    assert queue.limit_reached(waiting("b")) is Count.WAITING_FULL_OF_TOKENS
    alone = new_queue(max_tokens=1).limit_reached(waiting("alone"))
    assert alone is None, "its own limits are the model's"


def test_who_waits_cannot_wait_twice_or_leave_twice():
    queue, one = new_queue(), waiting("a")
    put(queue, one)
    with pytest.raises(BrokenInvariant):
        queue.push(one, 0)
    queue.remove(one, 0)
    with pytest.raises(BrokenInvariant):
        queue.remove(one, 0)


def test_idle_tenants_are_forgotten_in_the_end():
    tenants = Tenants()
    for n in range(MAX_IDLE + 50):
        tenants.serve(f"t{n}", prefill=1)
    assert len(tenants) == MAX_IDLE


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_things_keeps_the_queue_whole(seed):
    """Against a model that sorts: bands aged by the head of each lane, tenants by counters."""
    rng, queue = random.Random(seed), new_queue()
    now_ns, inside = 0, dict[str, Request]()
    for turn in range(300):
        now_ns += rng.choice([0, 0, S, 20 * S])
        match rng.randrange(5):
            case 0 | 1:
                one = waiting(
                    f"r{turn}", now_ns, tenant=rng.choice("abc"), priority=rng.randrange(10),
                    blocks=rng.choice([1, 8, 60]), **rng.choice([{}, {"lora": "X"}, {"lora": "Y"}]),
                )  # fmt: skip
                if rng.random() < 0.1:
                    one.excluded.add((WorkerId("a"), "e1"))
                inside[one.request_id] = one
                queue.push(one, now_ns)
            case 2 if inside:
                queue.remove(inside.pop(rng.choice(list(inside))), now_ns)
            case 3:
                queue.serve(rng.choice("abc"), prefill=rng.randrange(4000))
            case _:
                seen = order(queue, now_ns, rng.choice([1, 5, 100]))
                assert set(seen) <= set(inside)
                assert len(seen) == len(set(seen))
                everybody = list(inside.values())
                assert not inside or seen[0] in firsts_by_sorting(everybody, queue, now_ns)
                assert_left_out(queue, everybody, now_ns)
        queue.check()
        assert len(queue) == len(inside)


def assert_left_out(queue: WaitingQueue, inside: list[Request], now_ns: int) -> None:
    """Of an adapter that nobody serves, nothing; of a busy one, the first of a level, on top."""
    parked, busy = (queue.front(now_ns, 400, **{why: {"X"}}) for why in ("parked", "busy"))
    others = [one for one in inside if one.spec.scope.lora != "X"]
    assert all(one in others for level in (parked.lost, *parked.levels) for one in level)
    assert not others or names(parked)[0] in firsts_by_sorting(others, queue, now_ns)
    assert set(parked.lost) == {one for one in others if one.excluded}
    assert set(busy.lost) == {one for one in inside if one.excluded}
    tops = [level[0] for level in busy.levels if level[0] not in others]
    rest = [level[level[0] in tops :] for level in busy.levels]
    assert [level for level in rest if level] == parked.levels
    if tops:
        xs = [one for one in inside if one not in others and not one.excluded]
        assert tops[0].request_id in firsts_by_sorting(xs, queue, now_ns)


def firsts_by_sorting(inside: list[Request], queue: WaitingQueue, now_ns: int) -> list[str]:
    """Who may be the first of these."""
    lost = [one for one in inside if one.excluded]
    if lost:
        return [min(lost, key=lambda one: (one.spec.arrival_ns, place(one))).request_id]
    heads = dict[tuple[str, int, str], Request]()
    for one in sorted(inside, key=lambda one: (one.spec.arrival_ns, place(one))):
        heads.setdefault((one.spec.tenant, one.spec.priority, one.spec.scope.lora), one)

    def rank(one: Request) -> tuple[int, int]:
        aged = (now_ns - one.spec.arrival_ns) // AGE_NS
        return max(0, one.spec.priority - aged), queue.tenants.waiting[one.spec.tenant].served

    least = min(map(rank, heads.values()))
    return [one.request_id for one in heads.values() if rank(one) == least]


def place(one: Request) -> int:
    return int(one.request_id[1:])
