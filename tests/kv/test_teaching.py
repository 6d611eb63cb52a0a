"""The layers for study: three caches, one answer; and the work they count."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.teaching.attention import attend
from radixroute.worker.model.teaching.contiguous import ContiguousCache
from radixroute.worker.model.teaching.decoder_weights import random_decoder, read_decoder
from radixroute.worker.model.teaching.formatted import FormattedCache
from radixroute.worker.model.teaching.no_cache import NoCache
from radixroute.worker.model.teaching.paged import BlockStore, PagedCache
from radixroute.worker.model.teaching.planes import Plane
from radixroute.worker.model.teaching.work import Work
from tests.kv.shapes import GPT2, GROUPED, LATENT, SHAPES
from tests.worker.tiny import reference_logits, write_model

pytestmark = pytest.mark.torch
DECODERS = {name: random_decoder(shape) for name, shape in SHAPES.items()}


def _contiguous(decoder, n=64):
    return [ContiguousCache(n, decoder.shape.planes, decoder.work) for _ in decoder.layers]


def _paged(decoder, block_size=4, n_blocks=32):
    stores = [BlockStore(n_blocks, block_size, decoder.shape.planes) for _ in decoder.layers]
    # Whatever a free block holds must not matter.
    for store in stores:
        for memory in store.memory:
            memory.fill_(float("nan"))
    window = getattr(decoder.shape.heads, "window", None)
    return [PagedCache(store, decoder.work, window) for store in stores]


def _none(decoder):
    return [NoCache() for _ in decoder.layers]


@given(
    name=st.sampled_from(sorted(SHAPES)),
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    block_size=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_cache_changes_no_number_however_the_tokens_come(name, chunks, block_size, seed):
    decoder = DECODERS[name]
    n = sum(chunks)
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, 97, n))
    expected = decoder.all_logits(ids, _none(decoder))
    for caches in (_contiguous(decoder), _paged(decoder, block_size, 64)):
        got = torch.cat([decoder.all_logits(part, caches) for part in ids.split(chunks)])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_attend_is_what_torch_computes():
    q, k, v = torch.randn(5, 6, 8), torch.randn(9, 2, 8), torch.randn(9, 2, 8)
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4)
    expected = functional.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=mask,
        enable_gqa=True,
    )
    expected = expected[0].transpose(0, 1)
    torch.testing.assert_close(attend(q, k, v), expected)


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_decoder_reads_a_folder_as_transformers_does(is_tied, tmp_path):
    model = write_model(tmp_path, tie_word_embeddings=is_tied)
    decoder = read_decoder(tmp_path)
    ids = np.arange(3, 40)
    expected = reference_logits(model, ids)
    got = decoder.all_logits(torch.from_numpy(ids), _paged(decoder))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_sequences_that_begin_alike_share_whole_blocks_and_stay_apart():
    decoder = DECODERS["gqa"]
    first = _paged(decoder, block_size=4)
    head, tails = torch.arange(10), (torch.arange(20, 25), torch.arange(40, 45))
    decoder.all_logits(head, first)
    second = [cache.fork(10) for cache in first]
    assert [cache.length for cache in second] == [8, 8]
    store = first[0]._store
    assert store.n_used == 3
    for caches, tail in ((first, tails[0]), (second, torch.cat((head[8:], tails[1])))):
        got = decoder.last_logits(tail, caches)
        whole = torch.cat((head, tail if caches is first else tails[1]))
        torch.testing.assert_close(got, decoder.last_logits(whole, _none(decoder)))
    for cache in (*first, *second):
        cache.release()
    assert store.n_used == 0


def test_a_full_cache_says_so():
    work = Work()
    rows = torch.zeros(5, 1, 2)
    with pytest.raises(ValueError, match="reserved for 4"):
        ContiguousCache(4, (Plane(1, 2),), work).extend(rows)
    with pytest.raises(ValueError, match="all 2 blocks"):
        PagedCache(BlockStore(2, 2, (Plane(1, 2),)), work).extend(rows)


@pytest.mark.parametrize("name", ["mha", "gqa", "mla"])
def test_what_is_kept_is_what_the_formula_says(name):
    decoder = DECODERS[name]
    caches = _contiguous(decoder, n=1)
    assert sum(cache.reserved_bytes for cache in caches) == decoder.shape.kv_bytes_per_token(4)


def test_bytes_a_token_by_variant():
    assert GPT2.kv_bytes_per_token(4) == 2 * 2 * 32 * 4  # K and V, layers, width, bytes
    assert GROUPED.kv_bytes_per_token(4) == GPT2.kv_bytes_per_token(4) // 2
    assert LATENT.kv_bytes_per_token(4) == 2 * 16 * 4


def test_work_of_one_token_is_counted_to_the_last_multiplication():
    decoder = random_decoder(GPT2)
    caches = _contiguous(decoder)
    decoder.last_logits(torch.arange(9), caches)
    decoder.work.clear()
    decoder.last_logits(torch.tensor([9]), caches)
    work, scores = decoder.work, 2 * (2 * 10 * 4 * (8 + 8))  # layers, 10 tokens, 4 heads
    assert work.flops == 2 * decoder.weight_elements + scores
    assert work.weight_bytes == 4 * decoder.weight_elements
    assert work.kv_written == GPT2.kv_bytes_per_token(4)
    assert work.kv_read == 10 * GPT2.kv_bytes_per_token(4)
    assert work.copied == 0


def test_blocks_that_left_the_window_are_free_again():
    decoder = DECODERS["window"]
    caches = _paged(decoder, block_size=4)
    for token in torch.arange(60).split(1):
        decoder.last_logits(token, caches)
    # 7 tokens that end anywhere in a block: three blocks at most.
    assert all(cache._store.n_used <= 3 for cache in caches)
    assert caches[0].length == 60


@pytest.mark.parametrize("kv_format", FORMATS.values(), ids=FORMATS)
def test_a_format_holds_what_it_says_and_loses_little(kv_format):
    decoder = DECODERS["gqa"]
    planes = decoder.shape.planes
    caches = [FormattedCache(40, planes, decoder.work, kv_format) for _ in decoder.layers]
    ids = torch.arange(40)
    exact = decoder.all_logits(ids, _none(decoder)).log_softmax(-1)
    got = decoder.all_logits(ids, caches).log_softmax(-1)
    assert sum(c.reserved_bytes for c in caches) == 2 * 40 * sum(
        kv_format.bytes_of(*plane) for plane in planes
    )
    lost = (got - exact).abs().mean()
    assert lost == 0 if kv_format.name == "float32" else 0 < lost < 0.2
