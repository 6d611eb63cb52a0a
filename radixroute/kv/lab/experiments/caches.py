"""No cache, a contiguous one, a paged one, and a paged one with a prefix hit: time and memory.

FLOPs and bytes are counted, so their growth is exact; times are measured at some lengths. A cache
of a long context is filled with random numbers: attention costs what it costs whatever they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import (
    exponent,
    least_of_each,
    least_seconds,
    rss_peak,
    summed,
    tensor_peak,
)
from radixroute.kv.lab.records import Plot, Result, Series, Table
from radixroute.kv.lab.subjects import (
    BLOCK_SIZE,
    Subject,
    contiguous_caches,
    fill,
    no_caches,
    paged_caches,
)
from radixroute.kv.lab.words import against, count, seconds, share, size, times
from radixroute.worker.model.teaching.contiguous import ContiguousCache
from radixroute.worker.model.teaching.paged import PagedCache

NAME, TITLE = "caches", "With a cache and without"
QUESTION = "What does a KV cache save, what does it cost, and what does paging change?"
NONE, CONTIGUOUS, PAGED, HIT = "no cache", "contiguous", "paged", "paged + prefix hit"
ARMS = (NONE, CONTIGUOUS, PAGED)


@dataclass(frozen=True, slots=True)
class _Step:
    """One new token after a context of so many."""

    length: int  # tokens, the new one included
    seconds: float
    flops: int
    n_bytes: int


Caches = Sequence[ContiguousCache] | Sequence[PagedCache]
Steps = dict[str, list[_Step]]  # by arm, shortest first


@dataclass(frozen=True, slots=True)
class _Whole:
    """A prompt and its answer."""

    arm: str
    first_s: float  # until the first token
    total_s: float
    cache_bytes: int  # that the cache holds for this sequence
    peak_bytes: int  # of tensors that a step makes beside the cache
    rss_bytes: int | None


def run(bench: Bench) -> Result:
    """Measures every subject in turn."""
    plots: list[Plot] = []
    tables: list[Table] = []
    texts: list[str] = []
    facts: dict[str, float] = {}
    for at, subject in enumerate(bench.subjects):
        steps = _steps((NONE,), bench.effort.uncached_lengths, subject, bench)
        steps |= _steps((CONTIGUOUS, PAGED), bench.effort.cached_lengths, subject, bench)
        wholes = [_whole(arm, subject, bench) for arm in (*ARMS, HIT)]
        plots += _plots(at, subject, steps)
        tables += [_growth(subject, steps), _costs(subject, wholes, bench)]
        texts.append(_text(subject, steps, wholes, bench))
        facts |= _facts(at, steps)
    return Result(NAME, TITLE, QUESTION, "\n\n".join(texts), tuple(plots), tuple(tables), facts)


def _steps(
    arms: tuple[str, ...], lengths: tuple[int, ...], subject: Subject, bench: Bench
) -> Steps:
    """Steps at some lengths; the arms take turns at each."""
    decoder = subject.decoder
    found: Steps = {arm: [] for arm in arms}
    for length in (n for n in lengths if n <= subject.max_tokens):
        steps = [_one_step(arm, subject, length) for arm in arms]
        laps = least_of_each(steps, bench.effort.repeats)
        for arm, step, lap in zip(arms, steps, laps, strict=True):
            decoder.work.clear()
            step()
            work = decoder.work
            found[arm].append(_Step(length, lap, work.flops, work.bytes_moved))
        bench.tell(f"{subject.name}: {' and '.join(arms)}, {length:,} tokens")
    return found


def _one_step(arm: str, subject: Subject, length: int) -> Callable[[], object]:
    """Computes the token at position length - 1; may be called again and again."""
    decoder = subject.decoder
    if arm == NONE:
        ids = subject.ids(length)
        return lambda: decoder.last_logits(ids, no_caches(decoder))
    caches: Caches = (
        contiguous_caches(decoder, length) if arm == CONTIGUOUS else paged_caches(decoder, length)
    )
    fill(caches, decoder, length - 1)
    token = subject.ids(1)

    def step() -> None:
        decoder.last_logits(token, caches)
        for cache in caches:
            cache.length = length - 1  # the same token again

    return step


def _whole(arm: str, subject: Subject, bench: Bench) -> _Whole:
    decoder, effort = subject.decoder, bench.effort
    n_prompt, n_answer = effort.answer
    prompt, answer = subject.ids(n_prompt), subject.ids(n_answer, seed=1)
    n_all = n_prompt + n_answer
    if arm == NONE:
        texts = [subject.ids(n_prompt + i) for i in range(n_answer)]
        laps, rss = rss_peak(lambda: [_uncached_seconds(subject, ids) for ids in texts])
        peak = tensor_peak(lambda: decoder.last_logits(texts[-1], no_caches(decoder)))
        bench.tell(f"{subject.name}: {arm}, a whole answer")
        return _Whole(arm, laps[0], sum(laps), 0, peak, rss)
    owners = paged_caches(decoder, 2 * n_all) if arm == HIT else []
    if arm == HIT:  # somebody asked with the same prefix before
        fill(owners, decoder, n_prompt)
    made: list[Caches] = []

    def begin() -> Caches:
        if arm == CONTIGUOUS:
            return contiguous_caches(decoder, max(effort.reserved, n_all))
        if arm == PAGED:
            return paged_caches(decoder, n_all)
        return [cache.fork(n_prompt - 1) for cache in owners]

    def write() -> list[float]:
        caches = begin()
        made.append(caches)
        rest = prompt[caches[0].length :]
        laps = [least_seconds(lambda: decoder.last_logits(rest, caches), 1)]
        for i in range(n_answer - 1):
            token = answer[i : i + 1]
            laps.append(least_seconds(lambda: decoder.last_logits(token, caches), 1))  # noqa: B023
        return laps

    laps, rss = rss_peak(write)
    held = _held(made[-1])
    peak = tensor_peak(lambda: decoder.last_logits(answer[-1:], made[-1]))
    bench.tell(f"{subject.name}: {arm}, a whole answer")
    return _Whole(arm, laps[0], sum(laps), held, peak, rss)


def _uncached_seconds(subject: Subject, ids: Tensor) -> float:
    decoder = subject.decoder
    return least_seconds(lambda: decoder.last_logits(ids, no_caches(decoder)), 1)


def _held(caches: Caches) -> int:
    total = 0
    for cache in caches:
        if isinstance(cache, ContiguousCache):
            total += cache.reserved_bytes
        else:
            total += len(cache.table) * cache.block_bytes
    return total


def _facts(at: int, steps: Steps) -> dict[str, float]:
    facts: dict[str, float] = {}
    for arm, found in steps.items():
        xs = [one.length for one in found]
        each = [float(one.flops) for one in found]
        key = f"{at}.{arm.replace(' ', '_')}"
        facts[f"{key}.flops_per_token_exponent"] = exponent(xs, each)
        facts[f"{key}.flops_total_exponent"] = exponent(xs, summed(xs, each))
        facts[f"{key}.seconds_per_token_exponent"] = exponent(xs, [s.seconds for s in found])
    return facts


def crossover_tokens(subject: Subject) -> float:
    """Context from which one cached token spends more FLOPs on attention than on weights."""
    decoder = subject.decoder
    a, b = _flops(subject, 2), _flops(subject, 3)
    return 2 * decoder.weight_elements / max(1, b - a)


def _flops(subject: Subject, length: int) -> int:
    step = _one_step(CONTIGUOUS, subject, length)
    subject.decoder.work.clear()
    step()
    return subject.decoder.work.flops


def _plots(at: int, subject: Subject, steps: Steps) -> list[Plot]:
    def series(of: Callable[[_Step], float]) -> tuple[Series, ...]:
        return tuple(
            Series.of(arm, [(s.length, of(s)) for s in found]) for arm, found in steps.items()
        )

    totals = tuple(
        Series(
            arm,
            tuple(float(s.length) for s in found),
            tuple(summed([s.length for s in found], [s.seconds for s in found])),
        )
        for arm, found in steps.items()
    )
    x = "tokens so far"
    return [
        Plot(
            f"caches-token-{at}",
            f"Time of one token, {subject.name}",
            x,
            "ms",
            series(lambda s: 1e3 * s.seconds),
            is_log_x=True,
            is_log_y=True,
        ),
        Plot(
            f"caches-total-{at}",
            f"Time of a whole text, written token by token, {subject.name}",
            "tokens of the text",
            "s",
            totals,
            is_log_x=True,
            is_log_y=True,
        ),
        Plot(
            f"caches-flops-{at}",
            f"Counted work of one token, {subject.name}",
            x,
            "GFLOP",
            series(lambda s: s.flops / 1e9),
            is_log_x=True,
            is_log_y=True,
        ),
    ]


def _growth(subject: Subject, steps: Steps) -> Table:
    facts = _facts(0, steps)
    rows = []
    for arm in steps:
        key = f"0.{arm.replace(' ', '_')}"
        rows.append(
            (
                arm,
                f"{facts[f'{key}.flops_per_token_exponent']:.2f}",
                f"{facts[f'{key}.flops_total_exponent']:.2f}",
                f"{facts[f'{key}.seconds_per_token_exponent']:.2f}",
            )
        )
    return Table(
        f"Growth with length, {subject.name}: the k of n^k, over the measured lengths",
        ("cache", "FLOPs of a token", "FLOPs of a text", "time of a token"),
        tuple(rows),
    )


def _costs(subject: Subject, wholes: list[_Whole], bench: Bench) -> Table:
    n_prompt, n_answer = bench.effort.answer
    return Table(
        f"A prompt of {n_prompt} tokens and an answer of {n_answer}, {subject.name}",
        ("cache", "first token", "all", "cache holds", "peak of other tensors", "RSS grew by"),
        tuple(
            (
                one.arm,
                seconds(one.first_s),
                seconds(one.total_s),
                size(one.cache_bytes),
                size(one.peak_bytes),
                "not known" if one.rss_bytes is None else size(one.rss_bytes),
            )
            for one in wholes
        ),
    )


def _text(subject: Subject, steps: Steps, wholes: list[_Whole], bench: Bench) -> str:
    by_arm = {one.arm: one for one in wholes}
    parts = [_growth_text(subject, steps), _paging(steps), _claim(by_arm, bench)]
    return "\n\n".join(parts)


def _growth_text(subject: Subject, steps: Steps) -> str:
    facts = _facts(0, steps)
    none, contiguous = steps[NONE], steps[CONTIGUOUS]
    last, first = contiguous[-1], contiguous[0]

    def of(arm: str, what: str) -> str:
        return f"n^{facts[f'0.{arm}.{what}_exponent']:.2f}"

    return (
        f"{subject.name}. Without a cache a token costs the work of all tokens before it: its "
        f"FLOPs grew as {of('no_cache', 'flops_per_token')}, those of a whole text as "
        f"{of('no_cache', 'flops_total')}, and at {none[-1].length} tokens one took "
        f"{seconds(none[-1].seconds)}. With a cache only the new token goes through the weights: "
        f"{of('contiguous', 'flops_per_token')} a token, {of('contiguous', 'flops_total')} a "
        "text. Is a cached token then O(1), as some say, or O(n), as others do? Its work is a "
        f"constant ({count(subject.decoder.weight_elements)} weights, each once) plus attention, "
        "which grows with the context and equals the constant at "
        f"{crossover_tokens(subject):,.0f} tokens. Far below that the sum is nearly constant, far "
        f"above it is a line. Measured, a token after {last.length:,} took "
        f"{times(last.seconds / first.seconds)} as long as one after {first.length} "
        f"({of('contiguous', 'seconds_per_token')} over all lengths)."
    )


def _paging(steps: Steps) -> str:
    contiguous, paged = steps[CONTIGUOUS], steps[PAGED]
    sentence = against(
        f"At {paged[-1].length:,} tokens a paged step",
        paged[-1].seconds,
        "a contiguous one",
        contiguous[-1].seconds,
    )
    return (
        "Paging adds no multiplications; here it gathers the scattered blocks into one piece "
        f"first, which moves {size(paged[-1].n_bytes)} in place of {size(contiguous[-1].n_bytes)} "
        f"a step. {sentence}."
    )


def _claim(by_arm: dict[str, _Whole], bench: Bench) -> str:
    """What of "paged takes most memory and is fastest" these numbers bear out."""
    none, contiguous, paged, hit = (by_arm[arm] for arm in (NONE, CONTIGUOUS, PAGED, HIT))
    most = max((contiguous, paged), key=lambda one: one.cache_bytes)
    fastest = min((contiguous, paged), key=lambda one: one.total_s)
    slower = max(contiguous.total_s, paged.total_s) / fastest.total_s
    lead = "by less than this machine's noise" if slower < 1.1 else f"by {times(slower)}"
    verdict = (
        "so the claim held here"
        if most is paged and fastest is paged and slower >= 1.1
        else "so the claim did not hold here as it is told"
    )
    n_tokens = sum(bench.effort.answer)
    untouched = (
        " RSS grew by less than was reserved, since the system gives memory page by page as it is "
        "written; a GPU's memory is gone at once."
        if contiguous.rss_bytes is not None and contiguous.rss_bytes < contiguous.cache_bytes
        else ""
    )
    return (
        "One often reads that a paged cache takes the most memory and is the fastest. For "
        f"{n_tokens} tokens the {most.arm} cache held more ({size(contiguous.cache_bytes)} "
        f"contiguous, reserved for {bench.effort.reserved:,} tokens; {size(paged.cache_bytes)} "
        f"paged, whole blocks of {BLOCK_SIZE}), and of one sequence the {fastest.arm} one was "
        f"faster, {lead}: {verdict}. What paging wins is room for more sequences, and blocks that "
        "they may share: with the prompt's blocks already there the first token came after "
        f"{seconds(hit.first_s)}, {share(hit.first_s / paged.first_s)} of "
        f"{seconds(paged.first_s)}; without any cache the whole answer took "
        f"{times(none.total_s / contiguous.total_s)} as long as with one.{untouched}"
    )
