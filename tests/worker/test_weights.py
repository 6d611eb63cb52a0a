"""Model folders that are incomplete, torn or of another kind: the error names the file."""

import json

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from radixroute.worker.errors import ModelError
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.weights import fingerprint
from tests.worker.tiny import (
    VOCAB,
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

WEIGHTS = "model.safetensors"
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path)
    return tmp_path


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def reconfigure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_missing_tensor_is_named(folder):
    rewrite(folder, lambda tensors: tensors.pop(Q))
    with pytest.raises(ModelError, match=Q):
        runner_of(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    rewrite(folder, lambda tensors: tensors.update({Q: torch.zeros(8, 48)}))
    with pytest.raises(ModelError, match=r"\(8, 48\).*\(48, 48\)"):
        runner_of(folder)


def test_a_tensor_we_would_ignore_is_refused(folder):
    name = "model.layers.0.self_attn.q_norm.weight"
    rewrite(folder, lambda tensors: tensors.update({name: torch.ones(8)}))
    with pytest.raises(ModelError, match="q_norm"):
        runner_of(folder)


def test_rotary_buffers_of_old_checkpoints_are_no_strangers(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(folder, lambda tensors: tensors.update({name: torch.ones(8)}))
    runner_of(folder)


def test_a_tied_model_uses_its_embedding_even_when_it_carries_a_head(tmp_path):
    model = write_model(tmp_path, tie_word_embeddings=True)
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(VOCAB, 48)}))
    ids = tokens_of(9)
    (logits,) = Ours(tmp_path).step(part(ids, blocks_from(0, 9)))
    assert_same(logits, reference_logits(model, ids))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_torn_weights_are_named(folder, share):
    path = folder / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=WEIGHTS):
        runner_of(folder)


def test_missing_weights_are_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=WEIGHTS):
        runner_of(folder)


def test_a_missing_configuration_is_named(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        load_config(folder)


def test_a_missing_shard_is_named(tmp_path):
    write_model(tmp_path, shard_size="50KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=gone.name):
        runner_of(tmp_path)


def test_a_garbled_shard_index_is_named(tmp_path):
    write_model(tmp_path, shard_size="50KB")
    index = tmp_path / "model.safetensors.index.json"
    texts = ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 100_000)
    for garbled in texts:
        index.write_text(garbled)
        with pytest.raises(ModelError, match="index"):
            runner_of(tmp_path)


@pytest.mark.parametrize("name", ["../{}", "/{}", "sub/{}", "..", ""])
def test_an_index_that_leaves_its_folder_is_refused(tmp_path, name):
    folder = tmp_path / "model"
    write_model(folder, shard_size="50KB")
    index = folder / "model.safetensors.index.json"
    shards = json.loads(index.read_text())
    tensor, shard = next(iter(shards["weight_map"].items()))
    (folder / shard).rename(tmp_path / shard)
    shards["weight_map"][tensor] = name.format(
        f"{tmp_path / shard}"[1:] if name == "/{}" else shard
    )
    index.write_text(json.dumps(shards))
    with pytest.raises(ModelError, match="no file of its folder"):
        runner_of(folder)


def test_a_missing_head_is_missed_unless_the_model_is_tied(folder):
    rewrite(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        runner_of(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_quantised_tensors_are_not_taken_for_weights(folder, dtype):
    rewrite(folder, lambda tensors: tensors.update({Q: tensors[Q].to(dtype)}))
    with pytest.raises(ModelError, match="quantised"):
        runner_of(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    write_model(tmp_path, shard_size="50KB")
    first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
    both = {**load_file(first), **load_file(second)}
    save_file(both, second, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=second.name):
        runner_of(tmp_path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "Gemma"),
        ({"architectures": None}, "none"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 4.0}}, "longrope"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"architectures": ["MixtralForCausalLM"], "sliding_window": 128}, "sliding"),
        ({"num_hidden_layers": "many"}, "config"),
        ({"hidden_size": None}, "config"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(folder, changes, word):
    reconfigure(folder, **changes)
    with pytest.raises(ModelError, match=word):
        load_config(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_garbled_configuration_is_named(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        load_config(folder)


def test_end_tokens_come_from_the_generation_configuration(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    assert load_config(folder).eos_token_ids == (5, 6)


def test_one_changed_weight_or_setting_changes_the_fingerprint(folder):
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    rewrite(folder, lambda tensors: tensors[Q].view(-1)[7].add_(1e-3))
    changed = fingerprint(folder)
    reconfigure(folder, rms_norm_eps=1e-3)
    assert len({before, changed, fingerprint(folder)}) == 3
