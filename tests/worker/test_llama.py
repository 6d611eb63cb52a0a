"""Our forward equals transformers', however the tokens are cut, cached, shared and batched."""

import copy
import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tests.worker.tiny import (
    BLOCK_SIZE,
    Ours,
    assert_same,
    blocks_from,
    part,
    reference_logits,
    table_of,
    tokens_of,
    write_model,
)

pytestmark = pytest.mark.torch

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 48,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return write_model(folder), folder


@pytest.fixture
def ours(llama):
    return Ours(llama[1])


@pytest.mark.parametrize("n_tokens", [1, 2, BLOCK_SIZE, 4 * BLOCK_SIZE + 1, 100])
def test_one_pass_equals_transformers(llama, ours, n_tokens):
    tokens = tokens_of(n_tokens)
    (logits,) = ours.step(part(tokens, blocks_from(3, n_tokens)))
    assert_same(logits, reference_logits(llama[0], tokens))


@pytest.mark.parametrize("chunk", [1, 3, BLOCK_SIZE, 17])
def test_chunks_equal_one_pass(llama, ours, chunk):
    tokens = tokens_of(41)
    table = blocks_from(2, len(tokens))
    found = []
    for start in range(0, len(tokens), chunk):
        found += ours.step(part(tokens[: start + chunk], table, start))
    assert_same(torch.cat(found), reference_logits(llama[0], tokens))


def test_a_cached_prefix_is_read_from_blocks_that_another_sequence_wrote(llama, ours):
    shared, tail = tokens_of(24, seed=1), tokens_of(9, seed=2)
    first = np.concatenate([shared, tokens_of(5, seed=3)])
    ours.step(part(first, blocks_from(0, len(first))))
    second = np.concatenate([shared, tail])
    table = np.concatenate([blocks_from(0, 24), blocks_from(20, 9)])
    (logits,) = ours.step(part(second, table, start=24))
    assert_same(logits, reference_logits(llama[0], second)[24:])


@pytest.mark.parametrize("n_tail", [1, 6])
def test_a_slice_may_read_blocks_that_an_earlier_slice_fills_in_the_same_step(llama, ours, n_tail):
    first = tokens_of(20, seed=1)
    second = np.concatenate([first[:16], tokens_of(n_tail, seed=2)])
    table = np.concatenate([blocks_from(5, 16), table_of(30, 31)])
    found = ours.step(part(first, blocks_from(5, 20)), part(second, table, start=16))
    assert_same(found[0], reference_logits(llama[0], first))
    assert_same(found[1], reference_logits(llama[0], second)[16:])


def test_blocks_may_lie_anywhere_in_any_order(llama, ours):
    tokens = tokens_of(37)
    table = np.random.default_rng(5).permutation(48)[:10].astype(np.int32)
    (head,) = ours.step(part(tokens[:21], table))
    (tail,) = ours.step(part(tokens[:36], table, start=21))
    (last,) = ours.step(part(tokens, table, start=36))
    assert_same(torch.cat([head, tail, last]), reference_logits(llama[0], tokens))


def test_decodes_of_unequal_length_share_a_step_with_a_prefill(llama):
    lengths = [1, 2, 4, 5, 9, 31, 33, 64]
    sequences = [tokens_of(n + 1, seed=n) for n in lengths]
    order = np.random.default_rng(6).permutation(120).astype(np.int32)
    ours = Ours(llama[1], n_blocks=120)
    tables, used = [], 0
    for tokens in sequences:
        n_blocks = -(-len(tokens) // BLOCK_SIZE)
        tables.append(order[used : used + n_blocks])
        used += n_blocks
    for tokens, table in zip(sequences, tables, strict=True):
        ours.step(part(tokens[:-1], table))
    fresh = tokens_of(11, seed=99)
    decodes = [
        part(tokens, table, start=len(tokens) - 1)
        for tokens, table in zip(sequences, tables, strict=True)
    ]
    found = ours.step(*decodes[:3], part(fresh, order[used : used + 3]), *decodes[3:])
    for tokens, logits in zip(sequences, found[:3] + found[4:], strict=True):
        assert_same(logits, reference_logits(llama[0], tokens)[-1:])
    assert_same(found[3], reference_logits(llama[0], fresh))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"head_dim": 20}),
        ("Llama", {"num_key_value_heads": 6}),
        ("Llama", {"num_key_value_heads": 1}),
        ("Llama", {"attention_bias": True, "mlp_bias": True}),
        ("Llama", {"rms_norm_eps": 0.1}),
        ("Llama", {"rope_parameters": LLAMA3}),
        ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
        ("Llama", {"rope_parameters": YARN}),
        ("Llama", {"rope_parameters": {**YARN, "truncate": False, "beta_fast": 8}}),
        ("Qwen2", {"rope_parameters": {**YARN, "attention_factor": 1.3}}),
        ("Qwen2", {}),
        ("Qwen2", {"tie_word_embeddings": True}),
        ("Mistral", {"sliding_window": None}),
    ],
    ids=str,
)
def test_every_kind_of_model_equals_transformers(tmp_path, kind, changes):
    model = write_model(tmp_path, kind, **changes)
    tokens = tokens_of(60)
    (logits,) = Ours(tmp_path).step(part(tokens, blocks_from(4, 60)))
    assert_same(logits, reference_logits(model, tokens))


def test_older_folders_keep_rope_settings_beside_the_sizes(tmp_path):
    model = write_model(tmp_path, rope_parameters=LLAMA3)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    scaling = raw.pop("rope_parameters")
    raw["rope_theta"] = scaling.pop("rope_theta")
    raw["rope_scaling"] = scaling
    path.write_text(json.dumps(raw))
    tokens = tokens_of(60)
    (logits,) = Ours(tmp_path).step(part(tokens, blocks_from(4, 60)))
    assert_same(logits, reference_logits(model, tokens))


def test_bfloat16_is_no_further_from_float32_than_transformers_own(llama):
    model, folder = llama
    tokens = tokens_of(200)
    exact = reference_logits(model, tokens)
    peer = reference_logits(copy.deepcopy(model).to(torch.bfloat16), tokens).float()
    half = Ours(folder, n_blocks=50, dtype=torch.bfloat16)
    (found,) = half.step(part(tokens, blocks_from(0, 200)))
    error, theirs = ((x - exact).pow(2).mean().sqrt() for x in (found, peer))
    assert error < 1.1 * theirs
