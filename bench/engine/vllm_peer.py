"""vLLM on CPU beside ours: a process in its own environment, told what to compute and when.

Owns that process; `vllm_child.py` is what runs in it. It computes in turn with the other sides and
sleeps in between. Called by `plan.py`.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.engine.laps import Lap
from bench.engine.ours import BUDGET_TOKENS, SPARE_TOKENS, THREADS
from bench.real_vllm.server import BLOCK_SIZE, server_environment
from radixroute.radix.ids import Tokens

_CHILD = Path(__file__).with_name("vllm_child.py")


class VllmFailed(Exception):
    """The process ended. `args[0]` says where its log is."""


class VllmPeer:
    """One loaded engine. Raises `VllmFailed` once its process is gone."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log
        self._answer()

    def prefill(self, prompt: Tokens) -> Lap:
        """A prompt up to and with the first greedy token."""
        return self._call("prefill", [prompt.tolist()])

    def decode(self, prompts: Sequence[Tokens], n_steps: int) -> Lap:
        """Output tokens of all sequences together, after their prompts."""
        lap = self._call("decode", [one.tolist() for one in prompts], n_steps, SPARE_TOKENS)
        if lap.tokens != n_steps * len(prompts):
            told = f"vLLM gave {lap.tokens} tokens in {n_steps} steps of {len(prompts)} sequences"
            raise RuntimeError(told)
        return lap

    def _call(self, name: str, *given: object) -> Lap:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([name, *given]) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise VllmFailed(f"vLLM ended: see {self._log}") from error
        tokens, wall_s, cpu_s = self._answer()
        return Lap(int(tokens), wall_s, cpu_s)

    def _answer(self) -> list[float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise VllmFailed(f"vLLM ended: see {self._log}")
        answer: list[float] = json.loads(line)
        return answer


@contextmanager
def vllm_peer(environment: Path, model: Path, dtype: str, log: Path) -> Iterator[VllmPeer]:
    """Started as its users have it, compiled; ended with the `with`. Raises `VllmFailed`."""
    options = {
        "model": str(model.absolute()),
        "dtype": dtype,
        "max_model_len": BUDGET_TOKENS,
        "max_num_batched_tokens": BUDGET_TOKENS,
        "max_num_seqs": 64,
        "block_size": BLOCK_SIZE,
        "enable_prefix_caching": True,
    }
    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(THREADS)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as told:
        process = subprocess.Popen(
            [environment / "bin" / "python", str(_CHILD), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            env={**server_environment(), **own},
            text=True,
        )
    try:
        yield VllmPeer(process, log)
    finally:
        process.kill()
        process.wait()
