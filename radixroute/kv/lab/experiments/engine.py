"""The same model without a cache, in our own paged engine, and in vLLM's where it is installed.

vLLM's is an arm that one asks for. It runs in vLLM's own environment, as a program of a few lines:
nothing of ours is imported there.
"""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_seconds
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Skipped, Table
from radixroute.kv.lab.subjects import Subject, no_caches
from radixroute.kv.lab.words import seconds, times
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.model.torch_runner import load_runner
from radixroute.worker.settings import WorkerSettings

NAME, TITLE = "engine", "No cache against paged engines"
QUESTION = "How far is the simplest program from an engine that people run?"
PROMPT, ANSWER = 128, 32  # tokens
LIMIT_S = 240.0
_PROGRAM = """
import json, sys, time
from vllm import LLM, SamplingParams
model, n_prompt, n_answer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llm = LLM(model=model, dtype="float32", max_model_len=1024, max_num_seqs=4, enforce_eager=True,
          enable_prefix_caching=False)
def run(seed, n):
    ids = [(seed * 7919 + i * 31) % 1000 + 10 for i in range(n_prompt)]
    began = time.perf_counter()
    llm.generate([{"prompt_token_ids": ids}],
                 SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True), use_tqdm=False)
    return time.perf_counter() - began
run(0, 4)
first, whole = (min(run(seed, n) for seed in (1, 2, 3)) for n in (1, n_answer))
print("\\nLAB " + json.dumps([first, whole]))
"""


@dataclass(frozen=True, slots=True)
class _Program:
    """What one of them took, in seconds."""

    name: str
    first: float
    each: float  # further token


def run(bench: Bench) -> Result | Skipped:
    """Needs a model that engines can read; vLLM takes part where its environment is named."""
    subject = next((one for one in bench.subjects if one.folder is not None), None)
    if subject is None:
        return Skipped(NAME, TITLE, "engines need a model folder: name one")
    uncached = _uncached_seconds(subject, bench)
    programs = [_Program("no cache", uncached, uncached)]
    first_s, whole_s = _ours(subject)
    programs.append(_Program("our engine", first_s, (whole_s - first_s) / (ANSWER - 1)))
    bench.tell("our engine")
    absence = ""
    if bench.vllm:
        try:
            first_s, whole_s = _asked(Path(bench.vllm) / "bin" / "python", subject)
            programs.append(_Program("vLLM", first_s, (whole_s - first_s) / (ANSWER - 1)))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            absence = f" vLLM did not answer: {str(error)[-300:]}"
        bench.tell("vLLM")
    else:
        absence = " With `--vllm FOLDER`, an environment that has it, vLLM is measured beside them."
    plot = Plot("engine", f"One token after {PROMPT}, {subject.name}, float32", "program", "ms",
                (Series.bars("ms", [1e3 * one.each for one in programs]),), Kind.BARS,
                categories=tuple(one.name for one in programs))  # fmt: skip
    table = Table(
        f"A prompt of {PROMPT} tokens and an answer of {ANSWER}",
        ("program", "first token", "each further token"),
        tuple((one.name, seconds(one.first), seconds(one.each)) for one in programs),
    )
    facts = {f"{one.name.replace(' ', '_')}.seconds_per_token": one.each for one in programs}
    text = _text(programs) + absence
    return Result(NAME, TITLE, QUESTION, text, (plot,), (table,), facts)


def _text(programs: Sequence[_Program]) -> str:
    uncached, *engines = programs
    told = "; ".join(
        f"{one.name} {seconds(one.first)} and {seconds(one.each)}, "
        f"{times(uncached.each / one.each)} less than without a cache"
        for one in engines
    )
    eager = " vLLM ran uncompiled: its compiler takes longer than this lab."
    return (
        "Without a cache each token of the answer costs what the first one cost: "
        f"{seconds(uncached.each)} after {PROMPT} tokens. With the same weights in float32 and as "
        f"many threads, the first token and each further one took {told}. An engine's first token "
        "includes the way through a scheduler made for many requests, which one request alone does "
        "not need; a further one is little more than one reading of the weights."
        + (eager if len(engines) > 1 else "")
    )


def _ours(subject: Subject) -> tuple[float, float]:
    """Seconds of our engine to its first token, and of the whole answer."""
    settings = WorkerSettings(
        model=str(subject.folder),
        device="cpu",
        dtype="float32",
        max_num_batched_tokens=PROMPT,
        torch_threads=torch.get_num_threads(),
    )
    engine = InferenceEngine(settings, load_runner(settings), time.perf_counter_ns)
    draw = np.random.default_rng(1)

    def answer(n_tokens: int) -> float:
        prompt = draw.integers(0, engine.info.vocab_size, PROMPT, dtype=np.uint32)  # not cached
        sampling = SamplingParams(temperature=0.0, max_tokens=n_tokens, ignore_eos=True)
        began = time.perf_counter()
        engine.submit(EngineRequest("lab", 1, "lab", prompt, sampling, prompt[:0]), 0)
        while engine.has_work:
            engine.step(time.perf_counter_ns())
        return time.perf_counter() - began

    answer(4)
    first, whole = (min(answer(n) for _ in range(3)) for n in (1, ANSWER))
    return first, whole


def _asked(python: Path, subject: Subject) -> tuple[float, float]:
    """Seconds of vLLM to its first token, and of the whole answer."""
    threads = str(torch.get_num_threads())
    done = subprocess.run(  # noqa: S603 - the user's own interpreter, our own program
        [str(python), "-c", _PROGRAM, str(subject.folder), str(PROMPT), str(ANSWER)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it takes every core
        },
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("LAB ")]
    if done.returncode or not lines:
        raise ValueError((done.stderr.strip().splitlines() or ["nothing was printed"])[-1])
    first, whole = json.loads(lines[-1].removeprefix("LAB "))
    return float(first), float(whole)


def _uncached_seconds(subject: Subject, bench: Bench) -> float:
    decoder, ids = subject.decoder, subject.ids(PROMPT)
    return least_seconds(
        lambda: decoder.last_logits(ids, no_caches(decoder)), bench.effort.repeats, enough_s=2.0
    )
