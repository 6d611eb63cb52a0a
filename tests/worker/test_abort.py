"""Aborting each request before each step of a crowded run: at every stage it gives all back.

The others' answers stay what each gets alone, and the end is said once.
"""

from collections import Counter

from radixroute.request.sampling import FinishReason
from tests.worker.fakes import FakeRunner, alone, make_engine, request
from tests.worker.ownership import assert_nothing_is_held, assert_one_owner_each, empty

# Two share a cold beginning; the pool holds about two of the five.
PROMPTS = {
    "first": [1, 2, 3, 1] * 4 + [1],
    "sharer": [1, 2, 3, 1] * 4 + [2, 2],
    "resumed": [3] * 9,
    "late": [2] * 10,
    "last": [1, 2] * 3,
}
MAX_TOKENS = 12
N_STEPS = 400  # more than any run takes


def started():
    engine, _ = make_engine(
        FakeRunner(n_blocks=12), max_num_batched_tokens=7, max_num_seqs=4, watermark=0.0
    )
    for name, prompt in PROMPTS.items():
        emitted = wanted(name)[:3] if name == "resumed" else ()
        again = request(name, prompt, emitted=emitted, max_tokens=MAX_TOKENS, ignore_eos=True)
        engine.submit(again, 0)
    return engine


def wanted(name):
    return alone(PROMPTS[name], request("x", [1], max_tokens=MAX_TOKENS, ignore_eos=True).sampling)


def stage_of(engine, name):
    """Where a request is; the words are those of the tests below."""
    sequence = engine._scheduler._sequences.get((name, 1))
    if sequence is None:
        return "ended"
    if sequence.lease is None:
        return "preempted" if sequence.n_lost else "waiting"
    return "answering" if sequence.has_output else "prefilling"


def aborted_before(engine, name, at_step):
    """(stage at the abort, tokens and ends by request) of a run until all is over."""
    told = {other: list(wanted("resumed")[:3] if other == "resumed" else ()) for other in PROMPTS}
    ends: Counter[str] = Counter()
    stage = None
    for now in range(N_STEPS):
        if now == at_step:
            stage = stage_of(engine, name)
            engine.abort(name, 1)
            engine.check()
            assert_one_owner_each(engine._cache)
        step = engine.step(now)
        if step is None:
            return stage, told, ends
        for output in step.outputs:
            assert not ends[output.request_id], "output after the end"
            told[output.request_id] += output.token_ids
            ends[output.request_id] += output.finish is not None
            if output.request_id != name:
                assert output.finish in (None, FinishReason.LENGTH)
    raise AssertionError("the engine never came to rest")


def test_an_abort_before_any_step_ends_one_request_and_gives_back_all_it_held():
    stages: Counter[str] = Counter()
    for name in PROMPTS:
        for at_step in range(N_STEPS):
            engine = started()
            stage, told, ends = aborted_before(engine, name, at_step)
            if stage is None:
                break
            stages[stage] += 1
            assert ends == dict.fromkeys(PROMPTS, 1)
            for other in PROMPTS:
                whole = wanted(other)
                assert told[other] == (whole if other != name else whole[: len(told[other])])
            assert_nothing_is_held(engine)
            empty(engine._cache)
    assert set(stages) == {"waiting", "prefilling", "answering", "preempted", "ended"}
