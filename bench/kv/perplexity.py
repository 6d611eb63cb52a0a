"""Perplexity of the demo's system prompts, with K and V kept in a format.

Weights and arithmetic are float32, so that what changes is the cache alone. Every token reads the
tokens before it as the pool gives them back, as a served request does.
"""

import math

import numpy as np
import torch

from radixroute.demo.workload.personas import load_personas
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.families.family import Model
from radixroute.worker.model.kv.pool import KVPool

CHUNK = 256  # tokens of a step


def texts(tokenizer: Tokenizer, n_tokens: int) -> list[np.ndarray]:
    """The system prompt of each persona, cut to so many tokens."""
    whole = [tokenizer.encode(persona.system) for persona in load_personas()]
    return [np.asarray(one[:n_tokens], dtype=np.uint32) for one in whole]


@torch.inference_mode()
def perplexity(model: Model, pool: KVPool, texts: list[np.ndarray]) -> float:
    """exp of the mean loss of all tokens but each text's first."""
    losses = [_losses(model, pool, text) for text in texts]
    return math.exp(float(torch.cat(losses).mean()))


def _losses(model: Model, pool: KVPool, text: np.ndarray) -> torch.Tensor:
    backend = SdpaBackend(pool)
    table = np.arange(pool.n_blocks, dtype=np.int32)
    found = []
    for start in range(0, len(text) - 1, CHUNK):
        stop = min(start + CHUNK, len(text) - 1)
        n_blocks = -(-stop // pool.block_size)
        backend.plan([SequenceSlice(text[start:stop], start, table[:n_blocks], None)])
        rows = torch.from_numpy(text[start:stop].astype(np.int64))
        hidden = model.forward(rows, torch.arange(start, stop), backend)
        following = torch.from_numpy(text[start + 1 : stop + 1].astype(np.int64))
        found.append(torch.nn.functional.cross_entropy(
            model.logits(hidden), following, reduction="none"))  # fmt: skip
    return torch.cat(found)
