"""The ways to run a group of prompts: alone, batched, in chunks, under preemption, from the cache.

Owns the loaded model; each way has an engine, and so a cache, of its own. Greedy, `N_NEW` tokens
whatever they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.engine.ours import NOTHING
from bench.numerics.verdict import Answer, Tally
from radixroute.radix.ids import Tokens
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest, TokenOutput
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.engine.runner import ModelFacts, ModelRunner, StepPlan, StepResult
from radixroute.worker.model.torch_runner import load_runner
from radixroute.worker.settings import WorkerSettings

GROUP = 8  # prompts that run together
N_NEW = 64  # tokens of an answer
WHOLE = 4096  # tokens of a step that chunks no prompt of a lone request
KV_MEMORY = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Way:
    """How a group runs. `budget` in tokens a step."""

    name: str
    budget: int
    is_tight: bool = False  # a pool that holds little more than the longest of them
    is_repeated: bool = False  # compared is the second time, from what the first one left


WAYS = (
    Way("batched", WHOLE),
    Way("chunked", 48),
    Way("preempted", 128, is_tight=True),
    Way("cached", WHOLE, is_repeated=True),
)


class _Watched:
    """A runner with a part of its pool; counts chunks that sample nothing."""

    def __init__(self, runner: ModelRunner, n_blocks: int) -> None:
        self._runner = runner
        self.facts: ModelFacts = replace(runner.facts, kv_blocks_total=n_blocks)
        self.chunks = 0

    def execute(self, plan: StepPlan) -> StepResult:
        self.chunks += sum(one.sampling is None for one in plan.slices)
        return self._runner.execute(plan)


class Runs:
    """One model; runs groups of prompts over it."""

    def __init__(self, model: Path, numerics: str) -> None:
        self._settings = WorkerSettings(
            model=str(model),
            device="cpu",
            dtype="float32",
            numerics=numerics,
            kv_memory=KV_MEMORY,
            watermark=0.0,
        )
        self._runner = load_runner(self._settings)

    def alone(self, prompt: Tokens) -> Answer:
        """The reference: the prompt in one step, nothing beside it, nothing cached."""
        engine, _ = self._engine(WHOLE, self._runner.facts.kv_blocks_total)
        ids: list[int] = []
        margins: list[float] = []
        _submit(engine, 0, prompt, logprobs=2)
        while engine.has_work:
            for output in _stepped(engine, 1):
                ids += output.token_ids
                if output.logprobs is not None:
                    for told in output.logprobs.unpacked():
                        (_, best), (_, next_best) = told.top
                        margins.append(best - next_best)
        return Answer(tuple(ids), tuple(margins))

    def together(
        self, way: Way, first: int, prompts: Sequence[Tokens], references: Sequence[Answer],
        tally: Tally,
    ) -> None:  # fmt: skip
        """Run a group and put what came of it into the tally. `first`: the number of its first."""
        n_blocks = self._runner.facts.kv_blocks_total
        if way.is_tight:
            longest = max(len(prompt) for prompt in prompts) + N_NEW
            n_blocks = longest // self._settings.block_size + 4
        engine, watched = self._engine(way.budget, n_blocks)
        if way.is_repeated:
            self._answers(engine, prompts, lambda _: None)

        def count(n_cached: int) -> None:
            tally.cached_tokens += n_cached

        answers = self._answers(engine, prompts, count)
        for number, (reference, got) in enumerate(zip(references, answers, strict=True), first):
            tally.compare(number, reference, got)
        tally.chunks += watched.chunks
        tally.preemptions += engine.scheduler_counters.preemptions

    def _answers(
        self, engine: InferenceEngine, prompts: Sequence[Tokens], on_cached: Callable[[int], None]
    ) -> list[list[int]]:
        for number, prompt in enumerate(prompts):
            _submit(engine, number, prompt)
        answers: list[list[int]] = [[] for _ in prompts]
        now_ns = 0
        while engine.has_work:
            now_ns += 1
            for output in _stepped(engine, now_ns):
                answers[int(output.request_id)] += output.token_ids
                on_cached(output.prompt.cached_tokens if output.prompt else 0)
        return answers

    def _engine(self, budget: int, n_blocks: int) -> tuple[InferenceEngine, _Watched]:
        watched = _Watched(self._runner, n_blocks)
        limits = replace(self._settings, max_num_batched_tokens=budget)
        return InferenceEngine(limits, watched, lambda: 0), watched


def _submit(
    engine: InferenceEngine, number: int, prompt: Tokens, logprobs: int | None = None
) -> None:
    sampling = SamplingParams(temperature=0.0, max_tokens=N_NEW, ignore_eos=True, logprobs=logprobs)
    tokens = np.asarray(prompt, np.uint32)
    engine.submit(EngineRequest(str(number), 1, "bench", tokens, sampling, NOTHING), 0)


def _stepped(engine: InferenceEngine, now_ns: int) -> tuple[TokenOutput, ...]:
    step = engine.step(now_ns)
    outputs = step.outputs if step else ()
    for output in outputs:
        if output.error:
            raise RuntimeError(output.error)
    return outputs
