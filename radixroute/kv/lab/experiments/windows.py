"""Sliding windows: memory stops growing, and the model forgets."""

import math

import torch
from torch import Tensor

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.records import Plot, Result, Series, Skipped, Table
from radixroute.kv.lab.subjects import BLOCK_SIZE, Subject
from radixroute.kv.lab.words import share, size
from radixroute.worker.model.teaching.attention import Heads
from radixroute.worker.model.teaching.paged import BlockStore, PagedCache

NAME, TITLE = "windows", "Sliding windows"
QUESTION = "What does a model lose that sees only the last tokens, and what does its cache win?"
CHUNK = 32  # tokens at once; what left the window is freed between two
PARTS = 8  # of the text, for the curve over length


def run(bench: Bench) -> Result | Skipped:
    """One model, several windows, one text."""
    subject = next((one for one in bench.subjects if one.text is not None), None)
    if subject is None or subject.text is None or not isinstance(subject.shape.heads, Heads):
        return Skipped(NAME, TITLE, "no model here has a tokenizer: name a model folder")
    ids = subject.text[: bench.effort.text_tokens]
    windows = [None, *(len(ids) // part for part in (4, 16))]
    found = {}
    for window in windows:
        found[window] = _measured(subject, window, ids)
        bench.tell(_name(window))
    plots = (
        Plot("windows-memory", f"KV cache over length, {subject.name}", "tokens so far", "MiB",
             tuple(Series.of(_name(w), [(n, b / 2**20) for n, b in kept])
                   for w, (kept, _) in found.items())),
        Plot("windows-perplexity", f"Perplexity over length, {subject.name}",
             "place in the text, tokens", "perplexity of that part",
             tuple(Series.of(_name(w), _parts(nll)) for w, (_, nll) in found.items()),
             is_log_y=True),
    )  # fmt: skip
    rows = [
        (
            _name(window),
            size(kept[-1][1]),
            f"{math.exp(float(nll.mean())):.2f}",
            f"{_parts(nll)[-1][1]:.2f}",
        )
        for window, (kept, nll) in found.items()
    ]
    columns = ("window", "cache at the end", "perplexity", "of the last part")
    table = Table(f"{len(ids):,} tokens", columns, tuple(rows))
    facts = {f"{_name(w)}.bytes": float(kept[-1][1]) for w, (kept, _) in found.items()}
    return Result(NAME, TITLE, QUESTION, _text(subject, found, ids), plots, (table,), facts)


Measured = tuple[list[tuple[int, int]], Tensor]  # bytes kept over length; loss of each token


def _name(window: int | None) -> str:
    return "all tokens" if window is None else f"last {window}"


def _measured(subject: Subject, window: int | None, ids: Tensor) -> Measured:
    decoder = subject.decoder.windowed(window)
    n_blocks = -(-len(ids) // BLOCK_SIZE) + 1
    stores = [BlockStore(n_blocks, BLOCK_SIZE, decoder.shape.planes) for _ in decoder.layers]
    caches = [PagedCache(store, decoder.work, window) for store in stores]
    kept, logits, done = [], [], 0
    for part in torch.split(ids, CHUNK):
        logits.append(decoder.all_logits(part, caches))
        done += len(part)
        kept.append((done, sum(store.n_used * store.block_bytes for store in stores)))
    loss = torch.nn.functional.cross_entropy(torch.cat(logits)[:-1], ids[1:], reduction="none")
    return kept, loss


def _parts(nll: Tensor) -> list[tuple[float, float]]:
    """Perplexity of each part of the text, at its middle."""
    each = -(-len(nll) // PARTS)
    return [
        (each * (i + 0.5), math.exp(float(part.mean())))
        for i, part in enumerate(torch.split(nll, each))
    ]


def _text(subject: Subject, found: dict[int | None, Measured], ids: Tensor) -> str:
    narrow = min(w for w in found if w is not None)
    whole, small = found[None], found[narrow]
    ratio = small[0][-1][1] / whole[0][-1][1]
    before, after = _parts(whole[1])[-1][1], _parts(small[1])[-1][1]
    worse = after / before - 1
    told = (
        f"rose from {before:.1f} to {after:.1f}"
        if worse > 0.02
        else f"stayed where it was ({before:.1f} and {after:.1f})"
    )
    return (
        "With a window of W tokens every layer sees the last W tokens only, so the blocks of "
        "older "
        f'ones are given back: after {len(ids):,} tokens the cache of "last {narrow}" holds '
        f"{size(small[0][-1][1])}, {share(ratio)} of {size(whole[0][-1][1])}, and grows no more. "
        f"The price is what the model forgets: in the last eighth of the text perplexity {told}. "
        "This model was trained to see everything and is cut short here; one trained with a "
        "window loses less, since each layer passes on what it saw, W tokens further back a "
        "layer. For sharing, a window is a difficulty: blocks that were freed can be promised to "
        "nobody, so a prefix is only as good as its last W tokens, all of them."
    )
