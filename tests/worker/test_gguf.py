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
from tests.worker import gguf_writer
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


def llama3_like(tmp_path, source, sizes=None, **changes):
    model = llama(source, **(sizes or {}))
    path = write_gguf(tmp_path / "tiny.gguf", model, pre="llama-bpe", **changes)
    folder = model_folder(path)
    return folder, Tokenizer.from_dir(folder)


def test_llama3_takes_whole_words_before_merges_and_begins_with_bos(tmp_path, source, monkeypatch):
    monkeypatch.setattr(gguf_writer, "TOKENS", [*TOKENS[:-2], "hello", "<|eot_id|>", *TOKENS[-2:]])
    _, tokenizer = llama3_like(tmp_path, source, sizes={"vocab_size": len(TOKENS) + 2})
    names = gguf_writer.TOKENS
    # No merge makes "hello": with merges alone it would be "hell" and "o".
    assert [names[i] for i in tokenizer.encode("hello hello")] == [
        "<|im_start|>",
        "hello",
        *("Ġ", "hell", "o"),
    ]


def test_every_end_of_a_turn_is_an_end(tmp_path, source):
    """Stated as eos, eot or eom, or known by its name."""

    def more(writer):
        writer.add_eot_token_id(5)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 6)

    folder, tokenizer = llama3_like(tmp_path, source, more=more)
    end = len(TOKENS) - 1
    assert runner_of(folder).facts.eos_token_ids == (5, 6, end)
    assert tokenizer.eos_token_ids == (5, 6, end)


def test_a_file_may_say_that_no_bos_is_due(tmp_path, source):
    _, tokenizer = llama3_like(tmp_path, source, more=lambda w: w.add_add_bos_token(False))
    assert [TOKENS[i] for i in tokenizer.encode("w")] == ["w"]


FREQUENCIES = torch.tensor([1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0])


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("factors", [None, FREQUENCIES], ids=["plain", "rope_freqs"])
def test_stretched_frequencies_are_those_of_the_file(tmp_path, source, monkeypatch, factors, typed):
    model = llama(source)

    def more(writer):
        writer.add_rope_scaling_factor(2.0)
        if typed:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)

    extra = {} if factors is None else {"rope_freqs.weight": factors}
    path = write_gguf(tmp_path / "tiny.gguf", model, extra=extra, more=more)
    runner = runner_of(model_folder(path))
    ids = tokens_of(60)
    one = part(ids, blocks_from(0, 60), sampling=GREEDY)
    found = last_logits(runner, monkeypatch, one)[0]
    plain = reference_logits(model, ids)[-1]
    model.model.rotary_emb.inv_freq /= 2.0 * (1.0 if factors is None else factors)
    assert_same(found, reference_logits(model, ids)[-1])
    assert not torch.allclose(found, plain, atol=1e-2)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_of_any_kind_give_a_model_or_one_kind_of_error(tmp_path, source, seed, monkeypatch):
    """Forty files with a few wrong bytes in the header each; the seed is in the test's name."""
    monkeypatch.setattr("radixroute.worker.model.gguf_file._MAX_READS", 20_000)
    path = write_gguf(tmp_path / "tiny.gguf", llama(source, num_hidden_layers=1))
    whole = path.read_bytes()
    random = np.random.default_rng(seed)
    header = len(whole) - 120_000
    for turn in range(40):
        bad = bytearray(whole)
        for at in random.integers(0, max(header, 4_000), random.integers(1, 4)):
            bad[at] = int(random.choice([0, 1, 4, 255, int(random.integers(256))]))
        if turn % 4 == 0:
            at = int(random.integers(0, 4_000))
            bad[at : at + 8] = bytes([255] * int(random.integers(1, 9)))
        path.write_bytes(bad)
        out = tmp_path / f"out{turn}"
        reason = "tiny.gguf"
        try:
            converted(path, out, lambda text: None)
        except ModelError as error:
            reason = str(error)
        assert "tiny.gguf" in reason
        assert out.exists() == (reason == "tiny.gguf")


def test_a_length_beyond_the_file_is_not_walked(tmp_path, source):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    whole = path.read_bytes()
    # An array's type and length: the tokens' kinds are int32 (5).
    kinds = (5).to_bytes(4, "little") + len(TOKENS).to_bytes(8, "little")
    assert whole.count(kinds) == 1
    path.write_bytes(
        whole.replace(kinds, (5).to_bytes(4, "little") + (2**60).to_bytes(8, "little"))
    )
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        model_folder(path)


def test_a_cache_that_cannot_be_written_says_so(tmp_path, source, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", llama(source))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="XDG_CACHE_HOME"):
        model_folder(path)


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
        ({"pre": "default"}, "default"),
        ({"more": lambda w: w.add_expert_count(8)}, "expert_count"),
        ({"more": lambda w: w.add_sliding_window(64)}, "sliding_window"),
        ({"more": lambda w: w.add_logit_scale(0.5)}, "logit_scale"),
        ({"more": lambda w: w.add_rope_dimension_count(8)}, "dimension_count"),
        ({"more": lambda w: w.add_value_length(8)}, "value_length"),
        ({"more": lambda w: w.add_add_eos_token(True)}, "add_eos_token"),
        ({"more": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, "yarn"),
        ({"extra": {"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}}, "q_norm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
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
