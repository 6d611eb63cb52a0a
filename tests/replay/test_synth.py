"""Synthetic workloads: the same everywhere, ids that name prefixes, and the sharing promised."""

import dataclasses
import hashlib
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from radixroute.replay.errors import InvalidShape
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.prompts import BLOCK, EMPTY, Piece, Pieces
from radixroute.replay.synth.sessions import Chats
from radixroute.replay.synth.workloads import KINDS, shape_of, synthesize
from tests.replay.traces import assert_sound, blocks_of, infinite_reuse

# What one infinite cache serves, over five seeds; a kind that shares otherwise is another workload.
REUSE = {
    "chats": (0.75, 0.88),
    "system_prompts": (0.88, 0.97),
    "few_shot": (0.89, 0.95),
    "agent_trees": (0.80, 0.93),
    "rag": (0.25, 0.50),
    "bursts": (0.50, 0.72),
    "hot_prefix": (0.80, 0.90),
    "agents": (0.80, 0.95),
}
# Of the kind whose prompts are long, fewer.
SHAPES = {"agents": Agents(requests=240)}
EVERY = pytest.mark.parametrize("kind", KINDS)


@cache
def made(kind, seed):
    return synthesize(kind, seed, SHAPES.get(kind))


@EVERY
def test_a_workload_is_sound_and_as_long_as_asked(kind):
    for seed in range(5):
        trace = made(kind, seed)
        assert_sound(trace)
        assert (len(trace), trace.block_size) == (240 if kind in SHAPES else 2_000, BLOCK)
        assert trace.name == f"{kind}-{seed}"
        long = 25 if kind in SHAPES else 1
        assert 1_000 * long < trace.input_tokens.mean() < 8_000 * long
        assert trace.input_tokens.max() < (400_000 if kind in SHAPES else 100_000)


@EVERY
@pytest.mark.parametrize("requests", [1, 2, 63])
def test_small_workloads_are_as_long_as_asked_too(kind, requests):
    shape = dataclasses.replace(KINDS[kind](), requests=requests)
    assert len(synthesize(kind, 1, shape)) == requests


@EVERY
def test_a_block_id_names_its_whole_prefix(kind):
    trace = made(kind, 1)
    before: dict[int, tuple[int, int | None]] = {}
    held: dict[int, int] = {}
    for i in range(len(trace)):
        ids = blocks_of(trace, i)
        for place, one in enumerate(ids):
            came = (place, ids[place - 1] if place else None)
            assert before.setdefault(one, came) == came
            # The last block holds as many tokens wherever its id stands.
            tokens = min(BLOCK, int(trace.input_tokens[i]) - place * BLOCK)
            assert held.setdefault(one, tokens) == tokens
    assert len(before) == int(trace.blocks.max()) + 1


@EVERY
def test_what_is_shared_is_what_the_kind_promises(kind):
    low, high = REUSE[kind]
    found = [infinite_reuse(made(kind, seed)) for seed in range(5)]
    assert low < min(found), found
    assert max(found) < high, found


_DIGESTS = """
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.workloads import KINDS, synthesize
shapes = {"agents": Agents(requests=240)}
print(*(synthesize(kind, 3, shapes.get(kind)).digest for kind in KINDS))
"""


def test_two_processes_make_the_same_workloads():
    done = subprocess.run(
        [sys.executable, "-c", _DIGESTS],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    ours = [made(kind, 3).digest for kind in KINDS]
    assert done.stdout.split() == ours
    assert len(set(ours)) == len(KINDS)


@EVERY
def test_another_seed_makes_another_workload(kind):
    assert len({made(kind, seed).digest for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", range(40))
def test_ids_are_equal_exactly_where_tokens_are(seed):
    """Prompts as tokens, compared the slow way."""
    rng = np.random.default_rng(seed)
    pieces = Pieces()
    texts = [pieces.text(int(rng.integers(1, 200))) for _ in range(4)]
    texts.append(pieces.text(3 * BLOCK))
    prompts = []
    for _ in range(25):
        some = [texts[k] for k in rng.integers(0, 5, rng.integers(1, 5))]
        prompts.append(tuple(Piece(one.text, int(rng.integers(1, one.tokens + 1))) for one in some))
        # Ends of pieces at ends of blocks: a text begun again must not pass for one gone on.
        whole = Piece(texts[4].text, BLOCK * int(rng.integers(1, 4)))
        prompts.append((whole, whole))
        if rng.random() < 0.5:
            prompts.append((*prompts[int(rng.integers(len(prompts)))], texts[0]))
    prefix_of: dict[int, tuple[tuple[int, int], ...]] = {}
    id_of: dict[tuple[tuple[int, int], ...], int] = {}
    for prompt in prompts:
        tokens = [(text, place) for text, n in prompt for place in range(n)]
        ids = pieces.ids(prompt)
        assert len(ids) == -(-len(tokens) // BLOCK)
        for k, one in enumerate(ids):
            prefix = tuple(tokens[: (k + 1) * BLOCK])
            assert prefix_of.setdefault(one, prefix) == prefix
            assert id_of.setdefault(prefix, one) == one
    assert len(prefix_of) < sum(len(pieces.ids(prompt)) for prompt in prompts)


def test_chats_grow_by_the_answer_and_the_next_question_and_wait_for_people():
    trace = made("chats", 1)
    follows = np.flatnonzero(trace.after >= 0)
    assert 0.7 < len(follows) / len(trace) < 0.9
    for i in follows.tolist():
        before = int(trace.after[i])
        grown = trace.input_tokens[i] - trace.input_tokens[before]
        assert grown > trace.output_tokens[before]
        full = int(trace.input_tokens[before]) // BLOCK
        assert blocks_of(trace, i)[:full] == blocks_of(trace, before)[:full]
    assert 12 < np.median(trace.arrival_ns[follows]) / 1e9 < 18


def test_agent_trees_branch():
    trace = made("agent_trees", 1)
    children = np.bincount(trace.after[trace.after >= 0], minlength=len(trace))
    assert set(children.tolist()) == {0, 1, 3}
    assert 0.15 < (children == 3).sum() / (children > 0).sum() < 0.25
    for i in np.flatnonzero(trace.after >= 0).tolist():
        before = int(trace.after[i])
        full = int(trace.input_tokens[before]) // BLOCK
        assert blocks_of(trace, i)[:full] == blocks_of(trace, before)[:full]


def test_agents_are_those_of_the_sample():
    trace = synthesize("agents", 1, Agents(requests=600))
    trunk, group = 63 * 512 // BLOCK, 83 * 512 // BLOCK
    ids = [blocks_of(trace, i) for i in range(len(trace))]
    assert len({tuple(one[:trunk]) for one in ids}) == 1
    assert len({tuple(one[:group]) for one in ids}) == 8
    assert len({one[group] for one in ids}) == trace.programs.max() + 1
    *turns, _ = np.bincount(trace.programs).tolist()  # the last is cut off by the size
    assert set(turns) <= set(range(10, 21))
    assert max(turns) - min(turns) > 5
    follows = np.flatnonzero(trace.after >= 0)
    before = trace.after[follows]
    added = (trace.input_tokens[follows] - trace.input_tokens[before]) - trace.output_tokens[before]
    assert (added.min() >= 500, added.max() <= 15_000) == (True, True)
    assert 7_000 < added.mean() < 8_500
    assert (trace.output_tokens.min() >= 200, trace.output_tokens.max() <= 2_500) == (True, True)
    assert 800 < trace.output_tokens.mean() < 1_000
    tools_s = trace.arrival_ns[follows] / 1e9
    assert (tools_s.min() >= 0.2, tools_s.max() <= 60.0) == (True, True)
    assert 0.5 < np.median(tools_s) < 1.0
    assert 2.5 < tools_s.mean() < 4.5
    assert len(trace.joins) == 0


def test_agents_that_start_others_wait_for_all_of_them():
    trace = synthesize("agents", 2, Agents(requests=300, parallel_share=0.4, parallel=4))
    joins = np.bincount(trace.joins[:, 0], minlength=len(trace))
    assert set(joins.tolist()) == {0, 3}
    for request in np.flatnonzero(joins == 3).tolist():
        side_by_side = [int(trace.after[request]), *trace.joined[request]]
        started_by = {int(trace.after[one]) for one in side_by_side}
        assert len(started_by) == 1
        full = int(trace.input_tokens[started_by.pop()]) // BLOCK
        assert len({tuple(blocks_of(trace, one)[:full]) for one in (*side_by_side, request)}) == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_context_that_grows_has_the_ids_of_its_whole_prompt(seed):
    rng = np.random.default_rng(seed)
    pieces, context, prompt = Pieces(), EMPTY, tuple[Piece, ...]()
    for n in rng.integers(1, 200, 12).tolist():
        one = pieces.text(n)
        context, prompt = pieces.grown(context, one), (*prompt, one)
        assert context.tokens == sum(piece.tokens for piece in prompt)
        grown = list(context.ids)
        assert pieces.ids(prompt)[: len(grown)] == grown
        assert len(grown) == context.tokens // BLOCK


def test_a_few_documents_are_in_demand():
    trace = made("rag", 1)
    _, asked = np.unique(trace.blocks, return_counts=True)
    assert asked.max() == len(trace)  # the system prompt
    n_shared = int((asked == len(trace)).sum())
    best = [blocks_of(trace, i)[n_shared] for i in range(len(trace))]
    _, counts = np.unique(best, return_counts=True)
    # Zipf's law over 1,000 at exponent 1.1 gives the first of them 0.18 of the draws.
    assert 0.15 < counts.max() / len(trace) < 0.21
    assert (counts <= 2).sum() > 100


def test_bursts_are_crowds_in_time():
    trace = made("bursts", 1)
    first = trace.blocks[trace.first_block[:-1]]
    crowds = [np.flatnonzero(first == one) for one in np.unique(first)]
    crowds = [one for one in crowds if len(one) > 1]
    assert len(crowds) == 20
    assert 0.45 < sum(map(len, crowds)) / len(trace) < 0.55
    assert all(np.ptp(trace.arrival_ns[one]) <= 2e9 for one in crowds)


def test_one_prefix_is_suddenly_hot():
    trace = made("hot_prefix", 1)
    first = trace.blocks[trace.first_block[:-1]]
    ids, counts = np.unique(first, return_counts=True)
    is_hot = first == ids[counts.argmax()]
    assert not is_hot[:1_000].any()
    assert 0.75 < is_hot[1_000:].mean() < 0.85
    assert len(ids) == 41


def test_groups_share_their_examples_and_all_share_the_instruction():
    trace = made("few_shot", 1)
    assert len(np.unique(trace.blocks[trace.first_block[:-1]])) == 1
    fifth = [blocks_of(trace, i)[9] for i in range(len(trace))]
    _, sizes = np.unique(fifth, return_counts=True)
    assert sizes.tolist() == [40] * 50


@pytest.mark.parametrize(
    ("kind", "texts", "reason"),
    [
        ("chat", {}, "no workload is called chat: there are chats, "),
        ("chats", {"think": "3"}, "chats has no think; did you mean think_s"),
        ("chats", {"turns": "2.5"}, "turns: a whole number, not '2.5'"),
        ("chats", {"turns": "0"}, "turns: a number above 0"),
        ("chats", {"think_s": "nan"}, "think_s: a number above 0"),
        ("chats", {"system_tokens": "9999999999"}, "system_tokens: a number from 1 to 262144"),
        ("chats", {"requests": "99999999999"}, "requests: at most"),
        ("chats", {"sigma": "-1"}, "sigma: a number from 0 to 3"),
        ("agent_trees", {"branch_share": "2"}, "branch_share: a number from 0 to 1"),
        ("agent_trees", {"branches": "1"}, "branches: 2 or more"),
        ("agents", {"least_turns": "21"}, "most_turns: no less than least_turns, 21, not 20"),
        ("agents", {"parallel": "1"}, "parallel: 2 or more, not 1"),
        ("rag", {"documents": "2"}, "documents_per_request: at most the 2 documents"),
    ],
)
def test_parameters_that_make_no_workload_are_refused(kind, texts, reason):
    with pytest.raises(InvalidShape, match=reason):
        shape_of(kind, texts)


def test_parameters_are_numbers_of_the_fields_type():
    assert shape_of("chats", {"turns": "2", "think_s": "5"}) == Chats(turns=2, think_s=5.0)


def test_a_shape_of_another_kind_and_a_negative_seed_are_refused():
    with pytest.raises(InvalidShape, match="rag takes a shape of Rag"):
        synthesize("rag", 1, KINDS["chats"]())
    with pytest.raises(InvalidShape, match="a seed is 0 or more"):
        synthesize("rag", -1)


def test_default_workloads_never_change():
    """Numbers measured on them are quoted: a change of a generator is a new kind of workload."""
    digests = " ".join(f"{kind}={made(kind, 0).digest}" for kind in KINDS)
    assert hashlib.sha256(digests.encode()).hexdigest()[:16] == "feda2471e5616414", digests
