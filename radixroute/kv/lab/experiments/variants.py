"""MHA, GQA, MQA and MLA side by side, at equal width: bytes a token and decode time.

Random models that differ in attention alone: equal layers, width, query heads and MLP.
"""

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_of_each
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import Subject, contiguous_caches, filled_step
from radixroute.kv.lab.words import against, count, seconds, size, times
from radixroute.worker.model.teaching.attention import Heads
from radixroute.worker.model.teaching.decoder import DecoderShape
from radixroute.worker.model.teaching.decoder_weights import random_decoder
from radixroute.worker.model.teaching.latent import LatentHeads

NAME, TITLE = "variants", "MHA, GQA, MQA and MLA at equal width"
QUESTION = (
    "What do fewer heads of K and V, or one latent in their place, save in bytes and in time?"
)
# Bytes of one gibibyte, for "how many tokens fit".
_GIB = 2**30


def run(bench: Bench) -> Result:
    """Builds all variants; their steps take turns."""
    shapes = variant_shapes(is_quick=bench.effort.matrix < 1000)
    subjects = [Subject(name, random_decoder(shape)) for name, shape in shapes.items()]
    weights = {one.name: one.decoder.weight_elements for one in subjects}
    laps: dict[str, list[tuple[float, float]]] = {one.name: [] for one in subjects}
    for n in bench.effort.variant_lengths:
        steps = [filled_step(one, contiguous_caches(one.decoder, n + 1), n) for one in subjects]
        for one, lap in zip(subjects, least_of_each(steps, bench.effort.repeats), strict=True):
            laps[one.name].append((n, lap))
        bench.tell(f"{n:,} tokens")
    n_bytes = {name: shape.kv_bytes_per_token(2) for name, shape in shapes.items()}
    return Result(
        NAME,
        TITLE,
        QUESTION,
        _text(n_bytes, laps, weights),
        (
            Plot(
                "variants-bytes",
                "KV cache of one token, two bytes a number",
                "variant",
                "KiB",
                (Series.bars("KiB", [value / 1024 for value in n_bytes.values()]),),
                Kind.BARS,
                categories=tuple(n_bytes),
            ),
            Plot(
                "variants-time",
                "One decode step (float32)",
                "tokens so far",
                "ms",
                tuple(Series.of(n, [(x, 1e3 * y) for x, y in found]) for n, found in laps.items()),
                is_log_x=True,
            ),
        ),
        (_table(shapes, n_bytes, laps, weights),),
        {f"{name}.bytes_per_token": float(value) for name, value in n_bytes.items()},
    )


def variant_shapes(*, is_quick: bool) -> dict[str, DecoderShape]:
    """Four shapes of one width."""
    layers, heads, dim = (2, 8, 16) if is_quick else (4, 16, 64)
    width, longest = heads * dim, 512 if is_quick else 8192
    kinds: dict[str, Heads | LatentHeads] = {
        "MHA": Heads(heads, heads, dim),
        f"GQA, {heads // 4} KV heads": Heads(heads, heads // 4, dim),
        "MQA": Heads(heads, 1, dim),
        # As DeepSeek-V2 chose: a latent of four heads' width, half a head for positions.
        "MLA": LatentHeads(heads, dim, 4 * dim, dim // 2),
    }
    return {
        name: DecoderShape("llama", layers, width, 4 * width, kind, 4 * width, longest)
        for name, kind in kinds.items()
    }


def _table(
    shapes: dict[str, DecoderShape],
    n_bytes: dict[str, int],
    laps: dict[str, list[tuple[float, float]]],
    weights: dict[str, int],
) -> Table:
    context = int(next(iter(laps.values()))[-1][0])
    rows = [
        (
            name,
            " + ".join(f"{p.heads} x {p.width}" for p in shape.planes),
            size(n_bytes[name]),
            f"{_GIB // n_bytes[name]:,}",
            count(weights[name]),
            seconds(laps[name][0][1]),
            seconds(laps[name][-1][1]),
        )
        for name, shape in shapes.items()
    ]
    columns = ("variant", "kept in a layer", "a token", "tokens in 1 GiB", "weights",
               "short step", f"step at {context:,}")  # fmt: skip
    return Table("At equal width and layers", columns, tuple(rows))


def _text(
    n_bytes: dict[str, int], laps: dict[str, list[tuple[float, float]]], weights: dict[str, int]
) -> str:
    mha, gqa, mqa, mla = n_bytes
    context = int(laps[mha][-1][0])
    long = {name: found[-1][1] for name, found in laps.items()}
    short = {name: found[0][1] for name, found in laps.items()}
    grown = {name: long[name] - short[name] for name in laps}
    sentences = " ".join(
        against(f"{name}'s step", long[name], "MHA's", long[mha]) + "." for name in (gqa, mqa, mla)
    )
    return (
        "The cache of a token is layers x KV heads x head width x 2 (K and V) numbers; query "
        f"heads do not count. {gqa} keeps {size(n_bytes[gqa])} where MHA keeps "
        f"{size(n_bytes[mha])} ({times(n_bytes[mha] / n_bytes[gqa])} less), MQA "
        f"{size(n_bytes[mqa])}, and MLA, which keeps one latent and a small rotated key, "
        f"{size(n_bytes[mla])}. At {context:,} tokens: {sentences} What the context added to a "
        f"step, {seconds(grown[mha])} with MHA, was {seconds(grown[gqa])} with GQA, "
        f"{seconds(grown[mqa])} with MQA and {seconds(grown[mla])} with MLA. The FLOPs of "
        "attention do not fall with fewer KV heads: each query head still looks at each token; "
        "what falls is the bytes it reads. MLA even multiplies more (its one shared head is "
        "wider than a head of MHA), which pays where memory is what one waits for; weights "
        f"differ a little too ({count(weights[mha])} in MHA, {count(weights[mla])} in MLA). What "
        "none of these numbers shows is quality: sharing heads costs some, which training has to "
        "win back."
    )
