"""The whole engine over pools in every format and with a window, on a tiny model."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers

from radixroute.worker.engine.inference import InferenceEngine, engine_scope
from radixroute.worker.engine.runner import StepPlan
from radixroute.worker.engine.window import most_blocks_at_once
from radixroute.worker.errors import BadSetting
from radixroute.worker.model.kv.formats import AUTO, FORMATS
from radixroute.worker.model.kv.plan import KVPlan
from radixroute.worker.model.kv.pool import new_pool
from radixroute.worker.model.kv.shape import read_shape
from radixroute.worker.model.registry import load_config
from radixroute.worker.settings import KV_DTYPES, WorkerSettings
from tests.worker.fakes import FakeClock, assert_at_rest, drain, ids, request
from tests.worker.families import ROWS, SIZES
from tests.worker.tiny import (
    BLOCK_SIZE,
    GREEDY,
    Ours,
    assert_same,
    blocks_from,
    part,
    reference_logits,
    tokens_of,
    write_model,
)
from tests.worker.tiny_runner import runner_of

pytestmark = pytest.mark.torch
WINDOW, N_NEW = 9, 16
LOSSY = [name for name in FORMATS if name != "float32"]


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistral")
    return write_model(folder, "Mistral", sliding_window=WINDOW), folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return write_model(folder), folder


def engine_of(folder, n_blocks, **changes):
    settings = WorkerSettings(watermark=0.0, max_num_seqs=4, **changes)
    kept = {name: changes[name] for name in ("kv_dtype",) if name in changes}
    runner = runner_of(folder, n_blocks=n_blocks, **kept)
    return InferenceEngine(settings, runner, FakeClock(tick_ns=1000))


def greedy(model, prompt, n_new=N_NEW):
    tokens = list(prompt)
    for _ in range(n_new):
        tokens.append(int(reference_logits(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]


def told(engine, prompts, n_new=N_NEW):
    for at, prompt in enumerate(prompts):
        sampling = {"temperature": 0.0, "max_tokens": n_new, "ignore_eos": True}
        engine.submit(request(f"r{at}", prompt, **sampling), 0)
    outputs, _ = drain(engine)
    assert_at_rest(engine)
    return [ids(outputs[f"r{at}"]) for at in range(len(prompts))]


def test_a_windowed_model_equals_transformers(mistral):
    model, folder = mistral
    tokens = tokens_of(60)
    ours = Ours(folder)
    (whole,) = ours.step(part(tokens, blocks_from(4, 60)))
    reference = reference_logits(model, tokens)
    assert_same(whole, reference)
    ours = Ours(folder)
    for start, stop in ((0, 7), (7, 30), (30, 31), (31, 59), (59, 60)):
        (chunk,) = ours.step(part(tokens[:stop], blocks_from(4, 60), start))
        assert_same(chunk, reference[start:stop])


def test_in_a_pool_of_a_window_and_a_step_greedy_ids_are_those_of_transformers(mistral):
    """Longer than the pool, chunked, batched, preempted, and again with what is still cached."""
    model, folder = mistral
    first, budget = tokens_of(50, 1), 6
    prompts = [first, first[:5], tokens_of(4, 2)]
    wanted = [greedy(model, prompt) for prompt in prompts]
    n_blocks = most_blocks_at_once(100, BLOCK_SIZE, WINDOW, budget) + 2
    assert n_blocks * BLOCK_SIZE < 50
    engine = engine_of(folder, n_blocks, max_num_batched_tokens=budget)
    assert told(engine, prompts) == wanted
    assert engine.scheduler_counters.preemptions > 0
    assert told(engine, prompts) == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_in_every_format_cached_chunked_and_batched_answers_are_alike(llama, name):
    prompts = [tokens_of(30, 1), tokens_of(21, 2)]
    alone = [told(engine_of(llama[1], 64, kv_dtype=name), [one])[0] for one in prompts]
    together = engine_of(llama[1], 64, kv_dtype=name, max_num_batched_tokens=7)
    assert told(together, prompts) == alone
    assert told(together, prompts) == alone  # from the cache
    assert together.cache_counters.stored > 0


# Mean change of a logit; their standard deviation is about 2 here.
@pytest.mark.parametrize(
    ("name", "far"),
    [("float16", 0.005), ("bfloat16", 0.03), ("int8", 0.06), ("fp8_e4m3", 0.4)],
)
def test_a_format_changes_logits_by_its_rounding_and_no_more(llama, name, far):
    model, folder = llama
    tokens = tokens_of(40)
    ours = Ours(folder, kv_format=FORMATS[name])
    (found,) = ours.step(part(tokens, blocks_from(4, 40)))
    exact = reference_logits(model, tokens)
    assert far / 10 < float((found - exact).abs().mean()) < far


@pytest.mark.parametrize("name", LOSSY)
def test_a_sequence_without_numbers_is_found_in_every_format(llama, name):
    runner = runner_of(llama[1], kv_dtype=name)
    prompt = tokens_of(9, 1)
    runner.execute(StepPlan((part(prompt, blocks_from(1, 9), sampling=GREEDY),)))
    with torch.inference_mode():
        held = runner.pool.scales if runner.pool.scales else runner.pool.planes
        held["v"][0, 2, 1] = torch.nan
    longer = np.append(prompt, np.uint32(7))
    step = runner.execute(StepPlan((part(longer, blocks_from(1, 12), 9, GREEDY),)))
    assert step.unsound_slices == {0}
    assert 2 in step.unsound_blocks


def test_workers_of_two_formats_share_nothing(llama):
    engines = [engine_of(llama[1], 8, kv_dtype=name) for name in ("auto", "float32", "int8")]
    scopes = [engine_scope(WorkerSettings(), engine.info).fingerprint for engine in engines]
    assert scopes[0] == scopes[1] != scopes[2]
    assert [engine.info.kv_dtype for engine in engines] == ["float32", "float32", "int8"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_plan_is_exact_to_the_byte_for_every_family(tmp_path, row):
    made = getattr(transformers, row.architecture).config_class
    sizes = {name: value for name, value in SIZES.items() if name not in row.drops}
    config = made(**{**sizes, **row.changes}, architectures=[row.architecture])
    config.save_pretrained(tmp_path)
    layout, shape = load_config(tmp_path).layout, read_shape(tmp_path)
    assert shape.layouts == (layout,)
    for kv_format in FORMATS.values():
        plan = KVPlan(shape, kv_format, block_size=8, memory=1_000_000)
        pool = new_pool(
            layout,
            plan.n_blocks,
            8,
            dtype=torch.float32,
            device=torch.device("cpu"),
            kv_format=kv_format,
        )
        assert pool.n_bytes == plan.n_tokens * plan.bytes_per_token
        assert pool.n_bytes <= plan.memory < pool.n_bytes + plan.block_bytes


@pytest.mark.parametrize("block_size", [8, 32, 256])
def test_blocks_of_any_size_hold_the_bytes_that_are_counted(llama, block_size):
    from radixroute.worker.model.torch_runner import load_runner

    layout = load_config(llama[1]).layout
    memory = 3 * layout.bytes_per_token(FORMATS["int8"]) * block_size
    settings = WorkerSettings(
        model=str(llama[1]),
        device="cpu",
        dtype="float32",
        kv_dtype="int8",
        block_size=block_size,
        kv_memory=memory,
    )
    runner = load_runner(settings)
    assert (runner.pool.n_blocks, runner.pool.n_bytes) == (3, memory)
    engine = InferenceEngine(settings, runner, FakeClock(tick_ns=1000))
    assert len(told(engine, [tokens_of(10)], n_new=8)[0]) == 8


def test_the_setting_knows_every_format_and_no_other():
    assert set(KV_DTYPES) == {AUTO, *FORMATS}
    with pytest.raises(BadSetting, match="kv_dtype"):
        WorkerSettings(kv_dtype="int4")
