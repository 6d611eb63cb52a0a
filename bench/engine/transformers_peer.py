"""`transformers` as the benchmark drives it: SDPA, DynamicCache, greedy, inference mode.

The same weights, dtype, threads and token ids as ours; its forward is called directly, without the
bookkeeping of `generate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

from bench.engine.laps import Lap, Stopwatch
from radixroute.radix.ids import Tokens


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """One batch of prompts, kept: rounds that decode after it need not compute it again."""

    prompts: Sequence[Tokens]
    cache: DynamicCache
    first: torch.Tensor


class TransformersPeer:
    """One loaded model in this process."""

    def __init__(self, model: Path, dtype: str) -> None:
        self._prefilled: _Prefilled | None = None
        untyped_logging: Any = logging
        untyped_logging.disable_progress_bar()
        untyped_model: Any = AutoModelForCausalLM
        self._model = untyped_model.from_pretrained(
            model, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers."""
        named = self._model.named_parameters()
        return sum(one.numel() for name, one in named if ".layers." in name and one.dim() == 2)

    @property
    def head_weights(self) -> int:
        """Numbers in the matrix that gives logits."""
        n: int = self._model.get_output_embeddings().weight.numel()
        return n

    def prefill(self, prompt: Tokens) -> Lap:
        """A prompt up to and with the first greedy token."""
        watch = Stopwatch()
        self._next(_batch([prompt]), self._cache()).tolist()
        return watch.lap(len(prompt))

    def decode(self, prompts: Sequence[Tokens], n_steps: int) -> Lap:
        """Output tokens of all sequences together, after their prompts."""
        cache, token_ids = self._after(prompts)
        watch = Stopwatch()
        for _ in range(n_steps):
            token_ids = self._next(token_ids, cache)
            token_ids.tolist()
        return watch.lap(n_steps * len(prompts))

    def _after(self, prompts: Sequence[Tokens]) -> tuple[DynamicCache, torch.Tensor]:
        """A cache that holds just the prompts, and the first tokens. Computed once for a batch."""
        if self._prefilled is None or self._prefilled.prompts is not prompts:
            cache = self._cache()
            self._prefilled = _Prefilled(prompts, cache, self._next(_batch(prompts), cache))
        cache = self._prefilled.cache
        cache.crop(len(prompts[0]) - cache.get_seq_length())  # what the last round decoded
        return cache, self._prefilled.first

    def _cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)

    @torch.inference_mode()
    def _next(self, token_ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """One greedy token each: (sequences, n) -> (sequences, 1)."""
        out = self._model(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        chosen: torch.Tensor = out.logits[:, -1].argmax(dim=-1, keepdim=True)
        return chosen


def _batch(prompts: Sequence[Tokens]) -> torch.Tensor:
    return torch.from_numpy(np.stack(prompts).astype(np.int64))
