"""What every prefix comes to, bit by bit, under any plan of two workers."""

from dataclasses import replace

import numpy as np
import torch

from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.settings import WorkerSettings
from tests.worker.tiny import BLOCK_SIZE

Bits = dict[bytes, bytes]  # by the tokens of a prefix: what its last one came to


class Recorder:
    """A runner that notes what every prefix comes to, and compares it with what it came to ever."""

    def __init__(self, runner, logits: Bits, rows: Bits, n_blocks: int | None = None) -> None:
        self.runner, self.facts = runner, runner.facts
        if n_blocks is not None:
            self.facts = replace(runner.facts, kv_blocks_total=n_blocks)
        self.logits, self.rows = logits, rows
        self.tokens: dict[int, bytes] = {}  # by block: of the whole prefix up to its end
        self.n_rows = 0

    def execute(self, plan):
        seen: list[torch.Tensor] = []
        model = self.runner._model
        plain = model.logits

        def noted(hidden):
            seen.append(plain(hidden))
            return seen[-1].clone()

        model.logits = noted
        try:
            result = self.runner.execute(plan)
        finally:
            del model.logits
        rows = iter(seen[0] if seen else ())
        for part in plan.slices:
            prefix = self._note(part)
            if part.sampling is not None:
                same(self.logits, prefix, next(rows))
        return result

    def _note(self, part):
        """Every row that the slice wrote; returns the tokens of its whole context."""
        size = self.runner.pool.block_size
        before = b""
        if part.start:
            block = int(part.block_table[(part.start - 1) // size - part.first_block])
            before = self.tokens[block][: 4 * part.start]
        context = before + part.token_ids.tobytes()
        assert len(context) == 4 * (part.start + len(part.token_ids))
        for at in range(part.start, len(context) // 4):
            block = int(part.block_table[at // size - part.first_block])
            prefix = context[: 4 * (at + 1)]
            planes = [plane[:, block, at % size] for plane in self.runner.pool.planes.values()]
            same(self.rows, prefix, torch.cat([plane.flatten() for plane in planes]))
            self.tokens[block] = prefix
            self.n_rows += 1
        return context


def same(bits: Bits, prefix: bytes, found: torch.Tensor) -> None:
    now = (found + 0.0).numpy().tobytes()  # -0 and 0 are one number
    assert bits.setdefault(prefix, now) == now, f"token {len(prefix) // 4 - 1} came out otherwise"


def engine_over(runner, **changes):
    limits = {"watermark": 0.0, "block_size": BLOCK_SIZE, "numerics": "invariant", **changes}
    return InferenceEngine(WorkerSettings(**limits), runner, lambda: 0)


def asked(name, job, emitted=()):
    sampling = SamplingParams(temperature=0.0, max_tokens=job["n_new"], ignore_eos=True)
    return EngineRequest(
        name, 1 + len(emitted), "s", job["prompt"], sampling, np.array(emitted, np.uint32)
    )


def play(engines, jobs):
    """All jobs at their steps; those that move go on at the other worker. Tokens by job."""
    told: list[list[int]] = [[] for _ in jobs]
    place = [job["worker"] for job in jobs]
    now = 0
    while now < 8 or any(engine.has_work for engine in engines):
        for i, job in enumerate(jobs):
            if job["at"] == now:
                engines[place[i]].submit(asked(str(i), job), now)
            if job["moves_at"] == now > job["at"] and len(told[i]) < job["n_new"]:
                engines[place[i]].abort(str(i), 1)
                place[i] = 1 - place[i]
                engines[place[i]].submit(asked(str(i), job, told[i]), now)
        for number, engine in enumerate(engines):
            step = engine.step(now)
            for output in step.outputs if step else ():
                i = int(output.request_id)
                assert output.error == ""
                if place[i] == number:
                    told[i] += output.token_ids
        now += 1
    return told
