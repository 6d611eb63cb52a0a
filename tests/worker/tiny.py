"""Tiny random models made by `transformers`, and ours over the same folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.cpu.backend import CpuBackend
from radixroute.worker.model.cpu.ops import CpuOps
from radixroute.worker.model.kv.pool import new_pool
from radixroute.worker.model.layers.ops import Ops
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.weights import Weights

BLOCK_SIZE, VOCAB = 4, 120
GREEDY = SamplingParams(temperature=0.0, max_tokens=1)
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # the default leaves attention nearly uniform
    "tie_word_embeddings": False,
}


def write_model(folder: Path, kind="Llama", shard_size="1GB", **changes):
    """Saves a random model of two layers and grouped heads; returns transformers' own."""
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        # Biases start at zero and norms at one: neither would ever be missed.
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return model


@torch.no_grad()
def reference_logits(model, tokens):
    return model(torch.tensor([[int(t) for t in tokens]])).logits[0]


def tokens_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, n).astype(np.uint32)


def table_of(*blocks):
    return np.array(blocks, dtype=np.int32)


def blocks_from(first, n_tokens):
    """Enough blocks in a row for so many tokens."""
    return np.arange(first, first + -(-n_tokens // BLOCK_SIZE), dtype=np.int32)


def part(tokens, table, start=0, sampling=None):
    """The slice of `tokens[start:]`; the table covers all of them."""
    n_blocks = -(-len(tokens) // BLOCK_SIZE)
    assert len(table) >= n_blocks
    return SequenceSlice(np.asarray(tokens[start:]), start, table[:n_blocks], sampling)


class Ours:
    """Our forward with a pool full of garbage: what was not written must never matter.

    By our own kernels as far as they go, or all of it by torch's: `by_kernels` says which.
    """

    by_kernels = True

    def __init__(self, folder, n_blocks=48, dtype=torch.float32, kv_format=None):
        cpu = torch.device("cpu")
        config = load_config(folder)
        self.model = config.build(
            Weights(folder, dtype=dtype, device=cpu), CpuOps() if self.by_kernels else Ops()
        )
        self.pool = new_pool(
            config.layout, n_blocks, BLOCK_SIZE, dtype=dtype, device=cpu, kv_format=kv_format
        )
        for plane, garbage in zip(self.pool.planes.values(), (7.0, -50.0), strict=False):
            plane.fill_(garbage)
        kernels_fit = self.by_kernels and CpuBackend.fits(self.pool)
        self._attention = (CpuBackend if kernels_fit else SdpaBackend)(self.pool)

    @torch.inference_mode()
    def step(self, *parts):
        """Logits of each slice's tokens: a list of (tokens, vocab)."""
        self._attention.plan(parts)
        rows = np.concatenate([p.token_ids for p in parts]).astype(np.int64)
        at = np.concatenate([np.arange(p.start, p.start + len(p.token_ids)) for p in parts])
        hidden = self.model.forward(torch.from_numpy(rows), torch.from_numpy(at), self._attention)
        return list(self.model.logits(hidden).split([len(p.token_ids) for p in parts]))


def assert_same(ours, reference, atol=2e-4):
    assert ours.shape == reference.shape
    torch.testing.assert_close(ours, reference.float(), atol=atol, rtol=1e-4)


@pytest.fixture(autouse=True, params=["kernels", "torch"], scope="module")
def both_ways(request):
    """For modules that import it: all their tests by our kernels, then by torch's."""
    Ours.by_kernels = request.param == "kernels"
    yield
    Ours.by_kernels = True
