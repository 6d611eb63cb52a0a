"""Prefill and decode on the roofline of this machine: FLOPs, bytes, and what was reached."""

from dataclasses import dataclass

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_seconds
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import Subject, contiguous_caches, fill
from radixroute.kv.lab.words import flops, seconds, share, size

NAME, TITLE = "roofline", "Prefill and decode on a roofline"
QUESTION = "Why is a prompt computed so much faster, token for token, than an answer is written?"
_REUSE = (0.1, 1000.0)  # FLOPs for each byte that the plot shows


@dataclass(frozen=True, slots=True)
class _Point:
    """One call of the model."""

    name: str
    n_new: int
    seconds: float
    flops: int
    n_bytes: int

    @property
    def intensity(self) -> float:
        return self.flops / self.n_bytes

    @property
    def rate(self) -> float:
        return self.flops / self.seconds


def run(bench: Bench) -> Result:
    """Prefills of several lengths and decodes after several contexts, of every subject."""
    found = {one.name: (_prefills(one, bench), _decodes(one, bench)) for one in bench.subjects}
    machine = bench.machine
    ridge = machine.flops_per_s / machine.bytes_per_s
    roof = [(x, min(machine.flops_per_s, x * machine.bytes_per_s) / 1e9) for x in _grid(ridge)]
    series = [Series.of("roof of this machine", roof, is_formula=True)]
    for name, (prefills, decodes) in found.items():
        for what, points in (("prefill", prefills), ("decode", decodes)):
            series.append(
                Series.of(f"{what}, {name}", [(p.intensity, p.rate / 1e9) for p in points])
            )
    plot = Plot(
        "roofline",
        "What was reached of what the machine can do",
        "FLOPs for each byte moved",
        "GFLOP/s",
        tuple(series),
        Kind.POINTS,
        is_log_x=True,
        is_log_y=True,
    )
    rows = [_row(p, bench) for prefills, decodes in found.values() for p in (*prefills, *decodes)]
    table = Table(
        "Calls of the model",
        ("call", "FLOPs", "bytes", "FLOPs/byte", "time", "a token", "of its roof"),
        tuple(rows),
    )
    facts = {"flops_per_s": machine.flops_per_s, "bytes_per_s": machine.bytes_per_s, "ridge": ridge}
    return Result(NAME, TITLE, QUESTION, _text(found, bench, ridge), (plot,), (table,), facts)


def _prefills(subject: Subject, bench: Bench) -> list[_Point]:
    lengths = bench.effort.prefill_lengths
    return [_point(subject, bench, n, 0) for n in lengths if n > 1]


def _decodes(subject: Subject, bench: Bench) -> list[_Point]:
    return [_point(subject, bench, 1, n) for n in bench.effort.cached_lengths]


def _point(subject: Subject, bench: Bench, n_new: int, context: int) -> _Point:
    decoder = subject.decoder
    caches = contiguous_caches(decoder, n_new + context)
    if context:
        fill(caches, decoder, context)
    ids = subject.ids(n_new)

    def call() -> None:
        decoder.last_logits(ids, caches)
        for cache in caches:
            cache.length = context

    call()
    decoder.work.clear()
    call()
    counted, n_bytes = decoder.work.flops, decoder.work.bytes_moved
    what = f"decode after {context:,}" if context else f"prefill of {n_new:,}"
    bench.tell(f"{subject.name}: {what}")
    took = least_seconds(call, bench.effort.repeats)
    return _Point(f"{what}, {subject.name}", n_new, took, counted, n_bytes)


def _roof(point: _Point, bench: Bench) -> float:
    return min(bench.machine.flops_per_s, point.intensity * bench.machine.bytes_per_s)


def _row(point: _Point, bench: Bench) -> tuple[str, ...]:
    return (
        point.name,
        flops(point.flops),
        size(point.n_bytes),
        f"{point.intensity:.3g}",
        seconds(point.seconds),
        seconds(point.seconds / point.n_new),
        share(point.rate / _roof(point, bench)),
    )


def _grid(ridge: float) -> list[float]:
    low, high = _REUSE
    return sorted([low, ridge, high, *(low * 10**i for i in range(1, 4))])


def _text(found: dict[str, tuple[list[_Point], list[_Point]]], bench: Bench, ridge: float) -> str:
    machine = bench.machine
    parts = [
        f"A machine multiplies at most {flops(machine.flops_per_s)}/s and reads at most "
        f"{size(machine.bytes_per_s)}/s; both were measured here, with large pieces. A call that "
        f"does fewer than {ridge:.0f} FLOPs for each byte it reads waits for memory, one that "
        "does more waits for multiplications: that bend is the roofline."
    ]
    for name, (prefills, decodes) in found.items():
        long, one = prefills[-1], decodes[0]
        parts.append(
            f"{name}: a prompt of {long.n_new} tokens uses each weight {long.n_new} times for one "
            f"reading, {long.intensity:.0f} FLOPs a byte, and is {_bound(long, ridge)}; a token "
            f"of an answer uses each weight once, {one.intensity:.2f} FLOPs a byte, and is "
            f"{_bound(one, ridge)}. A prompt's token took {seconds(long.seconds / long.n_new)}, "
            f"an answer's {seconds(one.seconds)}. They reached "
            f"{share(long.rate / _roof(long, bench))} and {share(one.rate / _roof(one, bench))} "
            "of their roofs."
        )
    if any(p.rate > _roof(p, bench) for found_of in found.values() for ps in found_of for p in ps):
        parts.append(
            "Points above the roof are calls that found their data in a cache of the processor, or "
            "a peak that was measured while the machine did something else."
        )
    parts.append(
        "Hence two habits of every engine: answers of many requests are written in one batch, so "
        "that one reading of the weights serves all of them, and K and V are kept small, since "
        "a batch shares the weights but each sequence reads its own context."
    )
    return "\n\n".join((parts[0], " ".join(parts[1:-1]), parts[-1]))


def _bound(point: _Point, ridge: float) -> str:
    return "bound by memory" if point.intensity < ridge else "bound by multiplications"
