"""The models that the lab measures, and caches for them.

A subject is a teaching decoder with a name, and where its folder has a tokenizer the ids of the
lab's text. Owns how a cache is filled without computing: what attention costs does not depend on
the numbers in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from radixroute.kv.lab.text import TEXT
from radixroute.request.tokenizer import TOKENIZER_FILE, Tokenizer
from radixroute.worker.model.folder import model_folder
from radixroute.worker.model.teaching.attention import Heads
from radixroute.worker.model.teaching.contiguous import ContiguousCache
from radixroute.worker.model.teaching.decoder import Decoder, DecoderShape
from radixroute.worker.model.teaching.decoder_weights import random_decoder, read_decoder
from radixroute.worker.model.teaching.formatted import FormattedCache
from radixroute.worker.model.teaching.no_cache import NoCache
from radixroute.worker.model.teaching.paged import BlockStore, PagedCache
from radixroute.worker.model.teaching.planes import Cache

BLOCK_SIZE = 16  # tokens, as the engine's
MAX_TOKENS = 8192
GPT2 = DecoderShape("gpt2", 12, 768, 3072, Heads(12, 12, 64), 50257, MAX_TOKENS)
SMALL = DecoderShape("gpt2", 2, 64, 256, Heads(4, 4, 16), 512, 512)


@dataclass(frozen=True, slots=True)
class Subject:
    """One model in the lab."""

    name: str
    decoder: Decoder
    folder: Path | None = None  # None: its weights are random
    text: Tensor | None = None  # ids of the lab's text; None: it has no tokenizer

    @property
    def shape(self) -> DecoderShape:
        return self.decoder.shape

    @property
    def max_tokens(self) -> int:
        return self.shape.max_tokens

    @property
    def token_bytes(self) -> int:
        """Of K and V of one token, all layers, as computed."""
        return self.shape.kv_bytes_per_token(self.decoder.dtype.itemsize)

    def ids(self, n: int, seed: int = 0) -> Tensor:
        """Random token ids; they cost what real ones cost."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.shape.vocab_size, (n,), generator=generator)


def gpt2_subject(*, is_quick: bool = False) -> Subject:
    """A model of GPT-2's shape (124 M) with random weights and longer positions."""
    name = "GPT-2 shape, small" if is_quick else "GPT-2 shape"
    return Subject(name, random_decoder(SMALL if is_quick else GPT2))


def folder_subject(model: Path) -> Subject:
    """A model folder, or a GGUF file converted once. Raises `ModelError`."""
    folder = model_folder(model)
    decoder = read_decoder(folder, max_tokens=MAX_TOKENS)
    text = None
    if (folder / TOKENIZER_FILE).exists():
        text = torch.tensor(Tokenizer.from_dir(folder).encode(TEXT).astype("int64"))
    return Subject(model.name, decoder, folder, text)


def no_caches(decoder: Decoder) -> list[Cache]:
    return [NoCache() for _ in decoder.layers]


def contiguous_caches(decoder: Decoder, n_tokens: int) -> list[ContiguousCache]:
    planes, dtype = decoder.shape.planes, decoder.dtype
    return [ContiguousCache(n_tokens, planes, decoder.work, dtype=dtype) for _ in decoder.layers]


def paged_caches(decoder: Decoder, n_tokens: int, block_size: int = BLOCK_SIZE) -> list[PagedCache]:
    """Empty, in stores with room for `n_tokens`. A store hands out its blocks out of order, as one
    does that many sequences have used."""
    n_blocks = -(-n_tokens // block_size) + 1
    caches = []
    for _ in decoder.layers:
        store = BlockStore(n_blocks, block_size, decoder.shape.planes, dtype=decoder.dtype)
        store.scatter(seed=7)
        caches.append(PagedCache(store, decoder.work))
    return caches


def fill(caches: Sequence[Cache], decoder: Decoder, n_tokens: int, seed: int = 0) -> None:
    """Put random K and V of `n_tokens` tokens behind what is there: no model is run."""
    generator = torch.Generator().manual_seed(seed)
    planes = [
        torch.empty(n_tokens, *plane, dtype=torch.float32)
        .normal_(generator=generator)
        .to(decoder.dtype)
        for plane in decoder.shape.planes
    ]
    for cache in caches:
        cache.extend(*planes)


def filled_step(
    subject: Subject, caches: Sequence[FormattedCache | ContiguousCache | PagedCache], context: int
) -> Callable[[], object]:
    """One decode behind `context` tokens, which are put into the empty caches now; each call of
    what is given makes the same step again."""
    fill(caches, subject.decoder, context)
    token = subject.ids(1)

    def step() -> None:
        subject.decoder.last_logits(token, caches)
        for cache in caches:
            cache.length = context

    return step
