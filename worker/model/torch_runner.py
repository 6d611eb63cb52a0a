"""Torch runner: a `ModelRunner` that loads a model folder, owns its KV pool, computes step plans.

Chooses device and dtype, and sizes the pool. No scheduling, no clock, no socket. Called by
`InferenceEngine`; `load_runner` is what the engine process calls by default.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from radixroute.request.errors import TokenizerError
from radixroute.request.logprobs import TokenLogprob
from radixroute.request.sampling import SamplingParams
from radixroute.request.tokenizer import TOKENIZER_FILE, Tokenizer
from radixroute.worker.engine.runner import (
    ModelFacts,
    SequenceSlice,
    StepPlan,
    StepResult,
)
from radixroute.worker.errors import ModelError, StartFailed
from radixroute.worker.model.attention.backend import AttentionBackend
from radixroute.worker.model.attention.invariant import InvariantBackend
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.cpu.backend import CpuBackend
from radixroute.worker.model.cpu.ops import CpuOps
from radixroute.worker.model.families.family import Model, ModelConfig
from radixroute.worker.model.folder import model_folder
from radixroute.worker.model.kv.formats import format_named
from radixroute.worker.model.kv.pool import KVPool, blocks_that_fit, format_of, new_pool
from radixroute.worker.model.layers.invariant_ops import InvariantOps
from radixroute.worker.model.layers.ops import Ops
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.sampling.sampler import Choice, choose
from radixroute.worker.model.weights import Weights, fingerprint
from radixroute.worker.settings import WorkerSettings


class TorchRunner:
    """A loaded model with its KV pool."""

    def __init__(
        self, model: Model, pool: KVPool, facts: ModelFacts, attention: AttentionBackend
    ) -> None:
        self._model = model
        self._pool = pool
        self._facts = facts
        self._attention = attention

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    @property
    def pool(self) -> KVPool:
        """The pool itself, for tests that damage it."""
        return self._pool

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> StepResult:
        slices = plan.slices
        if not slices:
            return StepResult(())
        self._attention.plan(slices)
        hidden = self._model.forward(
            self._tensor(np.concatenate([s.token_ids for s in slices]).astype(np.int64)),
            self._tensor(_positions(slices)),
            self._attention,
        )
        last = hidden[self._tensor(np.cumsum([len(s.token_ids) for s in slices]) - 1)]
        ids, told = self._sampled(slices, last)
        unsound = {at for at, token_id in ids.items() if token_id is None}
        unsound |= self._unsound_chunks(slices, last)
        sound = [at for at, token_id in ids.items() if token_id is not None] if told else []
        return StepResult(
            tuple(token_id for token_id in ids.values() if token_id is not None),
            frozenset(unsound),
            self._unsound_blocks([slices[at] for at in unsound]),
            tuple(told.get(at) for at in sound),
        )

    def _sampled(
        self, slices: Sequence[SequenceSlice], last: torch.Tensor
    ) -> tuple[dict[int, int | None], dict[int, TokenLogprob]]:
        """By place in the plan: the id, or None where the logits are no numbers; what is told."""
        places = [at for at, s in enumerate(slices) if s.sampling]
        if not places:
            return {}, {}
        logits = self._model.logits(last[self._tensor(np.array(places))])
        choices = [
            Choice(s.sampling, s.start + len(s.token_ids), s.forbidden, s.history)
            for s in slices
            if s.sampling
        ]
        ids, told = choose(logits, choices)
        by_place = {places[row]: one for row, one in told.items()}
        return dict(zip(places, ids, strict=True)), by_place

    def _unsound_chunks(self, slices: Sequence[SequenceSlice], last: torch.Tensor) -> set[int]:
        """Inner chunks whose last token, which sees all before it, is no number."""
        places = [at for at, s in enumerate(slices) if not s.sampling]
        if not places:
            return set()
        sound = last[self._tensor(np.array(places))].isfinite().all(dim=-1).tolist()
        return {at for at, is_sound in zip(places, sound, strict=True) if not is_sound}

    def _unsound_blocks(self, slices: Sequence[SequenceSlice]) -> frozenset[int]:
        """Of their blocks those with NaN or infinity in a slot that was written. A rare walk."""
        found: set[int] = set()
        for one in slices:
            blocks = self._tensor(one.block_table.astype(np.int64))
            n_slots = one.start + len(one.token_ids) - one.first_block * self._pool.block_size
            sound = self._pool.are_sound(blocks)
            sound.view(-1)[n_slots:] = True  # nobody wrote there
            found.update(one.block_table[~sound.all(-1).numpy()].tolist())
        return frozenset(found)

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._pool.device)


def load_runner(settings: WorkerSettings) -> TorchRunner:
    """Load the model that the settings name. Raises `ModelError` or `StartFailed`."""
    torch.set_num_threads(settings.torch_threads)
    is_invariant = settings.numerics == "invariant"
    device = choose_device("cpu" if is_invariant else settings.device)
    dtype = choose_dtype("float32" if is_invariant else settings.dtype, device)
    folder = model_folder(Path(settings.model))
    config = load_config(folder)
    kv_format = format_named(settings.kv_dtype) or format_of(dtype)
    n_blocks = blocks_that_fit(
        config.layout,
        kv_memory=settings.kv_memory,
        block_size=settings.block_size,
        kv_format=kv_format,
    )
    if device.type == "cpu":
        _must_fit_in_memory(settings.kv_memory)
    with torch.inference_mode():
        ops = _choose_ops(settings, device)
        model = config.build(Weights(folder, dtype=dtype, device=device), ops)
        pool = new_pool(
            config.layout,
            n_blocks,
            settings.block_size,
            dtype=dtype,
            device=device,
            kv_format=kv_format,
        )
        attention = _choose_attention(settings, pool)
    runner = TorchRunner(model, pool, _facts(settings, config, folder, pool), attention)
    if device.type == "cpu":
        _compute_once(runner)
    return runner


def _compute_once(runner: TorchRunner) -> None:
    """Every product: `invariant` tells of one that varies at the start, not by a request; others
    pack their weights now."""
    token, block = np.zeros(1, np.uint32), np.zeros(1, np.int32)
    runner.execute(StepPlan((SequenceSlice(token, 0, block, SamplingParams()),)))


def _choose_ops(settings: WorkerSettings, device: torch.device) -> Ops:
    """The arithmetic between attention calls."""
    if settings.numerics == "invariant":
        return InvariantOps()
    if _is_one_cpu_thread(settings, device):
        return CpuOps(packs=settings.packed_weights)
    return Ops()


def _choose_attention(settings: WorkerSettings, pool: KVPool) -> AttentionBackend:
    if settings.numerics == "invariant":
        return InvariantBackend(pool)
    if _is_one_cpu_thread(settings, pool.device) and CpuBackend.fits(pool):
        return CpuBackend(pool)
    return SdpaBackend(pool)


def _is_one_cpu_thread(settings: WorkerSettings, device: torch.device) -> bool:
    """Our kernels compute in the thread that calls them; with more, torch's own take turns."""
    return device.type == "cpu" and settings.torch_threads == 1


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one. Raises `StartFailed` for CUDA without a device."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise StartFailed("device is cuda, but torch sees none: use device = cpu or auto")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes it in hardware, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        # Emulated, bfloat16 is slower than float32: without a word torch counts it as supported.
        in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if in_hardware else torch.float32
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    # The kernel's list: torch's own queries have no public name. Elsewhere than Linux: no.
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"}.intersection(flags))


def _must_fit_in_memory(kv_memory: int) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if kv_memory > physical:
        raise StartFailed(
            f"kv_memory is {kv_memory} bytes, but the machine has {physical}: lower it"
        )


def _facts(settings: WorkerSettings, config: ModelConfig, folder: Path, pool: KVPool) -> ModelFacts:
    return ModelFacts(
        model=settings.served_model_name or Path(settings.model).name,
        block_size=settings.block_size,
        max_model_len=config.max_position,
        vocab_size=config.vocab_size,
        eos_token_ids=_end_tokens(config, folder),
        fingerprint=fingerprint(folder),
        dtype=str(pool.dtype).removeprefix("torch."),
        device=pool.device.type,
        kv_blocks_total=pool.n_blocks,
        kv_dtype=pool.kv_format.name,
        window=config.layout.window,
    )


def _end_tokens(config: ModelConfig, folder: Path) -> tuple[int, ...]:
    """The configuration's and the tokenizer's own: what the router and the answer's text go by."""
    found = set(config.eos_token_ids)
    if (folder / TOKENIZER_FILE).exists():
        try:
            found.update(Tokenizer.from_dir(folder).eos_token_ids)
        except TokenizerError as error:
            raise ModelError(f"the tokenizer in {folder} cannot be used: {error}") from error
    return tuple(sorted(token_id for token_id in found if 0 <= token_id < config.vocab_size))


def _positions(slices: Sequence[SequenceSlice]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(s.start, s.start + len(s.token_ids)) for s in slices])
