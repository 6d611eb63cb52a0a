"""Load generators of others against our door: `vllm bench serve`, and AIPerf.

Both are told as their users tell them, with our door's address; the command is printed.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.real_vllm.server import NAME, ServerShape

REQUESTS, AT_ONCE = 48, 8
PROMPT_TOKENS, OUTPUT_TOKENS = 200, 16
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Generated:
    """What a generator says of its run. `told`: the end of what it printed, if it failed."""

    program: str
    n_good: int
    ttft_ms: float  # mean
    told: str = ""


def vllm_bench(shape: ServerShape, base: str) -> Generated:
    """`base`: of the door, with /v1."""
    folder = shape.log_dir / "vllm-bench"
    command = [str(shape.environment / "bin" / "vllm"), "bench", "serve", "--backend", "openai"]
    command += ["--base-url", base.removesuffix("/v1"), "--endpoint", "/v1/completions"]
    command += ["--model", NAME, "--tokenizer", str(shape.model), "--dataset-name", "random"]
    command += ["--random-input-len", str(PROMPT_TOKENS), "--ignore-eos"]
    command += ["--random-output-len", str(OUTPUT_TOKENS), "--num-prompts", str(REQUESTS)]
    command += ["--max-concurrency", str(AT_ONCE)]
    command += ["--save-result", "--result-dir", str(folder), "--result-filename", "run.json"]
    environment = {"VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    told = _run(command, environment, shape.log_dir / "vllm-bench.log")
    try:
        found = json.loads((folder / "run.json").read_text())
    except OSError:
        return Generated("vllm bench serve", 0, 0.0, told)
    return Generated("vllm bench serve", found["completed"], found["mean_ttft_ms"])


def aiperf(program: Path, shape: ServerShape, base: str) -> Generated:
    folder = shape.log_dir / "aiperf"
    command = [str(program), "profile", "--model", NAME, "--url", base.removesuffix("/v1")]
    command += ["--endpoint-type", "chat", "--streaming", "--tokenizer", str(shape.model)]
    command += ["--request-count", str(REQUESTS), "--concurrency", str(AT_ONCE)]
    command += ["--isl", str(PROMPT_TOKENS), "--osl", str(OUTPUT_TOKENS)]
    command += ["--artifact-dir", str(folder), "--ui", "none"]
    # Not offline for its hub: then it would take a folder for the name of something there.
    told = _run(command, {}, shape.log_dir / "aiperf.log")
    results = sorted(folder.rglob("profile_export_aiperf.json"))
    if not results:
        return Generated("aiperf", 0, 0.0, told)
    found = json.loads(results[-1].read_text())
    return Generated(
        "aiperf", int(found["request_count"]["avg"]), float(found["time_to_first_token"]["avg"])
    )


def _run(command: Sequence[str], more: dict[str, str], log: Path) -> str:
    """The end of what it printed."""
    print("  $ " + " ".join([Path(command[0]).name, *command[1:]]), flush=True)
    environment = {**os.environ, **more}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as file:
        subprocess.run(
            command,
            stdout=file,
            stderr=file,
            env=environment,
            timeout=LIMIT_S,
            check=False,
            cwd=log.parent,
        )
    return log.read_text(errors="replace")[-2000:]
