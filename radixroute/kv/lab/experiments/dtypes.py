"""K and V in fewer bits: memory, the time of a step, and what the model says afterwards."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_of_each
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import Subject, filled_step
from radixroute.kv.lab.words import against, seconds, share, size
from radixroute.worker.model.kv.formats import FORMATS, KVFormat
from radixroute.worker.model.teaching.formatted import FormattedCache

NAME, TITLE = "dtypes", "K and V in fewer bits"
QUESTION = "How many bits does a cache need, and what is paid for leaving some out?"
# Positions at once: the second chunk reads what the first one rounded.
CHUNK = 128


@dataclass(frozen=True, slots=True)
class _Measured:
    """One format."""

    kv_format: KVFormat
    token_bytes: int
    seconds: float
    nll: float | None  # mean loss of a token of the text, nats; None: no text

    @property
    def perplexity(self) -> float | None:
        return None if self.nll is None else math.exp(self.nll)


def run(bench: Bench) -> Result:
    """All formats on the first model that can read the text, else on the first one."""
    subject = next((one for one in bench.subjects if one.text is not None), bench.subjects[0])
    found = _all_measured(subject, bench)
    names = tuple(one.kv_format.name for one in found)
    plots = [
        Plot("dtypes-bytes", f"KV cache of one token, {subject.name}", "format", "KiB",
             (Series.bars("KiB", [one.token_bytes / 1024 for one in found]),), Kind.BARS,
             categories=names),
        Plot("dtypes-time", f"One decode step, {subject.name}", "format", "ms",
             (Series.bars("ms", [1e3 * one.seconds for one in found]),), Kind.BARS,
             categories=names),
    ]  # fmt: skip
    changes = [_change(one, found[0]) for one in found]
    if None not in changes:
        values = [100 * change for change in changes if change is not None]
        plots.append(
            Plot("dtypes-perplexity", f"Change of perplexity, {subject.name}", "format", "%",
                 (Series.bars("%", values),), Kind.BARS, categories=names)
        )  # fmt: skip
    facts = {f"{one.kv_format.name}.bytes_per_token": float(one.token_bytes) for one in found}
    facts |= {
        f"{one.kv_format.name}.perplexity": one.perplexity
        for one in found
        if one.perplexity is not None
    }
    text = _text(subject, found, bench)
    return Result(NAME, TITLE, QUESTION, text, tuple(plots), (_table(found),), facts)


def losses(subject: Subject, caches: list[FormattedCache], ids: Tensor) -> Tensor:
    """Loss of each token but the first given those before it, nats: (n - 1,)."""
    logits = torch.cat(
        [subject.decoder.all_logits(part, caches) for part in torch.split(ids, CHUNK)]
    )
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")


def _all_measured(subject: Subject, bench: Bench) -> list[_Measured]:
    """Steps of all formats take turns."""
    context = bench.effort.usual_context
    formats = list(FORMATS.values())
    laps = least_of_each(
        [filled_step(subject, _caches(subject, one, context + 1), context) for one in formats],
        bench.effort.repeats,
    )
    found = []
    for kv_format, lap in zip(formats, laps, strict=True):
        planes = subject.shape.planes
        token_bytes = subject.shape.n_layers * sum(kv_format.bytes_of(*plane) for plane in planes)
        nll = None
        if subject.text is not None:
            ids = subject.text[: bench.effort.text_tokens]
            nll = float(losses(subject, _caches(subject, kv_format, len(ids)), ids).mean())
        bench.tell(kv_format.name)
        found.append(_Measured(kv_format, token_bytes, lap, nll))
    return found


def _caches(subject: Subject, kv_format: KVFormat, n_tokens: int) -> list[FormattedCache]:
    decoder = subject.decoder
    planes = subject.shape.planes
    return [FormattedCache(n_tokens, planes, decoder.work, kv_format) for _ in decoder.layers]


def _change(one: _Measured, exact: _Measured) -> float | None:
    if one.nll is None or exact.nll is None:
        return None
    return math.exp(one.nll - exact.nll) - 1


def _percent(change: float | None) -> str:
    return "not measured" if change is None else f"{100 * change:+.2g} %" if change else "0 %"


def _table(found: list[_Measured]) -> Table:
    rows = [
        (
            one.kv_format.name,
            size(one.token_bytes),
            share(one.token_bytes / found[0].token_bytes),
            seconds(one.seconds),
            "-" if one.perplexity is None else f"{one.perplexity:.4f}",
            _percent(_change(one, found[0])),
        )
        for one in found
    ]
    columns = ("format", "a token", "of float32", "decode step", "perplexity", "change")
    return Table("Formats of K and V; the model computes in float32", columns, tuple(rows))


def _text(subject: Subject, found: list[_Measured], bench: Bench) -> str:
    by_name = {one.kv_format.name: one for one in found}
    exact, half, int8, fp8 = (by_name[name] for name in ("float32", "bfloat16", "int8", "fp8_e4m3"))
    sentences = " ".join(
        against(f"A step with {one.kv_format.name}", one.seconds, "float32", exact.seconds) + "."
        for one in (half, int8, fp8)
    )
    quality = (
        f"Over {min(len(subject.text), bench.effort.text_tokens):,} tokens of a text that no "
        f"model was trained on, perplexity was {exact.perplexity:.2f} with float32, and changed "
        f"by {_percent(_change(half, exact))} with bfloat16, {_percent(_change(int8, exact))} "
        f"with int8 and {_percent(_change(fp8, exact))} with fp8."
        if subject.text is not None and exact.perplexity is not None
        else "No model here reads text, so what the rounding does to answers was not measured."
    )
    return (
        f"Rounding K and V halves or quarters the cache: {size(exact.token_bytes)} a token in "
        f"float32, {size(half.token_bytes)} in bfloat16, {size(int8.token_bytes)} in int8 with a "
        f"scale a token and head, {size(fp8.token_bytes)} in fp8. {quality} int8 spreads 255 "
        "steps evenly over one row's own range; fp8 has no scale here, its steps are fine near 0 "
        "and coarse far from it, so which of the two loses more depends on the numbers. Fewer "
        "bytes are read, but they have to be turned back into numbers to multiply with. "
        f"{sentences} Where a kernel does both in one pass, as GPUs' kernels do, the smaller "
        "cache is faster too; here it is turned back first, by itself."
    )
