"""GGUF files: the model and tokenizer that come out, torn files, and the conversion's folder."""

import json

import pytest

pytest.importorskip("torch")

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.errors import ModelError
from radixroute.worker.model.folder import converted, model_folder
from tests.worker.gguf_writer import TEMPLATE, TOKENS, write_gguf
from tests.worker.tiny import (
    GREEDY,
    assert_same,
    blocks_from,
    part,
    reference_logits,
    tokens_of,
    write_model,
)
from tests.worker.tiny_runner import last_logits, runner_of

pytestmark = pytest.mark.torch

QUANTS = [gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "radixroute" / "models"


@pytest.fixture
def source(tmp_path):
    """Where `transformers` leaves its own copy: not what is under test."""
    return tmp_path / "source"


def llama(source, **changes):
    # Widths that quantisation blocks of 32 divide.
    sizes = {"vocab_size": len(TOKENS), "hidden_size": 96, "intermediate_size": 64, "head_dim": 16}
    return write_model(source, **{**sizes, **changes})


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_a_float32_file_computes_what_transformers_computes(tmp_path, source, monkeypatch, tied):
    model = llama(source, tie_word_embeddings=tied)
    runner = runner_of(model_folder(write_gguf(tmp_path / "tiny.gguf", model)))
    ids = tokens_of(60)
    one = part(ids, blocks_from(0, 60), sampling=GREEDY)
    assert_same(last_logits(runner, monkeypatch, one)[0], reference_logits(model, ids)[-1])
    assert runner.facts.eos_token_ids == (len(TOKENS) - 1,)


@pytest.mark.parametrize("quant", QUANTS, ids=lambda q: q.name)
def test_quantised_matrices_come_out_as_gguf_dequantises_them(tmp_path, source, quant):
    model = llama(source)
    folder = model_folder(write_gguf(tmp_path / "tiny.gguf", model, quant=quant))
    written = load_file(folder / "model.safetensors")
    for name, tensor in model.state_dict().items():
        expected = tensor.numpy()
        if expected.ndim == 2:
            # Rows are quantised one by one, so their order does not matter here.
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, quant), quant)
        assert np.array_equal(written[name].numpy(), expected), name


def test_the_tokenizer_and_chat_template_come_along(tmp_path, source):
    folder = model_folder(write_gguf(tmp_path / "tiny.gguf", llama(source)))
    tokenizer = Tokenizer.from_dir(folder)
    # "12" is a merge, but SmolLM's pre-tokenizer keeps digits apart.
    assert [TOKENS[i] for i in tokenizer.encode("hello w12")] == ["hell", "o", "Ġw", "1", "2"]
    assert TOKENS[tokenizer.encode("<|im_end|>")[0]] == "<|im_end|>"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["chat_template"] == TEMPLATE


def test_a_second_start_converts_nothing(tmp_path, source, cache):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    said: list[str] = []
    first = model_folder(path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert model_folder(path, said.append) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert said == ["reading the GGUF file"]
    assert first.parent == cache


def test_another_content_under_the_same_name_is_another_folder(tmp_path, source):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    first = model_folder(path)
    write_gguf(path, llama(source, rms_norm_eps=0.5))
    assert model_folder(path) != first


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 0.6, 0.95, 0.999])
def test_a_torn_file_is_named_and_leaves_nothing_behind(tmp_path, source, cache, share):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        model_folder(path)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architecture": "gemma3"}, "gemma3"),
        ({"pre": "unheard-of"}, "unheard-of"),
        ({"extra": {"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}}, "q_norm"),
    ],
    ids=["architecture", "pre-tokenizer", "tensor"],
)
def test_what_this_engine_cannot_run_is_refused_by_name(tmp_path, source, changes, word):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source), **changes)
    with pytest.raises(ModelError, match=word):
        model_folder(path)


def test_a_path_that_is_no_model_says_what_to_give(tmp_path):
    with pytest.raises(ModelError, match=r"Hugging Face folder or a \.gguf"):
        model_folder(tmp_path / "nothing.gguf")
    text = tmp_path / "model.txt"
    text.write_text("no")
    with pytest.raises(ModelError, match="neither"):
        model_folder(text)


def test_losing_a_race_of_two_conversions_is_no_error(tmp_path, source):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    folder = tmp_path / "out"

    def rival(_):
        if not folder.is_dir():
            folder.mkdir()
            (folder / "config.json").write_text("the rival's")

    assert converted(path, folder, rival) == folder
    assert (folder / "config.json").read_text() == "the rival's"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []
