"""Other weights are another scope: nothing cached before is found, at the worker or by a router."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from radixroute.events.wire.records import BlocksStored
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.inference import InferenceEngine, engine_scope
from radixroute.worker.settings import WorkerSettings
from tests.worker.tiny import BLOCK_SIZE, tokens_of, write_model
from tests.worker.tiny_runner import runner_of

pytestmark = pytest.mark.torch

LIMITS = WorkerSettings(block_size=BLOCK_SIZE, cluster_secret="hush")
PROMPT = tokens_of(33)


def started(folder):
    """As a worker that was started again: it reads its files, its pool and its tree are empty."""
    return InferenceEngine(LIMITS, runner_of(folder), lambda: 0)


def asked(engine, name):
    """Cached tokens of the prompt, its answer, and what a router hears of it."""
    sampling = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    nothing = np.empty(0, np.uint32)
    engine.submit(EngineRequest(name, 1, "s", PROMPT, sampling, nothing), 0)
    cached, ids, events = None, [], []
    while engine.has_work:
        step = engine.step(1)
        events += step.events
        for output in step.outputs:
            cached = output.prompt.cached_tokens if output.prompt else cached
            ids += output.token_ids
    return cached, ids, events


def change_one_weight(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    with torch.no_grad():
        tensors["model.layers.1.mlp.down_proj.weight"][3, 5] += 40.0
    save_file(tensors, path)


def predicted(index, engine):
    keys = block_keys(PROMPT, BLOCK_SIZE, engine_scope(LIMITS, engine.info).seed)
    return index.overlaps(keys).blocks_of(holder) * BLOCK_SIZE


holder = Holder(WorkerId("w"))


def test_one_changed_weight_makes_all_that_was_cached_unknown(tmp_path):
    write_model(tmp_path)
    before = started(tmp_path)
    index = PrefixIndex(1 << 20)
    index.join(holder)
    cached, ids, events = asked(before, "a")
    for event in events:
        assert isinstance(event, BlocksStored)
        index.store(holder, event.parent, event.keys, event.tier)
    assert cached == 0
    assert asked(before, "b")[0] == 32 == predicted(index, before)

    same = started(tmp_path)
    assert engine_scope(LIMITS, same.info).seed == engine_scope(LIMITS, before.info).seed
    change_one_weight(tmp_path)
    after = started(tmp_path)
    assert after.info.model_fingerprint != before.info.model_fingerprint
    # The router still believes that the worker holds the old blocks: no prompt finds them now.
    assert predicted(index, after) == 0
    cached, changed_ids, events = asked(after, "c")
    assert cached == 0
    assert changed_ids != ids, "the weight does not matter: it proves too little"
    assert not before.resident_keys() & after.resident_keys()
