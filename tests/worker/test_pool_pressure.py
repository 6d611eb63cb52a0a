"""A pool of a tenth of what is asked for: nothing stands still, and the oldest always gets on."""

import pytest

from radixroute.radix.tree.eviction import EVICTION_POLICIES
from tests.worker.fakes import FakeRunner, alone, make_engine, request
from tests.worker.ownership import assert_nothing_is_held, assert_one_owner_each

N_REQUESTS, MAX_TOKENS, BLOCK = 30, 20, 4


def prompts():
    """A third of them begins alike; lengths of 10 to 39 tokens."""
    shared = [1, 2, 3, 4] * 3
    bodies = [[1 + i % 7] * (10 + i) for i in range(N_REQUESTS)]
    return [(shared + body)[: 10 + i] if i % 3 else body for i, body in enumerate(bodies)]


@pytest.mark.parametrize("order", ["youngest", "least_computed"])
@pytest.mark.parametrize("policy", sorted(EVICTION_POLICIES))
def test_with_a_tenth_of_the_memory_all_end_as_alone_and_the_oldest_never_waits(order, policy):
    demand = sum(-(-(len(prompt) + MAX_TOKENS) // BLOCK) for prompt in prompts())
    engine, _ = make_engine(
        FakeRunner(n_blocks=demand // 10),
        max_num_batched_tokens=24,
        max_num_seqs=N_REQUESTS,
        preemption_order=order,
        eviction_policy=policy,
        watermark=0.0,
    )
    sampling = request("x", [1], max_tokens=MAX_TOKENS, ignore_eos=True).sampling
    for i, prompt in enumerate(prompts()):
        engine.submit(request(f"r{i}", prompt, max_tokens=MAX_TOKENS, ignore_eos=True), i)
    told: dict[str, list[int]] = {f"r{i}": [] for i in range(N_REQUESTS)}
    now = N_REQUESTS
    while engine.has_work:
        running = engine._scheduler._running
        oldest = running[0] if running else None
        before = oldest.n_computed if oldest else 0
        now += 1
        for output in engine.step(now).outputs:
            told[output.request_id] += output.token_ids
        engine.check()
        assert_one_owner_each(engine._cache)
        if oldest is not None and oldest.lease is not None:
            assert oldest.n_computed > before
        else:
            assert oldest is None or oldest.key not in engine._scheduler._sequences
        # Each step computes at least one token of the oldest, so this bounds the whole.
        assert now < sum(map(len, prompts())) + N_REQUESTS * (MAX_TOKENS + 1)
    assert told == {f"r{i}": alone(prompt, sampling) for i, prompt in enumerate(prompts())}
    assert engine.scheduler_counters.preemptions > 5
    assert engine.cache_counters.evicted > 0
    assert_nothing_is_held(engine)
