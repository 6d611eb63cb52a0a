"""Our engine as the benchmark drives it: requests in, steps timed; scheduler and cache included.

Owns one loaded model in this process. Prompts are random token ids: nothing is shared unless a
benchmark shares it on purpose.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from bench.engine.laps import Lap, Stopwatch
from radixroute.radix.ids import Tokens
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest, EngineStep
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.model.torch_runner import load_runner
from radixroute.worker.settings import WorkerSettings

THREADS = 1
# One pass computes any prompt of the benchmark.
BUDGET_TOKENS = 4096
# Tokens that early sequences of a batch may get while the prompts of others are computed.
SPARE_TOKENS = 16
NOTHING: Tokens = np.zeros(0, dtype=np.uint32)


def bench_settings(model: Path, dtype: str, kv_memory: int) -> WorkerSettings:
    return WorkerSettings(
        model=str(model),
        device="cpu",
        dtype=dtype,
        kv_memory=kv_memory,
        max_num_batched_tokens=BUDGET_TOKENS,
        torch_threads=THREADS,
    )


def greedy(max_tokens: int) -> SamplingParams:
    """Exactly so many tokens."""
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)


class Prompts:
    """Random prompts, all different; the same for the same seed."""

    def __init__(self, vocab_size: int, seed: int = 0) -> None:
        self._vocab_size = vocab_size
        self._rng = np.random.default_rng(seed)

    def draw(self, n_tokens: int) -> Tokens:
        return self._rng.integers(3, self._vocab_size, n_tokens, dtype=np.uint32)


class OurEngine:
    """`InferenceEngine` over the torch runner, in this process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._engine = InferenceEngine(settings, load_runner(settings), time.perf_counter_ns)
        self._ids = count()

    @property
    def vocab_size(self) -> int:
        return self._engine.info.vocab_size

    def submit(self, prompts: Iterable[Tokens], max_tokens: int) -> list[str]:
        """Their requests' ids."""
        names = []
        for prompt in prompts:
            name = f"bench-{next(self._ids)}"
            names.append(name)
            request = EngineRequest(name, 1, "bench", prompt, greedy(max_tokens), NOTHING)
            self._engine.submit(request, time.perf_counter_ns())
        return names

    def step(self) -> EngineStep:
        step = self._engine.step(time.perf_counter_ns())
        if step is None:
            raise RuntimeError("the engine has nothing to do")
        return step

    def finish(self) -> None:
        while self._engine.step(time.perf_counter_ns()) is not None:
            pass

    def first_token(self, prompt: Tokens) -> tuple[Lap, int]:
        """From submit to the first token, and how many prompt tokens were cached."""
        watch = Stopwatch()
        self.submit([prompt], max_tokens=1)
        outputs = self.step().outputs
        while not outputs:
            outputs = self.step().outputs
        lap = watch.lap(len(prompt))
        self.finish()
        report = outputs[0].prompt
        return lap, 0 if report is None else report.cached_tokens

    def prefill(self, prompt: Tokens) -> Lap:
        """A prompt up to and with the first sampled token."""
        lap, cached = self.first_token(prompt)
        if cached:
            raise RuntimeError(f"{cached} tokens of a fresh prompt were cached")
        return lap

    def decode(self, prompts: Sequence[Tokens], n_steps: int) -> Lap:
        """Output tokens of all sequences together, after their prompts."""
        names = self.submit(prompts, max_tokens=n_steps + SPARE_TOKENS)
        begun: set[str] = set()
        while len(begun) < len(prompts):
            begun.update(one.request_id for one in self.step().outputs)
        watch = Stopwatch()
        n_tokens = sum(len(self.step().outputs) for _ in range(n_steps))
        lap = watch.lap(n_tokens)
        for name in names:
            self._engine.abort(name, 1)
        self.finish()
        if n_tokens != n_steps * len(prompts):
            raise RuntimeError(f"{n_tokens} tokens in {n_steps} steps of {len(prompts)} sequences")
        return lap
