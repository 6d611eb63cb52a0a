"""The engine proof: prompts with shared prefixes, their reference ids, and one run to compare.

The reference is `transformers`, each prompt alone, float32, greedy. It is committed with the ids of
the prompts; `python -m tests.worker.proof` makes it anew and a slow test compares the two.
"""

import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radixroute.demo.workload.personas import Persona, load_personas
from radixroute.events.wire.records import BlocksRemoved
from radixroute.request.sampling import SamplingParams
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
REFERENCE = ROOT / "tests" / "data" / "reference_smollm2.json"
N_PROMPTS, SHORTEST, LONGEST, N_NEW = 50, 20, 1500, 32
# Below this margin of the reference's two best logits a first difference is a tie.
TIE = 1e-3


@dataclass(frozen=True)
class Case:
    """One prompt: its token ids, the reference's new ids and its top-2 margin at each."""

    prompt: list[int]
    ids: list[int]
    margins: list[float]


@dataclass(frozen=True)
class Outcome:
    """What the engine did, and that it did what the proof asks for."""

    ids: list[list[int]]
    cached_prefixes: int
    evicted_blocks: int
    preemptions: int


def load_cases() -> list[Case]:
    raw = json.loads(REFERENCE.read_text())
    return [Case(**case) for case in raw["cases"]]


def make_prompts(tokenizer: Tokenizer) -> list[list[int]]:
    """Lengths spread evenly on a log scale; a persona's prompts share up to its system prompt."""
    rng = random.Random(20)
    lengths = [int(x) for x in np.geomspace(SHORTEST, LONGEST, N_PROMPTS).round()]
    rng.shuffle(lengths)
    personas = itertools.cycle(load_personas())
    return [_prompt(tokenizer, next(personas), rng, length) for length in lengths]


def _prompt(tokenizer: Tokenizer, persona: Persona, rng: random.Random, length: int) -> list[int]:
    system = [int(i) for i in tokenizer.encode(persona.system)][: 2 * length // 3]
    own = list(persona.asks + persona.pastes)
    tail: list[int] = []
    while len(system) + len(tail) < length:
        rng.shuffle(own)
        tail += tokenizer.encode("\n\n".join(own)).tolist()
    return (system + tail)[:length]


def run_engine(engine: InferenceEngine, prompts: list[list[int]], n_new: int = N_NEW) -> Outcome:
    """All prompts at once, greedy, to `n_new` tokens each whatever they are."""
    sampling = SamplingParams(temperature=0.0, max_tokens=n_new, ignore_eos=True)
    nothing = np.empty(0, np.uint32)
    for i, prompt in enumerate(prompts):
        tokens = np.array(prompt, np.uint32)
        engine.submit(EngineRequest(str(i), 1, "proof", tokens, sampling, nothing), i)
    ids: list[list[int]] = [[] for _ in prompts]
    cached = evicted = 0
    now_ns = len(prompts)
    while engine.has_work:
        now_ns += 1
        step = engine.step(now_ns)
        assert step is not None
        engine.check()
        for output in step.outputs:
            assert output.position == len(ids[int(output.request_id)])
            ids[int(output.request_id)] += output.token_ids
            cached += output.prompt is not None and output.prompt.cached_tokens > 0
        removed = [event for event in step.events if isinstance(event, BlocksRemoved)]
        evicted += sum(len(event.keys) for event in removed)
    return Outcome(ids, cached, evicted, engine.scheduler_counters.preemptions)


def judge(cases: list[Case], ids: list[list[int]]) -> tuple[list[str], list[str]]:
    """(ties, differences): one line for each prompt whose ids are not the reference's."""
    ties: list[str] = []
    differences: list[str] = []
    for i, (case, got) in enumerate(zip(cases, ids, strict=True)):
        if got == case.ids:
            continue
        pairs = itertools.zip_longest(got, case.ids)
        at = next(k for k, (a, b) in enumerate(pairs) if a != b)
        margin = case.margins[at]
        line = (
            f"prompt {i} ({len(case.prompt)} tokens) parts at new token {at}, margin {margin:.2e}"
        )
        (ties if margin < TIE else differences).append(line)
    return ties, differences


def reference_cases(prompts: list[list[int]]) -> list[Case]:
    """`transformers`, each prompt alone."""
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    cases = []
    with torch.inference_mode():
        for prompt in prompts:
            out = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=N_NEW,
                min_new_tokens=None,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
            top = [logits[0].topk(2).values.tolist() for logits in out.logits]
            new = out.sequences[0, len(prompt) :].tolist()
            cases.append(Case(prompt, new, [round(a - b, 6) for a, b in top]))
    return cases


def main() -> None:
    prompts = make_prompts(Tokenizer.from_dir(MODEL))
    cases = [vars(case) for case in reference_cases(prompts)]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    REFERENCE.write_text(f'{{"model":"{MODEL.name}","cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
