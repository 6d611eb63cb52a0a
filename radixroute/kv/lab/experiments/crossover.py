"""Where caching does not pay: very short texts, and the first token; and where it begins to."""

import math
from collections.abc import Callable

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_of_each, least_seconds
from radixroute.kv.lab.records import Plot, Result, Series, Table
from radixroute.kv.lab.subjects import (
    BLOCK_SIZE,
    Subject,
    contiguous_caches,
    fill,
    no_caches,
    paged_caches,
)
from radixroute.kv.lab.words import NOISE, against, seconds, share, size
from radixroute.worker.model.teaching.contiguous import ContiguousCache

NAME, TITLE = "crossover", "Where caching does not pay"
QUESTION = "When is a cache of no use, and from which length on does it help?"
PROMPT = 4  # tokens
ANSWER = 16
_MORAL = (
    "So a classifier that reads a short text and says one word gains nothing from a cache of its "
    "own, and neither does an encoder, which reads everything once and writes nothing. Below a "
    f"block of {BLOCK_SIZE} tokens there is nothing whole to share either, and a call of the model "
    "reads its weights once even for one token."
)


def run(bench: Bench) -> Result:
    """Short answers with and without a cache, then first tokens with and without a hit."""
    plots, rows, texts = [], [], []
    facts: dict[str, float] = {}
    for at, subject in enumerate(bench.subjects):
        without, with_cache = _answers(subject, bench)
        cold, warm = _first_tokens(subject, bench)
        # One call with a cache, one without: the first token needs all tokens either way.
        first, enough = _from(without, with_cache), _from(cold, warm)
        facts |= {f"{at}.answer_tokens": first or 0.0, f"{at}.prompt_tokens": enough or 0.0}
        plots += [
            Plot(f"crossover-answer-{at}", f"A prompt of {PROMPT} tokens, {subject.name}",
                 "tokens of the answer", "ms until its end",
                 (_ms("no cache", without), _ms("contiguous", with_cache))),
            Plot(f"crossover-first-{at}", f"Time to first token, {subject.name}",
                 "tokens of the prompt", "ms",
                 (_ms("nothing cached", cold), _ms("all but the last block cached", warm)),
                 is_log_x=True, is_log_y=True),
        ]  # fmt: skip
        rows += [
            (subject.name, f"{n:.0f}", seconds(a), seconds(b), share(b / a))
            for (n, a), (_, b) in zip(cold, warm, strict=True)
        ]
        texts.append(_text(subject, (without, with_cache), (cold, warm), bench))
    table = Table(
        "Time to first token",
        ("model", "prompt", "nothing cached", "prefix cached", "share"),
        tuple(rows),
    )
    return Result(
        NAME, TITLE, QUESTION, "\n\n".join((*texts, _MORAL)), tuple(plots), (table,), facts
    )


Laps = list[tuple[float, float]]  # tokens, seconds


def _answers(subject: Subject, bench: Bench) -> tuple[Laps, Laps]:
    """Time until each token of an answer, without a cache and with one."""
    decoder, ids = subject.decoder, subject.ids(PROMPT + ANSWER)

    def without(caches: list[ContiguousCache], i: int) -> None:
        decoder.last_logits(ids[: PROMPT + i], no_caches(decoder))

    def with_cache(caches: list[ContiguousCache], i: int) -> None:
        if not caches:
            caches += contiguous_caches(decoder, bench.effort.reserved)
        decoder.last_logits(ids[caches[0].length : PROMPT + i], caches)

    both = tuple(_least_laps(step, bench.effort.repeats) for step in (without, with_cache))
    bench.tell(f"{subject.name}: short answers")
    return both[0], both[1]


def _least_laps(step: Callable[[list[ContiguousCache], int], None], repeats: int) -> Laps:
    """For each token of an answer the least time until it, of several whole answers."""
    least = [math.inf] * ANSWER
    for _ in range(repeats + 1):  # the first one warms
        caches: list[ContiguousCache] = []
        spent = 0.0
        for i in range(ANSWER):
            spent += least_seconds(lambda i=i, caches=caches: step(caches, i), 1)  # type: ignore[misc]
            least[i] = min(least[i], spent)
    return [(float(i + 1), took) for i, took in enumerate(least)]


def _first_tokens(subject: Subject, bench: Bench) -> tuple[Laps, Laps]:
    """Prompts of some lengths, cold and with all full blocks but the last cached."""
    decoder = subject.decoder
    cold: Laps = []
    warm: Laps = []
    lengths = [n for n in bench.effort.uncached_lengths if n > BLOCK_SIZE]
    for n in (8, BLOCK_SIZE, *lengths):
        ids = subject.ids(n)
        held = (n - 1) // BLOCK_SIZE * BLOCK_SIZE
        owners = paged_caches(decoder, 2 * n + 2 * BLOCK_SIZE)
        fill(owners, decoder, n)

        def cold_start(ids=ids, n=n) -> None:  # type: ignore[no-untyped-def]
            decoder.last_logits(ids, paged_caches(decoder, n))

        def warm_start(ids=ids, held=held, owners=owners) -> None:  # type: ignore[no-untyped-def]
            caches = [cache.fork(held) for cache in owners]
            decoder.last_logits(ids[held:], caches)
            for cache in caches:
                cache.release()

        least = least_of_each((cold_start, warm_start), bench.effort.repeats)
        cold.append((float(n), least[0]))
        warm.append((float(n), least[1]))
        bench.tell(f"{subject.name}: first token of {n}")
    return cold, warm


def _from(slow: Laps, fast: Laps) -> float | None:
    """The least length from which on the second is faster, beyond noise; None: at no length."""
    found = None
    for (n, a), (_, b) in reversed(list(zip(slow, fast, strict=True))):
        if b >= a * (1 - NOISE):
            break
        found = n
    return found


def _ms(name: str, laps: Laps) -> Series:
    return Series.of(name, [(n, 1e3 * took) for n, took in laps])


def _text(
    subject: Subject, answers: tuple[Laps, Laps], firsts: tuple[Laps, Laps], bench: Bench
) -> str:
    from_answer, from_prompt = _from(*answers), _from(*firsts)
    one = against(
        "an answer of one token with a cache", answers[1][0][1], "without", answers[0][0][1]
    )
    begins = (
        f"from {from_answer:.0f} tokens of answer on it was faster"
        if from_answer
        else f"it was not clearly faster up to {ANSWER} tokens of answer"
    )
    hits = (
        f"from {from_prompt:.0f} tokens on"
        if from_prompt
        else f"at no length up to {firsts[0][-1][0]:.0f} tokens"
    )
    held = size(bench.effort.reserved * subject.token_bytes)
    last_cold, last_warm = firsts[0][-1], firsts[1][-1]
    return (
        f"{subject.name}. The first token needs every token of the prompt, whoever keeps what; "
        f"measured, {one}. After a prompt of {PROMPT} tokens the cache reserved {held}, and "
        f"{begins}. A cache kept from an earlier request saves first tokens too: that helped "
        f"{hits}. At {last_cold[0]:.0f} tokens it brought the first token from "
        f"{seconds(last_cold[1])} to {seconds(last_warm[1])}."
    )
