"""A prompt report says where in the engine's events its cached tokens were looked up: exactly."""

import random
from typing import Any

from radixroute.events.wire.records import BlocksStored
from radixroute.radix.keys.block_keys import block_keys
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FakeRunner, make_engine, request

SIZE = 4  # of a block, in tokens
SETTINGS: dict[str, Any] = {"max_num_seqs": 5, "max_num_batched_tokens": 12, "watermark": 0.0}


def leading(batches, seq, before, keys):
    """First blocks of a prompt that are held where batches 0..seq-1 and `before` events are."""
    held: set[int] = set()
    events = [event for batch in batches[:seq] for event in batch]
    for event in [*events, *(batches[seq][:before] if before else ())]:
        if isinstance(event, BlocksStored):
            held |= set(event.keys.tolist())
        else:
            held -= set(event.keys.tolist())
    return next((n for n, key in enumerate(keys) if key not in held), len(keys))


def play(seed):
    """Bursts of shared prompts on a pool that is too small, with resumes, aborts, failed steps."""
    rng = random.Random(seed)
    runner = FakeRunner(n_blocks=24, block_size=SIZE)
    engine, _ = make_engine(runner, **SETTINGS)
    hash_seed = engine_scope(WorkerSettings(**SETTINGS), engine.info).seed
    trunks = [[rng.randrange(1, 9) for _ in range(rng.randrange(4, 33))] for _ in range(4)]
    prompts: dict[str, Any] = {}
    batches: list[Any] = []
    seen: list[Any] = []
    for now in range(90):
        for _ in range(rng.choice((0, 0, 1, 1, 4)) if now < 60 else 0):
            trunk = rng.choice(trunks)
            tail = [rng.randrange(1, 9) for _ in range(rng.randrange(1, 9))]
            prompt = [*trunk[: rng.randrange(len(trunk) + 1)], *tail]
            emitted = [rng.randrange(1, 9) for _ in range(rng.choice((0, 0, 0, 5)))]
            name = str(len(prompts))
            prompts[name] = (prompt, emitted)
            n_most = rng.randrange(6, 14)
            engine.submit(request(name, prompt, emitted=emitted, max_tokens=n_most), now)
        if prompts and rng.random() < 0.05:
            engine.abort(rng.choice(list(prompts)), 1)
        runner.fail_steps = {len(runner.plans)} if now % 9 == 8 else set()
        step = engine.step(now)
        if step is None:
            continue
        if step.events:
            batches.append(step.events)
        for report, name in ((o.prompt, o.request_id) for o in step.outputs if o.prompt):
            prompt, emitted = prompts[name]
            keys = block_keys(request(name, prompt).prompt, SIZE, hash_seed).tolist()
            held = leading(batches, report.event_seq, report.events_before, keys)
            most = (len(prompt) + len(emitted) - 1) // SIZE
            seen.append((report.cached_tokens // SIZE, min(held, most), report.events_before))
    return seen, engine.scheduler_counters, engine.cache_counters


def test_what_was_cached_is_what_the_events_before_it_say():
    seen, preempted, retracted = [], 0, 0
    for seed in range(20):
        rows, scheduler, cache = play(seed)
        assert all(told == held for told, held, _ in rows), f"seed {seed}: {rows}"
        seen += rows
        preempted += scheduler.preemptions
        retracted += cache.retracted
    assert preempted > 0
    assert retracted > 0
    assert sum(told > 0 for told, _, _ in seen) > len(seen) / 4
    assert sum(before > 0 for _, _, before in seen) > len(seen) / 20, "never inside a batch"
