"""The runner: which slices give a token, what it says of itself, what it refuses to start with."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from radixroute.request.sampling import SamplingParams
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.runner import StepPlan
from radixroute.worker.errors import ModelError, StartFailed
from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.kv.pool import blocks_that_fit
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.sampling.sampler import Choice, sample
from radixroute.worker.model.torch_runner import choose_device, choose_dtype
from tests.request import samples
from tests.worker.tiny import (
    BLOCK_SIZE,
    GREEDY,
    VOCAB,
    assert_same,
    blocks_from,
    part,
    reference_logits,
    tokens_of,
    write_model,
)
from tests.worker.tiny_runner import last_logits, runner_of

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return write_model(folder), folder


def test_only_slices_that_sample_give_an_id_and_in_their_order(llama):
    model, folder = llama
    runner = runner_of(folder)
    one, inner, three = tokens_of(9, 1), tokens_of(6, 2), tokens_of(13, 3)
    plan = StepPlan(
        (
            part(one, blocks_from(1, 9), sampling=GREEDY),
            part(inner, blocks_from(4, 6)),
            part(three, blocks_from(6, 13), sampling=GREEDY),
        )
    )
    expected = tuple(int(reference_logits(model, run)[-1].argmax()) for run in (one, three))
    assert runner.execute(plan).token_ids == expected
    assert runner.execute(StepPlan((part(inner, blocks_from(4, 6)),))).token_ids == ()
    assert runner.execute(StepPlan(())).token_ids == ()


def test_a_drawn_token_is_the_same_alone_and_in_a_batch(llama):
    runner = runner_of(llama[1])
    warm = SamplingParams(temperature=2.0, seed=11)
    runs = [tokens_of(n, seed=n) for n in (4, 9, 17, 30)]
    tables = [blocks_from(first, 30) for first in (0, 8, 16, 24)]
    parts = [part(run, table, sampling=warm) for run, table in zip(runs, tables, strict=True)]
    together = runner.execute(StepPlan(tuple(parts))).token_ids
    alone = tuple(runner.execute(StepPlan((one,))).token_ids[0] for one in parts)
    assert together == alone
    other = SamplingParams(temperature=2.0, seed=12)
    again = [part(run, table, sampling=other) for run, table in zip(runs, tables, strict=True)]
    assert runner.execute(StepPlan(tuple(again))).token_ids != together


def test_the_random_number_of_a_token_is_keyed_by_its_absolute_position(llama, monkeypatch):
    runner, table = runner_of(llama[1]), blocks_from(1, 20)
    ids, warm = tokens_of(20), SamplingParams(temperature=3.0, seed=5)
    runner.execute(StepPlan((part(ids[:12], table),)))
    found = runner.execute(StepPlan((part(ids, table, start=12, sampling=warm),)))
    logits = last_logits(runner, monkeypatch, part(ids, table, start=12, sampling=warm))
    by_position = {at: sample(logits, [Choice(warm, at)]) for at in range(30)}
    assert found.token_ids == by_position[20]
    assert len(set(by_position.values())) > 10


def test_a_resumed_request_goes_on_as_it_would_have(llama):
    warm, table = SamplingParams(temperature=1.5, seed=77), blocks_from(1, 40)
    ids = tokens_of(10)
    first = runner_of(llama[1])
    start, whole = 0, ids
    for _ in range(12):
        step = StepPlan((part(whole, table, start, sampling=warm),))
        (token,) = first.execute(step).token_ids
        start, whole = len(whole), np.append(whole, np.uint32(token))
    other = runner_of(llama[1])
    for n in range(len(ids), len(whole)):
        resumed = other.execute(StepPlan((part(whole[:n], table, sampling=warm),)))
        assert resumed.token_ids == (whole[n],)


def test_a_slice_without_numbers_is_named_with_its_blocks_and_no_other_changes(llama):
    _, folder = llama
    runner = runner_of(folder)
    good, bad = tokens_of(9, 1), tokens_of(9, 2)
    parts = [part(bad, blocks_from(1, 9), sampling=GREEDY), part(good, blocks_from(8, 9))]
    first = runner.execute(StepPlan(tuple(parts)))
    assert (first.unsound_slices, first.unsound_blocks) == (frozenset(), frozenset())
    with torch.inference_mode():
        runner.pool.planes["k"][0, 2, 1] = torch.nan  # layer 0 of the second block of `bad`
        runner.pool.planes["v"][:, 3, 3] = torch.nan  # behind its last token: nobody wrote there
    one_more = [np.append(run, np.uint32(7)) for run in (bad, good)]
    plan = StepPlan(
        (
            part(one_more[0][:9], blocks_from(1, 9), start=8, sampling=GREEDY),
            part(one_more[0][:9], blocks_from(1, 9), start=8),  # as an inner chunk
            part(one_more[1], blocks_from(8, 10), start=9, sampling=GREEDY),
        )
    )
    step = runner.execute(plan)
    assert step.unsound_slices == {0, 1}
    assert step.unsound_blocks == {2, 3}  # layer 1 of its last token has seen the NaN
    alone = runner.execute(StepPlan((plan.slices[2],)))
    assert step.token_ids == alone.token_ids
    last_layer = runner_of(folder)
    last_layer.execute(StepPlan(tuple(parts)))
    with torch.inference_mode():
        last_layer.pool.planes["k"][1, 2, 1] = torch.nan
    assert last_layer.execute(plan).unsound_blocks == {2}


def test_forbidden_ids_are_not_sampled(llama):
    _, folder = llama
    runner, ids = runner_of(folder), tokens_of(9, 1)
    one = part(ids, blocks_from(1, 9), sampling=GREEDY)
    (best,) = runner.execute(StepPlan((one,))).token_ids
    warm = replace(one, sampling=SamplingParams(temperature=0.01, seed=1), forbidden=(best,))
    barred = replace(one, forbidden=(best, VOCAB + 5))
    (second,), (drawn,) = (runner.execute(StepPlan((p,))).token_ids for p in (barred, warm))
    assert best not in (second, drawn)
    nothing = runner.execute(StepPlan((replace(one, forbidden=tuple(range(VOCAB))), one)))
    assert nothing.unsound_slices == {0}
    assert nothing.token_ids == (best,)
    assert nothing.unsound_blocks == set()


def test_a_sharded_folder_computes_what_a_single_file_does(tmp_path, monkeypatch):
    model = write_model(tmp_path, shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ids = tokens_of(50)
    logits = last_logits(
        runner_of(tmp_path), monkeypatch, part(ids, blocks_from(0, 50), sampling=GREEDY)
    )
    assert_same(logits[0], reference_logits(model, ids)[-1])


def test_facts_say_what_was_loaded(llama):
    facts = runner_of(llama[1], served_model_name="tiny").facts
    assert (facts.model, facts.vocab_size) == ("tiny", VOCAB)
    assert (facts.dtype, facts.device) == ("float32", "cpu")
    assert (facts.kv_blocks_total, facts.block_size) == (64, BLOCK_SIZE)
    assert facts.max_model_len == 256
    assert len(facts.fingerprint) == 32
    half = runner_of(llama[1], dtype="bfloat16").facts
    assert half.dtype == "bfloat16"


def test_the_tokenizers_own_end_ends_answers_too(tmp_path):
    write_model(tmp_path, eos_token_id=[5, VOCAB + 900])
    assert runner_of(tmp_path).facts.eos_token_ids == (
        5,
    )  # an id beyond the vocabulary never comes
    for name, data in samples.byte_level_files(eos_token="<|im_end|>").items():
        (tmp_path / name).write_bytes(data)
    assert Tokenizer.from_dir(tmp_path).eos_token_ids[0] == 3
    assert runner_of(tmp_path).facts.eos_token_ids == (3, 5)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="tokenizer"):
        runner_of(tmp_path)


def test_bfloat16_runs_through_the_pool(llama, monkeypatch):
    runner = runner_of(llama[1], dtype="bfloat16")
    ids, table = tokens_of(40), blocks_from(5, 40)
    runner.execute(StepPlan((part(ids[:39], table),)))
    logits = last_logits(runner, monkeypatch, part(ids, table, start=39, sampling=GREEDY))[0]
    exact = reference_logits(llama[0], ids)[-1]
    assert float(torch.corrcoef(torch.stack([logits, exact]))[0, 1]) > 0.99
    assert logits.dtype is torch.float32
    assert np.isfinite(logits.numpy()).all()


def test_a_pool_too_small_or_too_big_says_what_to_change(llama):
    layout = load_config(llama[1]).layout
    with pytest.raises(StartFailed, match="at least"):
        blocks_that_fit(layout, kv_memory=1000, block_size=16, kv_format=FORMATS["float32"])
    with pytest.raises(StartFailed, match="lower it"):
        runner_of(llama[1], n_blocks=10**10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_device_is_refused():
    with pytest.raises(StartFailed, match="use device"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


@pytest.mark.parametrize("in_hardware", [True, False])
def test_bfloat16_that_a_gpu_only_emulates_is_not_chosen(monkeypatch, in_hardware):
    def supported(including_emulation=True):
        return including_emulation or in_hardware

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    expected = torch.bfloat16 if in_hardware else torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_dtype_auto_follows_the_processor(monkeypatch, has_bf16, expected):
    cpu = torch.device("cpu")
    monkeypatch.setattr("radixroute.worker.model.torch_runner._cpu_has_bf16", lambda: has_bf16)
    assert choose_dtype("auto", cpu) is expected
    assert choose_dtype("float32", cpu) is torch.float32
