"""`numerics = invariant`: what a token comes to depends on its prefix alone, to the last bit.

Compared are the logits of whatever is sampled and every number that goes into the pool, by prefix,
over batches, chunks, cache hits, preemption, and a request that goes on at another worker.
"""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radixroute.worker.errors import BadSetting, StartFailed
from radixroute.worker.model.attention.invariant import SPLIT
from radixroute.worker.model.layers.invariant_ops import InvariantOps, in_whole_runs
from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.ops import Ops
from radixroute.worker.model.layers.row_tiles import ROWS, must_be_invariant, row_tiles
from radixroute.worker.model.torch_runner import load_runner
from radixroute.worker.settings import WorkerSettings
from tests.worker.families import ROWS as FAMILIES
from tests.worker.families import VOCAB, Row, random_model
from tests.worker.invariance import Bits, Recorder, engine_over, play
from tests.worker.ownership import assert_nothing_is_held
from tests.worker.tiny import BLOCK_SIZE, assert_same, reference_logits, tokens_of, write_model
from tests.worker.tiny_runner import runner_of

pytestmark = pytest.mark.torch

N_BLOCKS = 96  # of each worker: 384 tokens


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return write_model(folder), folder


@pytest.fixture(scope="module")
def workers(llama):
    """Two with a pool and weights of their own."""
    return [runner_of(llama[1], n_blocks=N_BLOCKS, numerics="invariant") for _ in range(2)]


@st.composite
def _jobs(draw):
    """Some share a beginning, which may be longer than a split of the keys."""
    trunk = tokens_of(SPLIT + 20, seed=draw(st.integers(0, 3)))
    jobs = []
    for i in range(draw(st.integers(2, 6))):
        cut = draw(st.integers(0, 12) | st.integers(SPLIT - 20, SPLIT + 20))
        tail = tokens_of(draw(st.integers(1, 24)), seed=100 + draw(st.integers(0, 3)))
        jobs.append(
            {
                "prompt": np.concatenate([trunk[:cut], tail]),
                "n_new": draw(st.integers(1, 6)),
                "at": draw(st.integers(0, 6)),
                "worker": i % 2,
                "moves_at": draw(st.none() | st.integers(1, 12)),
            }
        )
    return jobs


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    jobs=_jobs(),
    budgets=st.tuples(st.sampled_from([3, 17, 40]), st.sampled_from([16, 64, 300])),
    blocks=st.sampled_from([48, N_BLOCKS]),
)
def test_any_plan_gives_every_token_the_bits_it_has_alone(workers, jobs, budgets, blocks):
    logits: Bits = {}
    rows: Bits = {}
    alone = []
    for job in jobs:
        engine = engine_over(Recorder(workers[0], logits, rows), max_num_batched_tokens=512)
        alone += play([engine], [{**job, "at": 0, "worker": 0, "moves_at": None}])
    engines = []
    for worker, budget in zip(workers, budgets, strict=True):
        recorder = Recorder(worker, logits, rows, blocks)
        engines.append(engine_over(recorder, max_num_batched_tokens=budget))
    assert play(engines, jobs) == alone
    again = [{**job, "worker": 1 - job["worker"], "at": 0} for job in jobs]
    assert play(engines, again) == alone  # and with what is cached by now
    for engine in engines:
        assert_nothing_is_held(engine)


def test_the_plans_chunk_batch_hit_preempt_and_move(workers):
    """Without these the property would hold for want of occasion."""
    logits: Bits = {}
    rows: Bits = {}
    engines = []
    for worker in workers:
        recorder = Recorder(worker, logits, rows, 48)
        engines.append(engine_over(recorder, max_num_batched_tokens=40))
    trunk = tokens_of(60)
    jobs: list[dict[str, Any]] = [
        {
            "prompt": np.concatenate([trunk, tokens_of(20 + i, seed=i)]),
            "n_new": 30,
            "at": 0,
            "worker": i % 2,
            "moves_at": 14 if i == 2 else None,
        }
        for i in range(8)
    ]
    play(engines, jobs)
    play(engines, jobs)
    for engine in engines:
        assert engine.scheduler_counters.preemptions > 0
        assert engine.cache_counters.evicted > 0
    assert engines[1].scheduler_counters.resumed > 0


def test_a_pool_of_a_tenth_of_what_is_asked_changes_no_bit(workers):
    jobs: list[dict[str, Any]] = [
        {
            "prompt": np.concatenate([tokens_of(20), tokens_of(12 + i, seed=i)]),
            "n_new": 16,
            "at": i % 3,
            "worker": 0,
            "moves_at": None,
        }
        for i in range(10)
    ]
    n_needed = sum(-(-(len(job["prompt"]) + job["n_new"]) // BLOCK_SIZE) for job in jobs)
    logits: Bits = {}
    rows: Bits = {}
    alone = []
    for job in jobs:
        alone += play([engine_over(Recorder(workers[1], logits, rows))], [{**job, "at": 0}])
    small = Recorder(workers[0], logits, rows, max(15, n_needed // 10))
    engine = engine_over(small, max_num_batched_tokens=24)
    assert play([engine], jobs) == alone
    assert engine.scheduler_counters.preemptions > 2
    assert engine.cache_counters.evicted > 0
    assert_nothing_is_held(engine)


def bits_of(folder, budget):
    """Of every prefix of one request, as a text."""
    runner = runner_of(Path(folder), n_blocks=N_BLOCKS, numerics="invariant")
    logits: Bits = {}
    rows: Bits = {}
    job = {"prompt": tokens_of(SPLIT + 9), "n_new": 8, "at": 0, "worker": 0, "moves_at": None}
    play([engine_over(Recorder(runner, logits, rows), max_num_batched_tokens=budget)], [job])
    assert len(rows) == SPLIT + 9 + 7
    return repr((logits, rows))


@pytest.mark.deep
def test_another_process_comes_to_the_same_bits(llama):
    code = "from tests.worker.test_invariant import *; print(bits_of(sys.argv[1], 19))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(llama[1])], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == bits_of(llama[1], 200)


@pytest.mark.parametrize(
    "row",
    [row for row in FAMILIES if row.name in ("gpt2", "qwen3", "mixtral", "deepseek_v2_full")]
    + [Row("window", "MistralForCausalLM", {"sliding_window": 21})],
    ids=lambda row: row.name,
)
def test_every_family_chunked_and_beside_others_has_the_bits_it_has_alone(row, tmp_path):
    random_model(tmp_path, row)
    runner = runner_of(tmp_path, n_blocks=64, numerics="invariant")
    draw = np.random.default_rng(4)
    trunk = draw.integers(0, VOCAB, 30)
    jobs = [
        {
            "prompt": np.concatenate([trunk[:cut], draw.integers(0, VOCAB, 19)]).astype(np.uint32),
            "n_new": 5,
            "at": at,
            "worker": 0,
            "moves_at": None,
        }
        for at, cut in enumerate((30, 9, 30))
    ]
    logits: Bits = {}
    rows: Bits = {}
    alone = []
    for job in jobs:
        engine = engine_over(Recorder(runner, logits, rows))
        alone += play([engine], [{**job, "at": 0}])
    engine = engine_over(Recorder(runner, logits, rows), max_num_batched_tokens=13)
    assert play([engine], jobs) == alone
    assert play([engine], jobs) == alone


# One call of each operation, over rows x and their places: new ones are added here.
N, WIDTH = 300, 44
WEIGHT = torch.linspace(-1, 1, 50 * WIDTH).sin().view(50, WIDTH)
HEADS = WEIGHT[:, :33].reshape(2, 25, 33)[:, :22].contiguous()
CALLS: dict[str, Any] = {
    "embed": lambda ops, x: ops.embed((x[:, 0].abs() * 9).long() % 50, WEIGHT),
    "linear": lambda ops, x: ops.linear(x, Linear(WEIGHT, WEIGHT[:, 0].contiguous())),
    "rms_norm": lambda ops, x: ops.rms_norm(x, WEIGHT[0], 1e-5),
    "add_norm": lambda ops, x: ops.add_norm(x.clone(), x * 0.3, WEIGHT[0], 1e-5),
    "layer_norm": lambda ops, x: ops.layer_norm(x, WEIGHT[0], WEIGHT[1], 1e-5),
    "gelu": lambda ops, x: ops.gelu(x),
    "per_head": lambda ops, x: ops.per_head(x.view(len(x), 2, -1), HEADS),
    "top_experts": lambda ops, x: torch.cat(ops.top_experts(x[:, :7], 3, normalised=True), -1),
    "join": lambda ops, x: ops.join(x, x),
    "swiglu": lambda ops, x: ops.swiglu(x),
    "rotate": lambda ops, x: ops.rotate(x.view(len(x), 2, -1), WEIGHT[0, :11], WEIGHT[1, :11]),
}


def test_no_operation_is_left_out():
    names = {name for name, _ in inspect.getmembers(Ops, inspect.isfunction)}
    assert set(CALLS) == names - {"rotary_table"}  # made once, of no rows


@pytest.mark.parametrize("name", CALLS)
def test_a_row_of_every_operation_depends_on_itself_alone(name, workers):
    """`workers` has set one thread."""
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(N, WIDTH, generator=draw) * 3
    ops, call = InvariantOps(), CALLS[name]
    whole = call(ops, x)
    for n in (1, 2, 3, 7, 15, 16, 17, 33, 63, 65, 100, 257):
        for start in (0, 1, 30, N - n):
            part = call(ops, x[start : start + n].clone())
            assert torch.equal(part, whole[start : start + n]), f"{n} rows from {start}"


def test_the_fast_product_does_depend_on_more(workers):
    """Else invariance would cost nothing, and the test above prove nothing."""
    x = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(5))
    whole = CALLS["linear"](Ops(), x)
    alone = torch.cat([CALLS["linear"](Ops(), x[i : i + 1].clone()) for i in range(N)])
    assert not torch.equal(alone, whole)


def test_a_function_of_numbers_does_not_depend_on_where_they_are(workers):
    x = torch.randn(7000, generator=torch.Generator().manual_seed(5))
    whole = in_whole_runs(torch.sigmoid, x)
    assert torch.equal(torch.cat([in_whole_runs(torch.sigmoid, one) for one in x.split(7)]), whole)
    assert not torch.equal(torch.cat([torch.sigmoid(one) for one in x.split(7)]), whole)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 63, 64, 80, 255, 256, 300, 1000])
def test_tiles_cover_each_row_once_and_are_of_known_sizes(n):
    tiles = list(row_tiles(n))
    covered = [row for tile in tiles for row in range(tile.first, tile.first + tile.n_own)]
    assert covered == list(range(n))
    assert {tile.rows for tile in tiles} <= set(ROWS)
    assert all(tile.n_own == tile.rows for tile in tiles[:-1])


def test_whole_runs_change_nothing_but_the_last_bits():
    x = torch.linspace(-4, 4, 90).view(9, 10)[:, :7]
    torch.testing.assert_close(in_whole_runs(torch.sigmoid, x), torch.sigmoid(x))


def test_a_product_that_varies_with_its_rows_is_refused_at_the_start():
    """As two threads, or another library, may compute it."""

    def varying(x):
        return x.sum(-1, keepdim=True) + (x.shape[-2] == ROWS[-1]) * 1e-7

    with pytest.raises(StartFailed, match="use numerics = fast"):
        must_be_invariant("a product", varying, (8,))
    must_be_invariant("a product", lambda x: x + 1, (2, 8))


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"device": "cuda"}, "device"), ({"dtype": "bfloat16"}, "dtype"),
     ({"torch_threads": 2}, "torch_threads")],
)  # fmt: skip
def test_settings_that_cannot_be_invariant_are_refused_by_name(changes, name):
    with pytest.raises(BadSetting) as refused:
        WorkerSettings(numerics="invariant", **changes)
    assert refused.value.name == name


def test_it_computes_in_float32_what_transformers_does(llama):
    limits: dict[str, Any] = {"numerics": "invariant", "block_size": BLOCK_SIZE}
    runner = load_runner(WorkerSettings(model=str(llama[1]), kv_memory=1 << 20, **limits))
    assert (runner.facts.dtype, runner.facts.device) == ("float32", "cpu")
    logits: Bits = {}
    prompt = tokens_of(2 * SPLIT - 20)
    job = {"prompt": prompt, "n_new": 1, "at": 0, "worker": 0, "moves_at": None}
    play([engine_over(Recorder(runner, logits, {}, 64), max_num_batched_tokens=37)], [job])
    (found,) = logits.values()
    ours = torch.from_numpy(np.frombuffer(found, np.float32).copy())
    assert_same(ours, reference_logits(llama[0], prompt)[-1])
