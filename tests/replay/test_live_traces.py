"""What makes a trace fit to be sent, and what was sent a trace again: lengths, tokens, keys."""

from dataclasses import replace

import numpy as np
import pytest

from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.replay.analysis.bounds import bounds
from radixroute.replay.errors import BadTrace, InvalidShape
from radixroute.replay.traces.captured import CapturedRequest, captured_trace
from radixroute.replay.traces.reshape import capped, kept, resized
from radixroute.replay.traces.token_ids import TokenSource
from radixroute.replay.traces.trace import prefixes
from tests.replay.runs import random_trace as random_prefixes
from tests.replay.traces import assert_sound, awaited, blocks_of, random_trace, trace_of

SEEDS = range(10)


def infinite(trace, block_size):
    numbered = prefixes(trace, block_size)
    return bounds(trace, numbered, 1, 1 << 20)["infinite"].tokens


@pytest.mark.parametrize("seed", SEEDS)
def test_resized_prompts_share_what_they_shared(seed):
    trace = random_prefixes(np.random.default_rng(seed), 60)
    for factor, block in ((1.0, 4), (4.0, 16), (0.1, 2), (1.4, 1)):
        other = resized(trace, factor, block)
        assert_sound(other)
        assert other.block_size % block == 0
        ratio = other.block_size / trace.block_size
        assert np.abs(other.input_tokens - trace.input_tokens * ratio).max() <= 1
        assert (np.abs(other.output_tokens - trace.output_tokens * ratio) <= 1).all()
        assert [blocks_of(other, i) for i in range(60)] == [blocks_of(trace, i) for i in range(60)]
    assert resized(trace, 1.0, 4).digest == trace.digest


def test_a_block_is_never_less_than_one_of_the_engine():
    trace = trace_of([(0, 1000, 300, [1, 2])], block_size=512)
    small = resized(trace, 0.001, 16)
    assert (small.block_size, small.input_tokens[0], small.output_tokens[0]) == (16, 31, 9)
    for factor in (0, -1, float("nan")):
        with pytest.raises(InvalidShape):
            resized(trace, factor, 16)


def test_outputs_are_capped_and_never_grow():
    trace = trace_of([(0, 4, 300, [1]), (1, 4, 3, [1])])
    assert capped(trace, 9).output_tokens.tolist() == [9, 3]
    with pytest.raises(InvalidShape):
        capped(trace, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_follows_a_request_that_is_left_out_goes_with_it(seed):
    trace = random_trace(seed, last_ns=1 << 40)
    keep = np.random.default_rng(seed).random(len(trace)) < 0.7
    shorter = kept(trace, keep)
    assert_sound(shorter)
    stays = keep.tolist()
    for request in range(len(trace)):
        stays[request] &= all(stays[one] for one in awaited(trace, request))
    left = [blocks_of(trace, request) for request in np.flatnonzero(stays).tolist()]
    assert [blocks_of(shorter, i) for i in range(len(shorter))] == left
    with pytest.raises(InvalidShape):
        kept(trace, np.zeros(len(trace), bool))


def test_tokens_are_the_same_in_every_run_of_a_seed():
    trace = trace_of([(0, 10, 1, [1, 2, 3]), (1, 9, 1, [1, 2, 4]), (2, 5, 1, [2, 1])])
    first, again, other = (TokenSource(trace, 500, seed) for seed in (3, 3, 4))
    a, b, c = (first.prompt(i).tolist() for i in range(3))
    assert [len(a), len(b), len(c)] == [10, 9, 5]
    assert a[:8] == b[:8]
    assert a[8] != b[8]
    assert c[:4] == a[4:8]  # a block's tokens are its own, wherever it stands
    assert again.prompt(0).tolist() == a
    assert other.prompt(0).tolist() != a
    assert max(a + b + c) < 500
    assert a[:3] == [51, 360, 412]  # golden: a change would unmatch recorded runs
    with pytest.raises(InvalidShape):
        TokenSource(trace, 1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_sent_is_captured_with_the_same_prefixes(seed):
    """Tokens of a trace, keys of those tokens, a trace of those keys: the same reuse."""
    trace = random_prefixes(np.random.default_rng(seed), 60, longest=8, fan=2)
    trace = resized(trace, 4.0, 8)  # blocks of 16 tokens for an engine's of 8
    trace = replace(trace, arrival_ns=np.arange(len(trace)) * 5)
    source = TokenSource(trace, 1000, seed)
    scope = Scope(
        model_fingerprint="m", block_size=8, kv_dtype="f", lora="", cluster_secret=b"s"
    ).seed
    logged = []
    for request in np.random.default_rng(seed).permutation(len(trace)).tolist():
        prompt = source.prompt(request)
        logged.append(
            CapturedRequest(
                arrival_ns=int(trace.arrival_ns[request]) + 777,
                prompt_tokens=len(prompt),
                output_tokens=int(trace.output_tokens[request]),
                block_size=8,
                keys=block_keys(prompt, 8, scope),
            )
        )
    found = captured_trace(logged, "captured")
    assert_sound(found)
    assert found.arrival_ns[0] == 0
    assert found.input_tokens.tolist() == trace.input_tokens.tolist()
    assert found.output_tokens.tolist() == trace.output_tokens.tolist()
    assert len(np.unique(prefixes(found, 8).nodes)) == len(np.unique(prefixes(trace, 8).nodes))
    assert infinite(found, 8) == infinite(trace, 8)
    partial = [blocks_of(found, i)[-1] for i in range(len(found)) if found.input_tokens[i] % 8]
    lengths = enumerate(found.input_tokens.tolist())
    whole = {block for i, n in lengths for block in blocks_of(found, i)[: n // 8]}
    assert len(set(partial)) == len(partial)  # nobody shares what has no key
    assert not whole & set(partial)


def test_captured_fleets_of_two_block_sizes_are_no_trace():
    keys = np.array([5], np.uint64)
    rows = [CapturedRequest(0, 4, 1, 4, keys), CapturedRequest(0, 8, 1, 8, keys)]
    with pytest.raises(BadTrace, match=r"blocks of \[4, 8\] tokens"):
        captured_trace(rows, "x")
    with pytest.raises(BadTrace, match="no request"):
        captured_trace([], "x")
