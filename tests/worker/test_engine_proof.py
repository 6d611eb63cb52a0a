"""The engine proof: shared, evicted and preempted, its ids are those of `transformers`."""

import time
from dataclasses import replace

import pytest

from radixroute.worker.settings import WorkerSettings
from tests.worker.proof import (
    MODEL,
    N_NEW,
    N_PROMPTS,
    Case,
    judge,
    load_cases,
    make_prompts,
    reference_cases,
    run_engine,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not MODEL.is_dir(), reason="no model: run `make model`"),
]

# 2,240 tokens: less than two of the longest prompts, so that requests give way to one another.
POOL_BLOCKS = 140
FLOAT32_BLOCK_BYTES = 16 * 46_080
FEW_NEW = 8  # new tokens of a short case


SETTINGS = WorkerSettings(
    model=str(MODEL),
    dtype="float32",
    device="cpu",
    kv_memory=POOL_BLOCKS * FLOAT32_BLOCK_BYTES,
    watermark=0.0,
)


@pytest.fixture(scope="module")
def runner():
    """One loaded model for all; each engine has a cache of its own."""
    from radixroute.worker.model.torch_runner import load_runner

    return load_runner(SETTINGS)


def new_engine(runner, blocks=POOL_BLOCKS):
    """A fresh engine over a pool as empty as at a start, of which it uses so many blocks."""
    import torch

    from radixroute.worker.engine.inference import InferenceEngine
    from radixroute.worker.model.torch_runner import TorchRunner

    with torch.inference_mode():
        for plane in runner.pool.planes.values():
            plane.zero_()
    facts = replace(runner.facts, kv_blocks_total=blocks)
    fewer = TorchRunner(runner._model, runner.pool, facts, runner._attention)
    return InferenceEngine(SETTINGS, fewer, time.monotonic_ns)


@pytest.fixture
def engine(runner):
    return new_engine(runner)


def whole_cases():
    """Longest first: what runs together then grows together, and somebody must give way."""
    cases = sorted(load_cases(), key=lambda case: -len(case.prompt))
    assert len(cases) == N_PROMPTS
    assert all(len(case.ids) == N_NEW for case in cases)
    return cases


def shortened(case, n_new):
    return Case(case.prompt, case.ids[:n_new], case.margins[:n_new])


def test_batched_ids_equal_each_prompt_alone(runner, capsys):
    """Every second prompt of less than 300 tokens, in a pool that holds fewer than two of those."""
    cases = [shortened(case, 16) for case in whole_cases() if len(case.prompt) < 300][::2]
    assert_as_alone(new_engine(runner, blocks=28), cases, (8, 50, 2), capsys)


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_batched_ids_of_all_prompts_equal_each_alone(runner, capsys):
    assert_as_alone(new_engine(runner), whole_cases(), (20, 100, 10), capsys)


def assert_as_alone(engine, cases, least, capsys):
    """`least`: cached prefixes, evicted blocks and preemptions without which it proves little."""
    n_new = len(cases[0].ids)
    outcome = run_engine(engine, [case.prompt for case in cases], n_new)
    did = outcome.cached_prefixes, outcome.evicted_blocks, outcome.preemptions
    assert all(n >= bound for n, bound in zip(did, least, strict=True)), did
    ties, differences = judge(cases, outcome.ids)
    with capsys.disabled():
        print(
            f"\n{len(cases)} prompts: {outcome.cached_prefixes} cached prefixes, "
            f"{outcome.evicted_blocks} evicted blocks, {outcome.preemptions} preemptions; "
            f"ties: {ties or 'none'}"
        )
    assert differences == []
    assert len(ties) <= 1


@pytest.fixture(scope="module")
def short_cases():
    """A few prompts that share a prefix and a few tokens of each: enough for a mutation to show."""
    cases = [case for case in load_cases() if 100 <= len(case.prompt) <= 220][:3]
    return [shortened(case, FEW_NEW) for case in cases]


def test_the_short_cases_pass_unharmed(engine, short_cases):
    prompts = [case.prompt for case in short_cases]
    run_engine(engine, prompts, FEW_NEW)
    again = run_engine(engine, prompts, FEW_NEW)
    assert again.cached_prefixes == len(prompts)
    assert judge(short_cases, again.ids)[1] == []


def test_one_zeroed_cached_block_is_found_out(runner, engine, short_cases):
    import torch

    prompts = [case.prompt for case in short_cases]
    run_engine(engine, prompts, FEW_NEW)
    # The first block of the pool to be filled: the head of the first prompt, still cached.
    used = runner.pool.planes["k"].abs().sum(dim=(0, 2, 3, 4)).nonzero().flatten().tolist()
    with torch.inference_mode():
        for plane in runner.pool.planes.values():
            plane[:, used[0]] = 0
    again = run_engine(engine, prompts, FEW_NEW)
    assert again.cached_prefixes == len(prompts)
    assert judge(short_cases, again.ids)[1] != []


def test_one_dropped_token_is_found_out(engine, short_cases):
    harmed = [case.prompt[:40] + case.prompt[41:] for case in short_cases]
    outcome = run_engine(engine, harmed, FEW_NEW)
    assert judge(short_cases, outcome.ids)[1] != []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_committed_reference_is_what_transformers_says():
    from radixroute.request.tokenizer import Tokenizer

    committed = load_cases()
    prompts = make_prompts(Tokenizer.from_dir(MODEL))
    assert prompts == [case.prompt for case in committed]
    fresh = reference_cases(prompts)
    ties, differences = judge(committed, [case.ids for case in fresh])
    assert differences == []
    assert len(ties) <= 1
