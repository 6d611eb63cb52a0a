"""What nobody owns never reaches an answer: the engine over a pool whose free blocks are poison.

Free blocks are filled before every step, so a block that is handed out is poison too until each of
its slots is written. The reference is the same requests, each alone over a clean pool.
"""

import math

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.settings import WorkerSettings
from tests.worker.tiny import BLOCK_SIZE, tokens_of, write_model
from tests.worker.tiny_runner import runner_of

pytestmark = pytest.mark.torch

N_BLOCKS = 24  # too few for all: requests give way to one another
POISON = (math.nan, math.inf, -math.inf)


@pytest.fixture(scope="module", params=["fast", "invariant"])
def runner(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("llama")
    write_model(folder)
    return runner_of(folder, n_blocks=N_BLOCKS, numerics=request.param)


def engine_over(runner, **changes):
    limits = {"watermark": 0.0, "block_size": BLOCK_SIZE, **changes}
    return InferenceEngine(WorkerSettings(**limits), runner, lambda: 0)


@torch.inference_mode()
def fill(runner, blocks, value):
    for plane in runner.pool.planes.values():
        plane[:, blocks] = value


def answers(engine, runner, prompts, n_new, poison):
    nothing = np.empty(0, np.uint32)
    sampling = SamplingParams(temperature=0.0, max_tokens=n_new, ignore_eos=True)
    for i, prompt in enumerate(prompts):
        engine.submit(EngineRequest(str(i), 1, "s", prompt, sampling, nothing), i)
    found: list[list[int]] = [[] for _ in prompts]
    now = len(prompts)
    while engine.has_work:
        fill(runner, sorted(engine._cache._blocks._free), poison)
        now += 1
        for output in engine.step(now).outputs:
            assert output.error == ""
            found[int(output.request_id)] += output.token_ids
    return found


@st.composite
def _prompts(draw):
    """Some share a beginning; some are single tokens, which are read in one padded batch."""
    trunk = tokens_of(16, seed=draw(st.integers(0, 3)))
    lengths = draw(st.lists(st.integers(1, 30), min_size=2, max_size=6))
    cuts = [draw(st.integers(0, min(16, length - 1))) for length in lengths]
    return [
        np.concatenate([trunk[:cut], tokens_of(length - cut, seed=100 + i)])
        for i, (length, cut) in enumerate(zip(lengths, cuts, strict=True))
    ]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    prompts=_prompts(),
    n_new=st.integers(2, 9),
    budget=st.sampled_from([5, 16, 64]),
    poison=st.sampled_from(POISON),
)
def test_batched_chunked_cached_and_preempted_answers_are_those_of_a_clean_pool(
    runner, prompts, n_new, budget, poison
):
    clean = [
        answers(engine_over(runner), runner, [prompt], n_new, poison=0.0)[0] for prompt in prompts
    ]
    engine = engine_over(runner, max_num_batched_tokens=budget)
    assert answers(engine, runner, prompts, n_new, poison) == clean
    # Once more: what was cached is read, the rest of the pool is poison.
    assert answers(engine, runner, prompts, n_new, poison) == clean


def test_the_workload_preempts_caches_and_chunks(runner):
    """Without these the property would hold for want of occasion."""
    engine = engine_over(runner, max_num_batched_tokens=16)
    prompts = [tokens_of(30, seed=seed) for seed in range(6)]
    answers(engine, runner, prompts, 9, math.nan)
    assert engine.scheduler_counters.preemptions > 0
    assert engine.cache_counters.evicted > 0
    assert engine._cache.cached_tokens(prompts[-1]) > 0


def test_a_cached_block_gone_bad_ends_one_request_and_is_not_read_again(runner):
    prompt = tokens_of(20, seed=9)
    engine = engine_over(runner)
    expected = answers(engine, runner, [prompt], 4, poison=0.0)
    lease = engine._cache.acquire(prompt)
    engine._cache.release(lease)
    fill(runner, [lease.table[2]], math.nan)
    sampling = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    nothing = np.empty(0, np.uint32)
    engine.submit(EngineRequest("bad", 1, "s", prompt, sampling, nothing), 0)
    (end,) = engine.step(1).outputs
    assert "NaN or infinity" in end.error
    engine.check()
    assert engine._cache.cached_tokens(prompt) == 2 * BLOCK_SIZE
    assert answers(engine, runner, [prompt], 4, poison=math.nan) == expected
