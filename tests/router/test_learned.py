"""Blocks learned from decisions: where prompts were sent, for a while, and no more than fits."""

import random

import numpy as np

from radixroute.radix.ids import Holder, Keys, WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.counters import Count
from radixroute.router.policy.radix.learned import LearnedBlocks
from radixroute.router.policy.radix.prefix_approx import PrefixApprox
from tests.router.worlds import MS, S, World, request

A, B = WorkerId("a"), WorkerId("b")
TTL = 100


def learned_of(world: World) -> LearnedBlocks:
    policy = world.core._state.selector.policy("prefix_approx")
    assert isinstance(policy, PrefixApprox)
    return policy.learned


def keys(*names: int) -> Keys:
    return np.array(names, np.uint64)


def overlap(learned: LearnedBlocks, worker: WorkerId, *names: int) -> int:
    return learned.overlaps(keys(*names)).blocks_of(Holder(worker))


def test_a_prompt_is_thought_to_be_where_it_was_sent():
    learned = LearnedBlocks(TTL)
    learned.learn(A, keys(1, 2, 3), capacity=0, now_ns=0)
    assert overlap(learned, A, 1, 2, 9) == 2
    learned.learn(B, keys(1, 9), capacity=0, now_ns=0)
    assert (overlap(learned, A, 1, 9), overlap(learned, B, 1, 9)) == (1, 2)


def test_what_is_sent_again_lives_on_and_the_rest_lapses():
    learned = LearnedBlocks(TTL)
    learned.learn(A, keys(1, 2, 3), capacity=0, now_ns=0)
    learned.learn(A, keys(1, 2, 4), capacity=0, now_ns=50)
    assert learned.expire(99) == 0
    assert learned.expire(100) == 1
    assert (overlap(learned, A, 1, 2, 3), overlap(learned, A, 1, 2, 4)) == (2, 3)
    assert learned.expire(150) == 3
    assert learned.n_blocks(A) == 0


def test_no_more_is_believed_than_fits_the_cache_least_recently_sent_first():
    learned = LearnedBlocks(TTL)
    learned.learn(A, keys(1, 2, 3), capacity=5, now_ns=0)
    assert learned.learn(A, keys(7, 8, 9), capacity=5, now_ns=1) == 1
    assert (overlap(learned, A, 1, 2, 3), overlap(learned, A, 7, 8, 9)) == (2, 3)


def test_all_workers_together_are_bounded():
    learned = LearnedBlocks(TTL, max_blocks=8)
    learned.learn(A, keys(*range(1, 8)), capacity=100, now_ns=0)
    learned.learn(B, keys(*range(11, 18)), capacity=100, now_ns=0)
    assert learned.learn(A, keys(1), capacity=100, now_ns=0) == 3
    assert (learned.n_blocks(A), learned.n_blocks(B)) == (4, 4)


def test_a_lost_worker_holds_nothing():
    learned = LearnedBlocks(TTL)
    learned.learn(A, keys(1, 2), capacity=0, now_ns=0)
    learned.forget(A)
    learned.learn(A, keys(5), capacity=0, now_ns=60)
    assert overlap(learned, A, 1, 2) == 0
    assert learned.expire(100) == 0  # the older decision's time is not the newer one's
    learned.check()


def test_it_is_what_remembering_each_block_by_hand_gives():
    rng, learned, now = random.Random(4), LearnedBlocks(TTL), 0
    sent: dict[tuple[WorkerId, int], int] = {}
    for _ in range(600):
        now += rng.choice((0, 1, 7, 30))
        learned.expire(now)
        worker = rng.choice((A, B))
        names = [1]
        while len(names) < rng.randint(1, 6):
            names.append(names[-1] * 3 + rng.randrange(3))
        learned.learn(worker, keys(*names), capacity=0, now_ns=now)
        sent |= {(worker, name): now + TTL for name in names}
        learned.check()
        for worker in (A, B):
            wanted = 0
            while wanted < len(names) and sent.get((worker, names[wanted]), -1) > now:
                wanted += 1
            assert overlap(learned, worker, *names) == wanted


def places(policy: str, *, told: bool) -> list[str]:
    """Where requests of three prefixes go; `told`: and events say that b holds all of them."""
    world = World("a", "b", "c")
    for n in range(24):
        what = request(f"r{n}", n % 3, policy=policy, n=2, blocks=32, shared=32)
        if told:
            world.index.held[B].update(what.keys.tolist())
        world.core.cache_believed(B, is_fresh=told)
        world.submit(what)
        for w in "abc":
            world.step(w)
    world.settle()
    assert all(client.end is FinishReason.LENGTH for client in world.clients.values())
    return [world.core._state.log.get(f"r{n}").decisions[0].worker_id for n in range(24)]


def test_prefix_approx_never_reads_the_index_that_events_feed():
    assert places("prefix_approx", told=True) == places("prefix_approx", told=False)
    assert places("radix", told=True) != places("radix", told=False)


def test_prefix_approx_goes_where_it_sent_the_prefix_until_that_lapses():
    world = World("a", "b", learned_ttl_s=1.0)
    for n, wait_ns in enumerate((0, 500 * MS, 2 * S)):
        world.pass_time(wait_ns)
        world.submit(request(f"r{n}", 7, policy="prefix_approx", n=1, blocks=64, shared=64))
        for w in "ab":
            world.step(w)
    decisions = [world.core._state.log.get(f"r{n}").decisions[0] for n in range(3)]
    believed = [decision.view.overlap_blocks.max() for decision in decisions]
    assert believed == [0, 64, 0]
    assert decisions[1].worker_id == decisions[0].worker_id
    assert world.core._state.counters[Count.LEARNED_LAPSED] == 64


def test_a_worker_that_died_is_not_thought_to_hold_what_it_was_sent():
    world = World("a", "b")
    world.submit(request("r0", 7, policy="prefix_approx", n=1, blocks=64, shared=64))
    first = "a" if world.on("a") else "b"
    world.kill(first)
    assert learned_of(world).n_blocks(WorkerId(first)) == 0
    world.settle()
