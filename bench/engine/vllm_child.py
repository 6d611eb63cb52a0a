"""vLLM as the benchmark drives it, inside vLLM's own environment: `python vllm_child.py OPTIONS`.

Imports nothing of ours: that environment pins what we do not. One engine in this one process, its
steps called by hand, so that nothing spins while the other sides compute. OPTIONS is the JSON of
`vllm.LLM`'s arguments; then one JSON line in is one call, one JSON line out its answer. What vLLM
prints goes to stderr.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from vllm import LLM, SamplingParams  # type: ignore[import-not-found]  # noqa: E402 - it prints

Prompts: TypeAlias = Sequence[list[int]]
Told: TypeAlias = list[float]  # tokens, seconds, CPU seconds


class Engine:
    """`prefill` and `decode` over prompts of token ids, greedy."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._engine: Any = LLM(**options).llm_engine
        self._ids = count()

    def prefill(self, prompts: Prompts) -> Told:
        """Prompts up to and with the first token of each, nothing cached."""
        self._reset()
        began = _now()
        open_ids = self._submit(prompts, 1)
        while open_ids:
            open_ids -= {one.request_id for one in self._engine.step() if one.finished}
        return _lap(began, sum(map(len, prompts)))

    def decode(self, prompts: Prompts, n_steps: int, spare: int) -> Told:
        """So many steps in which each sequence gets a token, after prompts that are all there.

        `spare`: tokens that early ones may get while the prompts of others are computed.
        """
        ids = self._submit(prompts, n_steps + spare)
        seen = dict.fromkeys(ids, 0)
        while not all(seen.values()):
            for one in self._engine.step():
                seen[one.request_id] = len(one.outputs[0].token_ids)
        before = sum(seen.values())
        began = _now()
        for _ in range(n_steps):
            for one in self._engine.step():
                seen[one.request_id] = len(one.outputs[0].token_ids)
        lap = _lap(began, sum(seen.values()) - before)
        self._engine.abort_request(list(ids))
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return lap

    def _submit(self, prompts: Prompts, n_tokens: int) -> set[str]:
        sampling = {"temperature": 0.0, "max_tokens": n_tokens, "ignore_eos": True}
        ids = set()
        for prompt in prompts:
            name = f"bench-{next(self._ids)}"
            params = SamplingParams(**sampling, detokenize=False)
            self._engine.add_request(name, {"prompt_token_ids": prompt}, params)
            ids.add(name)
        return ids

    def _reset(self) -> None:
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("vLLM did not forget its prefix cache")


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _lap(began: tuple[float, float], tokens: int) -> Told:
    wall_s, cpu_s = _now()
    return [tokens, wall_s - began[0], cpu_s - began[1]]


def main() -> None:
    engine = Engine(json.loads(sys.argv[1]))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, *given = json.loads(line)
        print(json.dumps(getattr(engine, name)(*given)), file=answers, flush=True)


if __name__ == "__main__":
    main()
