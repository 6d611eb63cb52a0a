"""The same model in vLLM's paged engine, where it is installed: an arm that one asks for.

It runs in vLLM's own environment, as a program of a few lines: nothing of ours is imported there.
"""

import json
import os
import subprocess
from pathlib import Path

import torch

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.measuring import least_seconds
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Skipped, Table
from radixroute.kv.lab.subjects import Subject, no_caches
from radixroute.kv.lab.words import seconds, times

NAME, TITLE = "engine", "No cache against vLLM's paged engine"
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


def run(bench: Bench) -> Result | Skipped:
    """Needs a folder of an environment with vLLM, and a model that it can read."""
    if not bench.vllm:
        return Skipped(NAME, TITLE, "needs --vllm, the folder of an environment with vLLM")
    subject = next((one for one in bench.subjects if one.folder is not None), None)
    if subject is None:
        return Skipped(NAME, TITLE, "vLLM needs a model folder: name one")
    python = Path(bench.vllm) / "bin" / "python"
    if not python.exists():
        return Skipped(NAME, TITLE, f"there is no {python}")
    try:
        first_s, whole_s = _asked(python, subject)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Skipped(NAME, TITLE, f"vLLM did not answer: {str(error)[-300:]}")
    bench.tell("vLLM")
    each = (whole_s - first_s) / (ANSWER - 1)
    ours = _uncached_seconds(subject, bench)
    plot = Plot("engine", f"One token after {PROMPT}, {subject.name}, float32", "program", "ms",
                (Series.bars("ms", [1e3 * ours, 1e3 * each]),), Kind.BARS,
                categories=("no cache", "vLLM"))  # fmt: skip
    table = Table(
        f"A prompt of {PROMPT} tokens and an answer of {ANSWER}",
        ("program", "first token", "each further token"),
        (("no cache", seconds(ours), seconds(ours)), ("vLLM", seconds(first_s), seconds(each))),
    )
    text = (
        f"Without a cache each token of the answer costs what the first one cost: {seconds(ours)} "
        f"after {PROMPT} tokens. vLLM on the same cores, with the same weights in float32, took "
        f"{seconds(first_s)} for the first token and {seconds(each)} for each further one: "
        f"{times(ours / each)} less than without a cache. Its first token includes the way "
        "through a scheduler made for many requests, which one request alone does not need."
    )
    facts = {"vllm.seconds_per_token": each, "no_cache.seconds_per_token": ours}
    return Result(NAME, TITLE, QUESTION, text, (plot,), (table,), facts)


def _asked(python: Path, subject: Subject) -> tuple[float, float]:
    """Seconds of vLLM to its first token, and of the whole answer."""
    threads = str(torch.get_num_threads())
    done = subprocess.run(  # noqa: S603 - the user's own interpreter, our own program
        [str(python), "-c", _PROGRAM, str(subject.folder), str(PROMPT), str(ANSWER)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads, "VLLM_CPU_KVCACHE_SPACE": "1"},
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
