"""A model that really reads its context through the paged pool, without torch.

Every slot of the pool stores the (token, position) written to it; the next token is a hash of all
that a sequence sees through its block table. A wrong table, a stale or garbage block, or a token
computed twice or never changes every later token.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.radix.keys.scope import UNSCOPED
from radixroute.request.logprobs import TokenLogprob
from radixroute.request.sampling import SamplingParams
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.engine.runner import ModelFacts, StepPlan, StepResult
from radixroute.worker.errors import StartFailed
from radixroute.worker.settings import WorkerSettings

EOS = 0
VOCAB = 97
NOWHERE = -1
NAN = -2


class FakeRunner:
    """Deterministic; `fail_steps` names executions (from 0) that raise half-way.

    A context with a token of `bad_tokens` is computed to NaN, and so is what sees it in the pool.
    With a `window` it reads the last so many tokens alone.
    """

    def __init__(
        self,
        n_blocks=64,
        block_size=4,
        vocab_size=VOCAB,
        max_model_len=256,
        adapters=(),
        window=None,
    ):
        self._facts = ModelFacts(
            model="fake",
            block_size=block_size,
            max_model_len=max_model_len,
            vocab_size=vocab_size,
            eos_token_ids=(EOS,),
            fingerprint="fa4e",
            dtype="float32",
            device="cpu",
            kv_blocks_total=n_blocks,
            adapters=tuple(adapters),
            window=window,
        )
        self.pool = np.full((n_blocks, block_size, 2), NOWHERE, dtype=np.int64)
        self.plans: list[StepPlan] = []
        self.fail_steps: set[int] = set()
        self.bad_tokens: set[int] = set()
        self.unsound: dict[int, tuple[int, int]] = {}  # execution -> slice and block to call so
        self.n_computed = 0

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def execute(self, plan: StepPlan) -> StepResult:
        step = len(self.plans)
        self.plans.append(plan)
        written = set()
        for part in plan.slices:
            for offset, token in enumerate(part.token_ids.tolist()):
                slot = self._slot(part, part.start + offset)
                assert slot not in written, "two slices write one slot in one step"
                written.add(slot)
                self.pool[slot] = (NAN if token in self.bad_tokens else token, part.start + offset)
                self.n_computed += 1
            if step in self.fail_steps:
                first = part.start // self.facts.block_size - part.first_block
                self.pool[part.block_table[first:]] = NOWHERE
        if step in self.fail_steps:
            raise RuntimeError("the fake was told to fail")
        unsound = frozenset(
            at for at, part in enumerate(plan.slices) if NAN in self._seen(part)[:, 0]
        )
        sound = [part for at, part in enumerate(plan.slices) if at not in unsound]
        sampled = [part for part in sound if part.sampling is not None]
        ids = tuple(self._sample(part) for part in sampled)
        told = tuple(map(told_of, sampled, ids))
        blocks = {b for at in unsound for b in plan.slices[at].block_table.tolist()}
        if step in self.unsound:
            at, block = self.unsound[step]
            ids, told = ids[:at] + ids[at + 1 :], told[:at] + told[at + 1 :]
            return StepResult(ids, frozenset({at}), frozenset({block}), told)
        bad = frozenset(b for b in blocks if NAN in self.pool[b, :, 0])
        return StepResult(ids, unsound, bad, told)

    def _slot(self, part, position):
        size = self.facts.block_size
        return int(part.block_table[position // size - part.first_block]), position % size

    def _seen(self, part):
        """What the tokens of a slice see, from the first one's window on."""
        size, window = self.facts.block_size, self.facts.window
        end = part.start + len(part.token_ids)
        start = 0 if window is None else max(0, part.start - window + 1)
        assert len(part.block_table) == -(-end // size) - part.first_block
        held = self.pool[part.block_table].reshape(-1, 2)
        seen = held[start - part.first_block * size :][: end - start]
        assert part.first_block * size <= start, "a block is gone that a token sees"
        assert (seen[:, 1] == np.arange(start, end)).all(), "a slot holds no or another's KV"
        return seen

    def _sample(self, part):
        seen = self._seen(part)[-(self.facts.window or 0) :, 0].tolist()
        seed, vocab_size = part.sampling.seed, self.facts.vocab_size
        assert (part.history is None) == (not part.sampling.reads_history)
        if part.history is None:
            return next_token(seen, seed, vocab_size, part.forbidden)
        assert part.history.tokens.tolist() == seen
        return next_token(seen, seed, vocab_size, part.forbidden, part.history.n_prompt)


def told_of(part, token_id):
    """What the fake model thinks of a token: something of that id and its position alone."""
    if part.sampling.logprobs is None:
        return None
    position = part.start + len(part.token_ids)
    top = tuple((at, -float(at + position)) for at in range(part.sampling.logprobs))
    return TokenLogprob(-(token_id + position / 8), top)


def next_token(context, seed=0, vocab_size=VOCAB, forbidden=(), n_prompt=0):
    """What the fake model says after these tokens; the next id up where that one is forbidden.

    Under penalties it also depends on how many of them are prompt.
    """
    raw = np.array([seed, n_prompt, *context], dtype=np.uint64).tobytes()
    token = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little") % vocab_size
    while token in forbidden:
        token = (token + 1) % vocab_size
    return token


def alone(prompt, sampling, emitted=(), window=None):
    """The output ids of a request that has the engine to itself."""
    output = list(emitted)
    ends = {*sampling.stop_token_ids, *(() if sampling.ignore_eos else (EOS,))}
    while len(output) < sampling.max_tokens:
        forbidden = ends if len(output) < sampling.min_tokens else ()
        if output[sampling.min_tokens :] and output[-1] in ends:
            break
        n_prompt = len(prompt) if sampling.reads_history else 0
        known, seed = [*prompt, *output][-(window or 0) :], sampling.seed
        output.append(next_token(known, seed, forbidden=forbidden, n_prompt=n_prompt))
    return output


class Listener:
    """What a router believes that only hears the events."""

    def __init__(self):
        self.keys = set()

    def hear(self, events):
        for event in events:
            if isinstance(event, BlocksStored):
                assert event.parent is None or event.parent in self.keys
                fresh = set(event.keys.tolist())
                assert not fresh & self.keys, "a block is stored that was there already"
                self.keys |= fresh
            else:
                assert isinstance(event, BlocksRemoved)
                gone = set(event.keys.tolist())
                assert gone <= self.keys, "a block is removed that was not there"
                self.keys -= gone


def assert_at_rest(engine):
    engine.check()
    assert not engine.has_work
    assert engine.step(0) is None


class FakeClock:
    """Nanoseconds that only move when told, or by `tick_ns` at each reading."""

    def __init__(self, tick_ns=0):
        self.now_ns = 0
        self.tick_ns = tick_ns

    def __call__(self):
        self.now_ns += self.tick_ns
        return self.now_ns


def make_engine(runner=None, **settings):
    runner = runner or FakeRunner()
    engine = InferenceEngine(WorkerSettings(**settings), runner, FakeClock(tick_ns=1000))
    return engine, runner


def request(
    request_id,
    prompt,
    session_id="s",
    emitted=(),
    attempt=1,
    dispatch_seq=0,
    *,
    scope=UNSCOPED,
    **sampling,
):
    return EngineRequest(
        request_id=request_id,
        attempt=attempt,
        session_id=session_id,
        prompt=np.array(prompt, dtype=np.uint32),
        sampling=SamplingParams(**{"max_tokens": 8, **sampling}),
        emitted=np.array(emitted, dtype=np.uint32),
        dispatch_seq=dispatch_seq,
        scope=scope,
    )


def drain(engine, limit=10_000):
    """Step until nothing is left; every output by request id, and all steps."""
    outputs: dict[str, Any] = {}
    steps: list[Any] = []
    for now in range(limit):
        step = engine.step(now)
        if step is None:
            return outputs, steps
        steps.append(step)
        for output in step.outputs:
            outputs.setdefault(output.request_id, []).append(output)
    raise AssertionError("the engine never came to rest")


def ids(outputs):
    return [token for output in outputs for token in output.token_ids]


def make_runner(settings: WorkerSettings) -> FakeRunner:
    """The runner factory that engine processes of tests are started with."""
    n_blocks = settings.kv_memory // (settings.block_size * 8)
    return FakeRunner(n_blocks=n_blocks, block_size=settings.block_size, max_model_len=4096)


def adapted_runner(settings: WorkerSettings) -> FakeRunner:
    """It says that it serves adapters; what it computes is the same for all."""
    n_blocks = settings.kv_memory // (settings.block_size * 8)
    size = settings.block_size
    return FakeRunner(n_blocks, size, max_model_len=4096, adapters=("X", "Y"))


def make_tokenizer():
    """97 byte-level tokens: id 0 ends an answer, 1 to 94 are printable, two are half characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: VOCAB - 1]
    vocab = {"<eos>": EOS, **{piece: index + 1 for index, piece in enumerate(alphabet)}}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken("<eos>", special=True)])
    config = json.dumps({"eos_token": "<eos>"}).encode()
    return Tokenizer({"tokenizer.json": backend.to_str().encode(), "tokenizer_config.json": config})


FAKE_RUNNER = "tests.worker.fakes:make_runner"


def broken_runner(settings: WorkerSettings) -> FakeRunner:
    raise StartFailed("no model here; put one there")


# While this file is there, slow runners take their time; engines are other processes.
_HOLD = os.environ.setdefault("HOLD_SLOW_RUNNERS", f"{tempfile.gettempdir()}/hold-{os.getpid()}")


@contextmanager
def held_back() -> Iterator[None]:
    """Every step of every slow runner takes 50 ms inside: a request of 200 tokens outlives any
    pause of the test that watches it."""
    hold = Path(_HOLD)
    hold.touch()
    try:
        yield
    finally:
        hold.unlink(missing_ok=True)


def slow_runner(settings: WorkerSettings) -> FakeRunner:
    """A step takes 2 ms, so that requests overlap; inside `held_back` it takes 50."""

    class Slow(FakeRunner):
        def execute(self, plan):
            time.sleep(0.05 if os.path.exists(_HOLD) else 0.002)
            return super().execute(plan)

    n_blocks = settings.kv_memory // (settings.block_size * 8)
    return Slow(n_blocks=n_blocks, block_size=settings.block_size, max_model_len=4096)


def failing_runner(settings: WorkerSettings) -> FakeRunner:
    runner = make_runner(settings)
    runner.fail_steps = set(range(1000))
    return runner


def dying_runner(settings: WorkerSettings) -> FakeRunner:
    os._exit(3)
