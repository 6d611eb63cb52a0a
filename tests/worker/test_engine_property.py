"""Random workloads: whatever happens, each request's output is the one it has alone."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radixroute.request.sampling import FinishReason
from tests.worker.fakes import (
    NAN,
    VOCAB,
    FakeRunner,
    Listener,
    alone,
    assert_at_rest,
    make_engine,
    request,
)

BAD = VOCAB  # none that the fake model says itself


@st.composite
def workloads(draw):
    """Requests with shared beginnings, and what happens to them between steps."""
    trunk = draw(st.lists(st.integers(1, 3), min_size=0, max_size=24))
    jobs = []
    for index in range(draw(st.integers(1, 7))):
        cut = draw(st.integers(0, len(trunk)))
        tail = draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
        jobs.append(
            {
                "at": draw(st.integers(0, 12)),
                "prompt": trunk[:cut] + tail,
                "max_tokens": draw(st.integers(1, 14)),
                "resume": draw(st.integers(0, 6)),
                "abort_at": draw(st.none() | st.integers(0, 25)),
                "name": f"r{index}",
            }
        )
    return jobs


def play(engine, jobs, window=None):
    """(tokens, finish) and the tokens wanted, by request; checks what must hold in every step."""
    listener = Listener()
    outputs: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    for now in range(2_000):
        for job in jobs:
            if job["at"] == now:
                sampling = request("x", [1], max_tokens=job["max_tokens"]).sampling
                wanted[job["name"]] = alone(job["prompt"], sampling, window=window)
                emitted = wanted[job["name"]][: job["resume"]]
                engine.submit(
                    request(
                        job["name"], job["prompt"], emitted=emitted, max_tokens=job["max_tokens"]
                    ),
                    now,
                )
                outputs[job["name"]] = [list(emitted), None]
            if job["abort_at"] == now:
                engine.abort(job["name"], 1)
        step = engine.step(now)
        engine.check()
        if step is None:
            if now > 30:
                break
            continue
        listener.hear(step.events)
        assert listener.keys == engine.resident_keys()
        for output in step.outputs:
            seen = outputs[output.request_id]
            assert seen[1] is None, "output after the end"
            assert output.position == len(seen[0])
            if output.finish is FinishReason.ERROR and not engine._runner.bad_tokens:
                # Else a failing check of the runner itself would pass for a failing step.
                assert len(engine._runner.plans) - 1 in engine._runner.fail_steps
            seen[0] += output.token_ids
            seen[1] = output.finish
    return outputs, wanted


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    jobs=workloads(),
    n_blocks=st.integers(13, 30),
    budget=st.integers(1, 40),
    seqs=st.integers(1, 5),
    order=st.sampled_from(["youngest", "least_computed"]),
    failing=st.sets(st.integers(0, 60), max_size=1),
    window=st.none() | st.integers(1, 14),
)
def test_whatever_happens_outputs_equal_those_of_a_request_alone(
    *, jobs, n_blocks, budget, seqs, order, failing, window
):
    engine, runner = make_engine(
        FakeRunner(n_blocks=n_blocks, window=window),
        max_num_batched_tokens=budget,
        max_num_seqs=seqs,
        preemption_order=order,
    )
    runner.fail_steps = failing
    outputs, wanted = play(engine, jobs, window)
    for name, (tokens, finish) in outputs.items():
        assert finish is not None, "a request never ended"
        if finish in (FinishReason.STOP, FinishReason.LENGTH):
            assert tokens == wanted[name]
        else:
            assert tokens == wanted[name][: len(tokens)]
    assert_at_rest(engine)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    jobs=workloads(),
    n_blocks=st.integers(13, 30),
    budget=st.integers(1, 40),
    bad=st.dictionaries(st.integers(0, 6), st.integers(0, 36), min_size=1, max_size=2),
    window=st.none() | st.integers(1, 14),
)
def test_requests_without_numbers_end_alone_and_leave_nothing_cached(
    jobs, n_blocks, budget, bad, window
):
    """`bad` puts a token whose K and V are NaN into the prompts of at most two requests."""
    engine, runner = make_engine(
        FakeRunner(n_blocks=n_blocks, window=window),
        max_num_batched_tokens=budget,
        max_num_seqs=5,
    )
    runner.bad_tokens = {BAD}
    for index, at in bad.items():
        prompt = jobs[index % len(jobs)]["prompt"]
        prompt[at % len(prompt)] = BAD
    outputs, wanted = play(engine, jobs, window)
    for job in jobs:
        tokens, finish = outputs[job["name"]]
        if finish is FinishReason.ERROR:
            assert BAD in job["prompt"], "a neighbour's numbers ended a request"
        elif finish is not FinishReason.ABORT:
            assert tokens == wanted[job["name"]]
            assert BAD not in job["prompt"] or len(tokens) <= job["resume"]
    kept = list(engine._cache._key_by_block)
    assert NAN not in runner.pool[kept, :, 0], "a block without numbers stayed in the cache"
    assert_at_rest(engine)
