"""Requests of different scopes share no block, those of one share all: in the cache, in events."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.errors import InvalidRequest
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FakeRunner, Listener, assert_at_rest, drain, make_engine, request

SIZE = 4
ADAPTERS = ("X", "Y")
HOLDER = Holder(WorkerId("w"))
# Names that would meet if fields were only put together.
SCOPES = (
    UNSCOPED,
    RequestScope(salt="X"),
    RequestScope(tenant="X"),
    RequestScope(lora="X"),
    RequestScope(lora="Y"),
    RequestScope(lora="X", salt="X"),
    RequestScope(salt="XX"),
    RequestScope(salt="X", tenant="X"),
)


def scoped_engine(n_blocks=64, **engine_settings):
    runner = FakeRunner(n_blocks=n_blocks, block_size=SIZE, adapters=ADAPTERS)
    return make_engine(runner, **engine_settings)[0]


class Router:
    """What a router makes of the events: a real index, asked with the keys of a scope."""

    def __init__(self, engine):
        self.scope = engine_scope(WorkerSettings(), engine.info)
        self.listener = Listener()
        self.index = PrefixIndex(1 << 20)
        self.index.join(HOLDER)

    def hear(self, events):
        self.listener.hear(events)
        for event in events:
            if isinstance(event, BlocksStored):
                self.index.store(HOLDER, event.parent, event.keys, event.tier)
            else:
                assert isinstance(event, BlocksRemoved)
                self.index.remove(HOLDER, event.keys, event.tier)

    def keys(self, tokens, scope):
        return block_keys(np.array(tokens, np.uint32), SIZE, self.scope.seed_of(scope))

    def predicted(self, tokens, scope):
        return self.index.overlaps(self.keys(tokens, scope)).blocks_of(HOLDER) * SIZE


def assert_apart(engine, router):
    """Every shared block of a running request is one of its own scope, by its key."""
    for sequence in engine._scheduler._running:
        lease, scope = sequence.held, sequence.request.scope
        got = [engine._cache._key_by_block[block] for block in lease.table[: lease.n_shared]]
        assert got == router.keys(sequence.tokens, scope)[: lease.n_shared].tolist()


@st.composite
def _jobs(draw):
    trunk = draw(st.lists(st.integers(1, 2), min_size=8, max_size=24))
    jobs = []
    for _ in range(draw(st.integers(2, 8))):
        tail = draw(st.lists(st.integers(1, 2), min_size=1, max_size=6))
        prompt = trunk[: draw(st.integers(0, len(trunk)))] + tail
        job = (draw(st.integers(0, 8)), prompt, draw(st.sampled_from(SCOPES)))
        jobs.append((*job, draw(st.integers(1, 8)), draw(st.none() | st.integers(0, 12))))
    return jobs


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    jobs=_jobs(),
    n_blocks=st.integers(10, 40),
    budget=st.integers(2, 40),
    failing=st.sets(st.integers(0, 20), max_size=1),
)
def test_whatever_runs_together_scopes_never_share_and_routers_predict_what_is_cached(
    jobs, n_blocks, budget, failing
):
    engine = scoped_engine(n_blocks, max_num_batched_tokens=budget, max_num_seqs=4)
    engine._runner.fail_steps = failing
    router = Router(engine)
    for now in range(500):
        for number, (at, prompt, scope, n, abort_at) in enumerate(jobs):
            if at == now:
                name = f"r{number}"
                engine.submit(request(name, prompt, scope=scope, max_tokens=n), now)
            if abort_at == now:
                engine.abort(f"r{number}", 1)
        step = engine.step(now)
        engine.check()
        if step is None:
            if now > 12:
                break
            continue
        router.hear(step.events)
        assert router.listener.keys == engine.resident_keys()
        assert_apart(engine, router)
    assert_at_rest(engine)
    for _, prompt, _, _, _ in jobs:
        whole = np.array([*prompt, 1], np.uint32)  # one token is always left to compute
        for scope in SCOPES:
            cached = engine._cache.cached_tokens(whole, scope)
            assert router.predicted(prompt, scope) == cached
            assert cached == 0 or any(job[2] == scope for job in jobs)


def cached_of(engine, name, prompt, scope):
    engine.submit(request(name, prompt, scope=scope, max_tokens=1), 0)
    outputs, _ = drain(engine)
    return outputs[name][0].prompt.cached_tokens


def test_a_prompt_is_found_again_in_its_own_scope_and_in_no_other():
    engine = scoped_engine(n_blocks=128)
    prompt = list(range(1, 14))
    for number, scope in enumerate(SCOPES):
        assert cached_of(engine, f"a{number}", prompt, scope) == 0
        assert cached_of(engine, f"b{number}", prompt, scope) == 12
    assert len(engine.resident_keys()) == len(SCOPES) * 3


def test_a_scope_that_says_nothing_is_the_one_of_who_says_nothing():
    engine = scoped_engine()
    assert cached_of(engine, "a", list(range(1, 14)), UNSCOPED) == 0
    assert cached_of(engine, "b", list(range(1, 14)), RequestScope()) == 12


def test_tokens_that_look_like_a_scope_are_none():
    """The bytes of a mark, as the first tokens of a prompt that has no scope."""
    engine = scoped_engine()
    mark = RequestScope(salt="abcd").mark
    assert len(mark) == SIZE * 4
    assert cached_of(engine, "a", [1, 2, 3, 4] * 3, RequestScope(salt="abcd")) == 0
    looks_like_it = np.frombuffer(mark, np.uint32).tolist() + [1, 2, 3, 4] * 3
    assert engine._cache.cached_tokens(np.array(looks_like_it, np.uint32)) == 0


def test_an_adapter_nobody_serves_is_refused_by_name():
    engine = scoped_engine()
    with pytest.raises(InvalidRequest, match="lora: names an adapter that this worker does not"):
        engine.submit(request("a", [1, 2], scope=RequestScope(lora="Z")), 0)
    assert engine.scheduler_counters.refused == 1
    assert_at_rest(engine)


def test_the_model_is_told_which_adapter_computes():
    engine = scoped_engine()
    for name, scope in (("a", RequestScope(lora="X")), ("b", RequestScope(salt="X"))):
        engine.submit(request(name, [1, 2, 3], scope=scope, max_tokens=1), 0)
    drain(engine)
    (plan,) = engine._runner.plans
    assert [part.adapter for part in plan.slices] == ["X", ""]
