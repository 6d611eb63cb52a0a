"""Late binding: who waits, who goes first, and that the kernel does what is written."""

import random
from itertools import takewhile

import numpy as np
import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.actions import Dispatch
from radixroute.router.messages.inputs import Delta, PromptFacts, StepReport
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.radix import cost_kernels as kernels
from radixroute.router.policy.radix.planning import desk_for
from radixroute.router.policy.radix.weights import WEIGHTS
from radixroute.router.policy.view import TIE_MS
from tests.router.scalar_score import (
    MEAN_PREFILL_MS,
    OUTPUT,
    Row,
    held_total,
    scalar_terms,
    terms,
    view,
)
from tests.router.worlds import MS, World, packed, request, token


def random_fleet(rng: random.Random) -> list[Row]:
    return [
        Row(
            f"w{i}",
            in_flight=rng.randint(0, 9),
            decoding=rng.randint(0, 3),
            backlog_ms=rng.choice([0.0, 0.0, 2.0, 80.0, 900.0]),
            step_left_ms=rng.choice([0.0, 7.0]),
            recent_prefill=rng.choice([0.0, 1e4, 1e6]),
            max_batched_tokens=rng.choice([0, 512]),
        )
        for i in range(rng.randint(1, 6))
    ]


def run_plan(
    rows,
    prompts,
    overlaps,
    waited,
    draws,
    *,
    lead_ms=3.0,
    prompts_there=None,
    credits=None,
    longest=None,
    followers=None,
    compute=WEIGHTS.compute,
    outputs=None,
    keys=None,
    mean_wait_ms=100.0,
):
    """The kernel's answer: (order, worker of each or -1, backlogs as they stood, balances)."""
    table = view(*rows).table.copy()
    busy = [float(row.backlog_ms > 0) for row in rows] if prompts_there is None else prompts_there
    table[at.PROMPTS] = busy
    n, w = len(prompts), len(rows)
    asked = kernels.Prompts(
        tokens=np.array(prompts, float),
        output_tokens=np.array([OUTPUT] * n if outputs is None else outputs, float),
        waited_ms=np.array(waited, float),
        draws=np.array(draws, np.uint64),
        overlap_blocks=np.array(overlaps, np.int32).reshape(n, w),
        longest_blocks=np.array(
            [max(held) for held in overlaps] if longest is None else longest, np.int64
        ),
        replica_ms=np.zeros(n) if credits is None else np.array(credits, float),
        followers=np.array([0.0] * n if followers is None else followers, float),
        keys=np.array([key for own in keys or [] for key in own], np.uint64),
        ends=np.cumsum([0] + [len(own) for own in keys or [[]] * n]),
    )
    usual = kernels.Usual(16.0, lead_ms, mean_wait_ms, MEAN_PREFILL_MS, compute, WEIGHTS)
    desk = desk_for(n, w)
    placed = desk.placed
    for left_from_before in (*placed, *desk.scratch):
        left_from_before.fill(1)
    kernels.plan(asked, table, usual, placed, desk.scratch)
    chosen = np.where(placed.is_bound, placed.best, -1)
    # What is spent on a copy counts only for who goes.
    balances = [placed.lost_ms, placed.spent_ms, placed.ttft_ms, placed.prefill_ms]
    balances = [each.tolist() for each in balances]
    return placed.order.tolist(), chosen.tolist(), placed.backlog_ms, balances


def scalar_plan(rows, prompts, overlaps, waited, draws, owns, *, keys, mean_wait_ms):
    """The same from the words of the docstrings, with dicts and loops."""
    rows = [vars(row).copy() for row in rows]
    is_busy = [row["backlog_ms"] > 0 for row in rows]
    given = [False] * len(rows)
    overlaps, owns = [list(own) for own in overlaps], list(owns)
    longest = [max(own) for own in overlaps]

    def least(r):
        plain = view(*(Row(**row) for row in rows), tokens=prompts[r])
        costs = []
        for row, overlap in zip(rows, overlaps[r], strict=True):
            free = Row(**{**row, "overlap": overlap, "in_flight": 0})
            costs.append(scalar_terms(plain, free, [free])["prefill"])
        return min(costs)

    def rank(r):
        work = least(r)
        if waited[r] > WEIGHTS.overdue_waits * mean_wait_ms:
            return (0, -waited[r])
        return (1, -work) if work > WEIGHTS.giant_prefills * MEAN_PREFILL_MS else (2, work)

    order = sorted(range(len(prompts)), key=rank)
    chosen = [-1] * len(prompts)
    lost, spent, ttft, prefill = ([0.0] * len(prompts) for _ in range(4))
    for place, r in enumerate(order):
        now = [Row(**{**row, "overlap": o}) for row, o in zip(rows, overlaps[r], strict=True)]
        what = view(*now, tokens=prompts[r], own=owns[r])
        costs = [scalar_terms(what, row, now, longest[r]) for row in now]
        totals = [sum(cost.values()) for cost in costs]
        ties = [w for w, total in enumerate(totals) if total <= min(totals) + TIE_MS]
        best = ties[draws[r] % len(ties)]
        spent[r] = -costs[best]["replica"]
        if not spent[r]:
            lost[r] = totals[best] - min(held_total(what, row, now, longest[r]) for row in now)
        ttft[r] = costs[best]["queue"] + costs[best]["prefill"] + costs[best]["steps"]
        prefill[r] = costs[best]["prefill"]
        base = now[best].prefill_base_ms
        if given[best]:
            fits = costs[best]["prefill"] - base <= WEIGHTS.join_steps * base
        else:
            fits = not is_busy[best] or rows[best]["backlog_ms"] <= 3.0
        if fits:
            chosen[r] = best
            given[best] = True
            rows[best]["in_flight"] += 1
            for other in order[place + 1 :]:
                shared = n_same(keys[r], keys[other])
                overlaps[other][best] = max(overlaps[other][best], shared)
                is_one_account = longest[r] == longest[other] <= shared
                owns[other] = less(owns[other], spent[r] * is_one_account)
        before = rows[best]["backlog_ms"] or rows[best]["step_left_ms"]
        rows[best]["backlog_ms"] = before + costs[best]["prefill"]
    return order, chosen, [lost, spent, ttft, prefill]


def less(own, spent):
    """What another may spend of an account that so much was taken from."""
    return own._replace(replica_ms=max(0.0, own.replica_ms - spent))


def n_same(some, others):
    """Leading keys that both have."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False))))


@pytest.mark.parametrize("seed", range(300))
def test_the_kernel_plans_as_written(seed):
    rng = random.Random(seed)
    rows, n = random_fleet(rng), rng.randint(1, 9)
    prompts = [rng.choice([1, 40, 700, 3000, 40_000]) for _ in range(n)]
    overlaps = [[rng.choice([0, 0, 2, 40]) for _ in rows] for _ in range(n)]
    waited = [rng.choice([0.0, 50.0, 900.0 + i]) for i in range(n)]
    draws = [rng.getrandbits(64) for _ in range(n)]
    credits = [rng.choice([0.0, 0.0, 4.0, 300.0]) for _ in range(n)]
    followers = [rng.choice([0.0, 0.0, 2.5, 30.0]) for _ in range(n)]
    compute, mean_wait_ms = rng.choice([0.15, 2.0]), rng.choice([1.0, 100.0, 500.0])
    outputs = [rng.choice([1.0, OUTPUT, 900.0]) for _ in range(n)]
    keys = [list(range(rng.choice([0, 2, 60]))) for _ in range(n)]
    for own in keys:  # they part somewhere
        own[rng.randrange(len(own) + 1) :] = [rng.getrandbits(64) for _ in range(3)]
    asked = (rows, prompts, overlaps, waited, draws)
    order, chosen, _, balances = run_plan(
        *asked,
        credits=credits,
        followers=followers,
        compute=compute,
        outputs=outputs,
        keys=keys,
        mean_wait_ms=mean_wait_ms,
    )
    owns = [
        terms(replica_ms=credit, followers=n_followers, compute=compute, output=output)
        for credit, n_followers, output in zip(credits, followers, outputs, strict=True)
    ]
    *expected, balance = scalar_plan(*asked, owns, keys=keys, mean_wait_ms=mean_wait_ms)
    assert [order, chosen] == expected
    np.testing.assert_allclose(balances, balance, rtol=1e-9, atol=1e-9)


def test_the_shortest_goes_first_and_the_others_wait_for_what_it_leaves():
    given = ([900, 400, 600], [[0]] * 3, [0.0] * 3, [0] * 3)
    order, chosen, backlogs, _ = run_plan([Row("a")], *given)
    assert order == [1, 2, 0]
    assert chosen == [-1, 0, -1]
    assert backlogs[2, 0] == 5.0 + 200.0
    assert backlogs[0, 0] == 5.0 + 200.0 + 5.0 + 300.0


def test_small_prompts_join_the_one_given_now():
    chosen = run_plan([Row("a")], [30, 40, 41], [[0]] * 3, [0.0] * 3, [0] * 3)[1]
    assert chosen == [0, 0, -1], "20 ms of its own are four passes' fixed cost, and no more"


def test_giants_and_overdue_ones_go_before_the_shortest():
    prompts = [100, 9000, 50]
    order = run_plan([Row("a")], prompts, [[0]] * 3, [0.0, 0.0, 0.0], [0] * 3)[0]
    assert order == [1, 2, 0]
    order = run_plan([Row("a")], prompts, [[0]] * 3, [401.0, 0.0, 0.0], [0] * 3)[0]
    assert order == [0, 1, 2]


def test_requests_of_one_plan_see_what_those_before_them_compute():
    rows, trunk = [Row("a"), Row("b", in_flight=1)], list(range(99))
    keys = [[*trunk, 500], [*trunk, 600], [n + 1000 for n in trunk]]
    given = ([1600, 1601, 1602], [[0, 0]] * 3, [0.0] * 3, [0] * 3)
    assert run_plan(rows, *given, keys=keys)[1] == [0, 0, 1], "all but 17 tokens are on their way"
    assert run_plan(rows, *given)[1] == [0, 1, -1]


def test_a_credit_is_spent_once_in_a_plan():
    """One copy costs 820 ms and more (above); two requests see the same account of 900."""
    rows = [Row("a", backlog_ms=100.0), Row("b"), Row("c")]
    keys = [[*range(100), 500], [*range(100), 600]]
    asked = (rows, [2000, 2000], [[100, 0, 0]] * 2, [0.0] * 2, [0] * 2)
    _, chosen, _, (_, spent, *_) = run_plan(*asked, credits=[900.0] * 2, keys=keys)
    assert (chosen, spent) == ([1, -1], [900.0, 0.0])
    apart = run_plan(*asked, credits=[900.0] * 2)
    assert apart[1] == [1, 2], "accounts of two prefixes"


def test_each_request_of_a_plan_is_priced_by_its_own_answer():
    """Followers of a long answer would slow down who is there; those of a short one hardly."""
    rows = [Row("a", in_flight=9), Row("b", backlog_ms=100.0)]
    asked = (rows, [20, 20], [[0, 0]] * 2, [0.0] * 2, [0] * 2)
    for outputs in ([1.0, 2000.0], [2000.0, 1.0]):
        chosen = run_plan(*asked, outputs=outputs)[1]
        assert chosen == [0 if output == 1.0 else -1 for output in outputs]


def test_a_request_waits_for_its_prefix_or_goes_elsewhere_whichever_is_sooner():
    holder, other = Row("a", backlog_ms=100.0), Row("b")
    chosen = run_plan([holder, other], [2000], [[100, 0]], [0.0], [0])[1]
    assert chosen == [-1], "200 ms there after 100 of waiting, or 1,000 elsewhere"
    chosen = run_plan([holder, other], [300], [[10, 0]], [0.0], [0])[1]
    assert chosen == [1]


def test_blocks_that_are_only_expected_count_where_they_are_and_nowhere_else():
    maker, other = Row("a", backlog_ms=100.0), Row("b")
    asked = ([maker, other], [2000], [[100, 0]], [0.0], [0])
    _, chosen, _, (lost, spent, *_) = run_plan(*asked, credits=[1e6], longest=[0])
    assert (chosen, lost, spent) == ([-1], [pytest.approx(0.0)], [0.0])


def test_what_a_busy_holder_costs_is_told_and_pays_for_a_copy():
    """100 ms of waiting there; 1,600 tokens more to compute elsewhere: 800 ms, 920 with harm."""
    holder, other = Row("a", backlog_ms=100.0), Row("b")
    asked = ([holder, other], [2000], [[100, 0]], [0.0], [0])
    _, chosen, _, (lost, spent, *_) = run_plan(*asked)
    assert (chosen, lost, spent) == ([-1], [100.0], [0.0])
    _, chosen, _, (lost, spent, *_) = run_plan(*asked, credits=[819.0])
    assert (chosen, lost, spent) == ([-1], [100.0], [0.0])
    _, chosen, _, (lost, spent, *_) = run_plan(*asked, credits=[821.0])
    assert (chosen, lost, spent) == ([1], [0.0], [821.0])
    _, chosen, _, (lost, spent, *_) = run_plan(*asked, credits=[1e6])
    assert (chosen, lost, spent) == ([1], [0.0], [pytest.approx(920.0)]), "no more than it costs"


def test_a_worker_is_given_one_prompt_ahead_and_no_more():
    nearly = Row("a", backlog_ms=2.0)
    assert run_plan([nearly], [500], [[0]], [0.0], [0])[1] == [0]
    assert run_plan([nearly], [500], [[0]], [0.0], [0], lead_ms=1.0)[1] == [-1]
    assert run_plan([nearly], [500], [[0]], [0.0], [0], prompts_there=[2.0])[1] == [-1]


def first_token(world: World, request_id: str, worker: str) -> None:
    facts = PromptFacts(131, 0, 0)
    delta = Delta(request_id, 1, 0, packed(token(request_id, 0)), "x", None, facts)
    world.workers[worker].running[request_id, 1].position = 1
    world.workers[worker].running[request_id, 1].has_reported = True
    report = StepReport(70.0, 131, 0, (delta,))
    world.do(world.core.step(WorkerId(worker), report, world.now_ns))


def test_requests_wait_at_the_router_until_a_worker_is_free():
    world = World("a", dispatch_lead_ms=0.0)
    for n in range(3):
        world.submit(request(f"r{n}", prefix=n, policy="radix"))
    assert world.on("a") == ["r0"]
    assert len(world.core._state.waiting) == 2
    world.now_ns += 70 * MS
    first_token(world, "r0", "a")
    assert world.on("a") == ["r0", "r1"]
    first_token(world, "r1", "a")
    assert world.on("a") == ["r0", "r1", "r2"]


def test_what_a_decision_was_made_from_does_not_change_with_the_next():
    """Plans of one request share their arrays."""
    world = World("a", "b", "c")
    made = []
    for n in range(3):
        what = request(f"r{n}", prefix=n, blocks=20 + n, policy="radix")
        world.index.held[WorkerId("a")] |= set(what.keys[: n + 1].tolist())
        world.submit(what)
        (decision,) = world.core.logged(f"r{n}").decisions
        view = decision.view
        made.append((view, view.table.tolist(), view.overlap_blocks.tolist(), view.own))
    for view, *seen in made:
        assert [view.table.tolist(), view.overlap_blocks.tolist(), view.own] == seen


def test_those_that_come_together_are_planned_together():
    world = World("a")
    for n, blocks in enumerate((40, 20, 30)):
        spec = request(f"r{n}", prefix=n, blocks=blocks, policy="radix")
        world.clients[spec.request_id] = None  # type: ignore[assignment]  # nothing is answered
        assert world.core.submit(spec, 0, is_last=False) == []
    (dispatch,) = world.core.schedule_waiting(0)
    assert isinstance(dispatch, Dispatch)
    assert dispatch.spec.request_id == "r1"


def test_what_one_of_a_plan_brings_is_expected_by_the_next_and_booked_once():
    world, keys = World("a", "b"), []
    for n in range(2):
        spec = request(f"r{n}", prefix=1, blocks=200, shared=199, policy="radix")
        keys.append(spec.keys)
        world.clients[spec.request_id] = None  # type: ignore[assignment]  # nothing is answered
        assert world.core.submit(spec, 0, is_last=False) == []
    first, second = world.core.schedule_waiting(0)
    assert isinstance(first, Dispatch)
    assert isinstance(second, Dispatch)
    assert first.worker_id == second.worker_id
    (decision,) = world.core.logged(second.spec.request_id).decisions
    view, chosen = decision.view, decision.chosen
    assert (view.overlap_blocks[chosen], view.expected_blocks[chosen]) == (199, 199)
    assert not view.held_blocks.any()
    booked = world.core._state.loads.load(first.worker_id).queued_tokens
    assert booked == 200 * 16 + 3 + 16 + 3


def test_the_core_asks_to_be_woken_before_its_worker_is_done():
    world = World("a", dispatch_lead_ms=5.0)
    world.submit(request("r0", prefix=0, policy="radix"))
    nobody_waits = world.core.wake_ns
    assert nobody_waits is None
    world.submit(request("r1", prefix=1, policy="radix"))
    wake_ns = world.core.wake_ns
    assert wake_ns is not None
    world.now_ns = wake_ns - 1 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert world.on("a") == ["r0"]
    world.now_ns = wake_ns
    world.do(world.core.schedule_waiting(world.now_ns))
    assert world.on("a") == ["r0", "r1"], "one prompt ahead: the worker need not wait for us"


def test_the_core_asks_to_be_woken_as_early_where_another_worker_idles_on_purpose():
    wakes = {}
    for workers in ("a", "ab"):
        world = World(*workers, dispatch_lead_ms=3.0)
        for name, blocks, n in (("w0", 700, 1), ("r0", 695, 5), ("r1", 710, 5)):
            world.submit(request(name, prefix=1, blocks=blocks, shared=690, n=n, policy="radix"))
            if name == "w0":
                world.step(next(w for w in workers if world.on(w)))  # it holds the prefix now
        assert world.core.n_waiting == 1, "r1 waits for who holds its prefix"
        wakes[workers] = world.core.wake_ns
    assert wakes["ab"] == wakes["a"]


def test_waiting_for_a_busy_worker_is_no_reason_to_fail():
    world = World("a", no_worker_wait_s=1.0)
    world.submit(request("r0", prefix=0, n=100, policy="radix"))
    late = world.submit(request("r1", prefix=1, policy="radix"))
    for _ in range(40):
        world.pass_time(100 * MS)
    assert late.end is None


def test_queue_order_of_the_shortest_first_baseline():
    world = World("a")
    world.submit(request("r0", prefix=0, blocks=8, policy="dynamo_wspt"))
    world.submit(request("r1", prefix=1, blocks=9, policy="dynamo_wspt"))
    world.submit(request("r2", prefix=2, blocks=4, policy="dynamo_wspt"))
    assert world.on("a") == ["r0"]
    first_token(world, "r0", "a")
    assert world.on("a") == ["r0", "r2"]
