"""What `invariant` costs: prefill and decode in both numerics, by processor time.

Processor time, for one thread computes and other programs on the machine disturb it less. The best
of some rounds, both sides in turn.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.engine.laps import Lap
from bench.engine.ours import OurEngine, Prompts, bench_settings

ROUNDS = 2
N_STEPS = 8  # of a decode
KV_MEMORY = 512 * 1024 * 1024

# (row, sequences, tokens of each prompt); no sequences: the prompt itself is timed.
ROWS = (
    ("prefill.512", 0, 512),
    ("prefill.1500", 0, 1500),
    ("decode.b1.128", 1, 128),
    ("decode.b1.1500", 1, 1500),
    ("decode.b8.300", 8, 300),
    ("decode.b32.100", 32, 100),
)


def cost_rows(model: Path, announce: Callable[[str], None]) -> list[dict[str, object]]:
    """One row a comparison; tokens a second of processor time, and how many times slower."""
    settings = bench_settings(model, "float32", KV_MEMORY)
    sides = {name: OurEngine(replace(settings, numerics=name)) for name in ("fast", "invariant")}
    rows: list[dict[str, object]] = []
    for name, n_sequences, n_tokens in ROWS:
        best = dict.fromkeys(sides, 0.0)
        for round_number in range(ROUNDS):
            for side, engine in sides.items():
                announce(f"{name} {side} {round_number + 1}/{ROUNDS}")
                drawn = Prompts(engine.vocab_size, seed=100 * len(rows) + round_number)
                lap = _lap(engine, drawn, n_sequences, n_tokens)
                best[side] = max(best[side], lap.tokens / lap.cpu_s)
        slower = best["fast"] / best["invariant"]
        rows.append(
            {"name": name, "unit": "tokens/s", "slower": round(slower, 2)}
            | {side: round(rate, 1) for side, rate in best.items()}
        )
    return rows


def _lap(engine: OurEngine, drawn: Prompts, n_sequences: int, n_tokens: int) -> Lap:
    if not n_sequences:
        return engine.prefill(drawn.draw(n_tokens))
    return engine.decode([drawn.draw(n_tokens) for _ in range(n_sequences)], N_STEPS)
