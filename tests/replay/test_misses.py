"""Misses: each class alone on a case made for it; all of them against counting token by token."""

import numpy as np
import pytest

from radixroute.radix.index.layout import PACKED_CLEAR, PACKED_STORE
from radixroute.replay.analysis import misses_layout
from radixroute.replay.analysis.misses import CLASSES, DEFINITIONS, Beliefs, attribute_misses
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.cache_events import cache_events
from radixroute.replay.fleet.kernels import keys_of
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.simulated_fleet import CacheWords
from radixroute.replay.traces.trace import prefixes
from tests.replay.runs import BLOCK, drive, events_of, make_trace, random_trace, result

# Two full blocks that another prompt may have too, and one token behind them that none can reuse.
LONG, TAIL = ([1, 2, 3], 2 * BLOCK + 1), 1
FIRST, SECOND = 0, 1  # their nodes


def stored(ns, worker):
    return [(ns, worker, FIRST, True), (ns, worker, SECOND, True)]


def removed(ns, worker):
    return [(ns, worker, SECOND, False), (ns, worker, FIRST, False)]


def lost(changes, beliefs=None, **columns):
    """What the second of two equal prompts lost, decided at 100 and admitted at 200."""
    given = {
        "worker": [0, 1],
        "decided_ns": [10, 100],
        "admitted_ns": [20, 200],
        "first_ns": [30, 210],
        "finish_ns": [40, 220],
        **columns,
    }
    trace = make_trace([LONG, LONG])
    run = result(trace, 2, events=events_of(*changes), **given)
    found = attribute_misses(run, prefixes(trace, BLOCK), beliefs)
    assert_all_accounted(run, found)
    return {name: int(found.of(name)[1]) for name in CLASSES if found.of(name)[1]}


def assert_all_accounted(run, found):
    is_in = run.admitted_ns >= 0
    total = found.tokens.sum(axis=1) + run.cached_tokens
    assert (total == run.trace.input_tokens + run.recomputed_tokens)[is_in].all()
    assert not found.tokens[~is_in].any()


def test_columns_have_the_names_of_the_classes():
    assert [getattr(misses_layout, name.upper()) for name in CLASSES] == list(range(len(CLASSES)))
    assert len(CLASSES) == misses_layout.MISSES_LEN
    assert all(DEFINITIONS.values())


BOTH = 2 * BLOCK
CASES = {
    # The first one never began: it was decided on after the second.
    "never_seen": ([], {"decided_ns": [150, 100]}),
    "being_computed": ([], {"first_ns": [300, 310]}),
    "evicted_everywhere": (stored(20, 0) + removed(60, 0), {}),
    "not_chosen": (stored(20, 0), {}),
    "evicted_before_admission": (stored(20, 0) + removed(150, 0), {"worker": [0, 0]}),
    "stale_index": (
        stored(20, 0) + removed(90, 0),
        {"worker": [0, 0], "predicted_tokens": [0, BOTH]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_class_alone(name):
    changes, columns = CASES[name]
    assert lost(changes, **columns) == {name: BOTH, "partial_block": TAIL}


def test_blocks_that_the_index_forgot_are_its_fault():
    beliefs = Beliefs(forgotten_tokens=np.array([0, BOTH]))
    assert lost(stored(20, 0), beliefs) == {"index_forgot": BOTH, "partial_block": TAIL}
    half = Beliefs(forgotten_tokens=np.array([0, BLOCK]))
    expected = {"index_forgot": BLOCK, "not_chosen": BLOCK, "partial_block": TAIL}
    assert lost(stored(20, 0), half) == expected


def test_blocks_that_the_index_had_not_heard_of_are_stale():
    beliefs = Beliefs(best_tokens=np.array([0, 0]))
    assert lost(stored(20, 0), beliefs) == {"stale_index": BOTH, "partial_block": TAIL}


def test_blocks_of_another_scope_are_a_mismatch_and_not_unseen():
    beliefs = Beliefs(other_scope_tokens=np.array([0, BOTH]))
    expected = {"scope_mismatch": BOTH, "partial_block": TAIL}
    assert lost([], beliefs, decided_ns=[150, 100]) == expected
    assert "scope_mismatch" not in lost(stored(20, 0), beliefs)


def test_a_partial_block_alone():
    trace = make_trace([([1], BLOCK - 1)])
    run = result(trace, decided_ns=[0], admitted_ns=[0], events=events_of())
    assert _nonzero(attribute_misses(run, prefixes(trace, BLOCK))) == {"partial_block": BLOCK - 1}


def test_the_last_token_alone():
    trace = make_trace([([1], BLOCK)])
    run = result(trace, decided_ns=[0], admitted_ns=[0], events=events_of())
    assert _nonzero(attribute_misses(run, prefixes(trace, BLOCK))) == {"last_token": BLOCK}


def test_preemption_is_beside_the_prompts_own_tokens():
    found = lost(stored(20, 1), cached_tokens=[0, BOTH], recomputed_tokens=[0, 7])
    assert found == {"preemption": 7, "partial_block": TAIL}


def test_a_block_to_come_at_the_chosen_worker_is_no_stale_index():
    columns = {"worker": [1, 1], "predicted_tokens": [0, BOTH], "first_ns": [300, 310]}
    assert lost([], **columns) == {"being_computed": BOTH, "partial_block": TAIL}


def test_a_cache_change_at_the_time_of_a_decision_comes_after_it():
    assert "being_computed" in lost(stored(100, 0), first_ns=[110, 210])
    assert "not_chosen" in lost(stored(99, 0), first_ns=[110, 210])


def test_of_decisions_at_one_time_the_earlier_in_the_trace_is_before():
    columns = {"decided_ns": [100, 100], "first_ns": [300, 310]}
    assert "being_computed" in lost([], **columns)


def test_cached_tokens_need_not_end_with_a_block():
    found = lost(stored(20, 0), cached_tokens=[0, BLOCK + 1])
    # 5 of 9 are cached: 3 of the second block and the tail are left.
    assert found == {"not_chosen": BLOCK - 1, "partial_block": TAIL}


def test_requests_never_admitted_lose_nothing():
    found = lost([], admitted_ns=[-1, 200], first_ns=[-1, 210], cached_tokens=[-1, 0])
    assert found == {"being_computed": BOTH, "partial_block": TAIL}


def test_a_run_without_cache_events_is_refused():
    trace = make_trace([LONG])
    with pytest.raises(InvalidShape, match="kept no cache events"):
        attribute_misses(result(trace), prefixes(trace, BLOCK))


def _nonzero(found):
    return {name: tokens for name, tokens in found.totals.items() if tokens}


# -- against counting token by token


def count_slowly(run, numbered, beliefs):
    """The classes from their definitions, with sets; one dict a request."""
    n, block = len(run.trace), run.block_size
    prompt = run.trace.input_tokens.tolist()
    paths = [numbered.of(r).tolist() for r in range(n)]
    columns = (run.events.ns, run.events.worker, run.events.node, run.events.is_stored)
    events = list(zip(*(column.tolist() for column in columns), strict=True))
    rows = []
    for r in range(n):
        row = dict.fromkeys(CLASSES, 0)
        rows.append(row)
        if run.admitted_ns[r] < 0:
            continue
        now = run.decided_ns[r]
        caches: list[set[int]] = [set() for _ in range(run.workers)]
        ever: set[int] = set()
        for ns, worker, node, is_stored in events:
            if ns < now:
                (caches[worker].add if is_stored else caches[worker].discard)(node)
                ever |= {node} if is_stored else set()
        sent: list[set[int]] = [set() for _ in range(run.workers)]
        for q in range(n):
            is_before = run.decided_ns[q] >= 0 and (run.decided_ns[q], q) < (now, r)
            if is_before and (run.first_ns[q] < 0 or run.first_ns[q] > now):
                sent[run.worker[q]] |= set(paths[q])
        row["preemption"] += int(run.recomputed_tokens[r])
        for t in range(int(run.cached_tokens[r]), prompt[r]):
            last_full = prompt[r] % block == 0
            if t >= (prompt[r] - 1) // block * block:
                row["last_token" if last_full else "partial_block"] += 1
                continue
            before = paths[r][: t // block + 1]
            holders = {w for w, cache in enumerate(caches) if set(before) <= cache}
            to_come = {w for w in range(run.workers) if set(before) <= caches[w] | sent[w]}
            whole = (t // block + 1) * block  # tokens up to the end of its block
            seen = (holders, to_come, set(before) <= ever)
            row[_why(run, beliefs, r, seen, whole)] += 1
    return rows


def _why(run, beliefs, r, seen, whole):
    chosen, (holders, to_come, was_stored) = int(run.worker[r]), seen
    checks = [
        (chosen in holders, "evicted_before_admission"),
        (chosen not in to_come and whole <= run.predicted_tokens[r], "stale_index"),
        (holders and whole <= beliefs.forgotten_tokens[r], "index_forgot"),
        (holders and whole > beliefs.best_tokens[r], "stale_index"),
        (holders, "not_chosen"),
        (to_come, "being_computed"),
        (was_stored, "evicted_everywhere"),
        (whole <= beliefs.other_scope_tokens[r], "scope_mismatch"),
        (True, "never_seen"),
    ]
    return next(name for holds, name in checks if holds)


def random_beliefs(rng, n):
    return Beliefs(
        best_tokens=rng.integers(0, 30, n),
        forgotten_tokens=rng.integers(0, 12, n),
        other_scope_tokens=rng.integers(0, 20, n),
    )


def random_run(rng, n=30, workers=3):
    """Histories no engine would make: holes, doubled changes, times that tie, lost requests."""
    trace = random_trace(rng, n)
    numbered = prefixes(trace, BLOCK)
    decided_ns = rng.integers(0, 60, n)
    admitted_ns = np.where(rng.random(n) < 0.1, -1, decided_ns + rng.integers(0, 10, n))
    first_ns = np.where(rng.random(n) < 0.1, -1, decided_ns + rng.integers(0, 25, n))
    m = 6 * n
    changes = np.stack(
        [
            np.sort(rng.integers(0, 70, m)),
            rng.integers(0, workers, m),
            rng.integers(0, numbered.n_nodes + 3, m),
            rng.random(m) < 0.7,
        ],
        axis=1,
    )
    run = result(
        trace,
        workers,
        worker=rng.integers(0, workers, n),
        decided_ns=np.where(rng.random(n) < 0.05, -1, decided_ns),
        admitted_ns=admitted_ns,
        first_ns=first_ns,
        cached_tokens=rng.integers(0, trace.input_tokens) * (rng.random(n) < 0.5),
        predicted_tokens=rng.integers(0, 25, n),
        recomputed_tokens=rng.integers(0, 3, n),
        events=events_of(*changes.tolist()),
    )
    run.admitted_ns[run.decided_ns < 0] = -1
    return run, numbered


def assert_counts(run, numbered, beliefs):
    found = attribute_misses(run, numbered, beliefs)
    slow = count_slowly(run, numbered, beliefs)
    assert [dict(zip(CLASSES, row, strict=True)) for row in found.tokens.tolist()] == slow
    assert_all_accounted(run, found)
    return found


def test_random_histories_equal_counting_token_by_token():
    seen = np.zeros(len(CLASSES), np.int64)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        run, numbered = random_run(rng)
        seen += assert_counts(run, numbered, random_beliefs(rng, len(run.trace))).tokens.sum(axis=0)
    assert (seen > 0).all(), dict(zip(CLASSES, seen, strict=True))


@pytest.mark.parametrize("workers", [64, 65, 130])
def test_many_workers_equal_counting_token_by_token(workers):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        run, numbered = random_run(rng, workers=workers)
        assert_counts(run, numbered, random_beliefs(rng, len(run.trace)))


def test_runs_of_the_simulated_fleet_equal_counting_token_by_token():
    preemptions = 0
    seen: set[str] = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        trace = random_trace(rng, 60, longest=8, gap_ns=8_000_000)
        numbered = prefixes(trace, BLOCK)
        shape = FleetShape(
            workers=int(rng.integers(1, 4)),
            kv_blocks=int(rng.integers(11, 25)),
            block_size=BLOCK,
            max_num_batched_tokens=int(rng.integers(6, 40)),
            max_num_seqs=6,
        )
        run = drive(trace, numbered, shape, rng, held_back_ns=10**7)
        every, none = np.full(len(trace), 10**9), np.zeros(len(trace), np.int64)
        seen |= set(_nonzero(assert_counts(run, numbered, Beliefs(every, none, none))))
        assert (
            attribute_misses(run, numbered).tokens
            == attribute_misses(run, numbered, Beliefs(every)).tokens
        ).all()
        preemptions += run.counters["preemptions"]
    assert preemptions > 0
    assert seen == set(CLASSES) - {"index_forgot", "scope_mismatch"}


# -- packed words to cache events


def keys(*nodes):
    found = np.empty(len(nodes), np.uint64)
    keys_of(np.array(nodes, np.int32), found)
    return found.tolist()


def taken(*steps):
    """As a fleet gives them: (ns, worker, words) of each step."""
    end = np.cumsum([len(words) for *_, words in steps])
    rows = [
        (ns, worker, at - len(words), at)
        for (ns, worker, words), at in zip(steps, end, strict=True)
    ]
    words = np.concatenate([words for *_, words in steps])
    return [CacheWords(np.array(rows, np.int64), words)]


def test_words_of_a_fleet_become_nodes():
    numbered = prefixes(make_trace([LONG, LONG]), BLOCK)
    output = numbered.n_nodes  # the only one
    words = np.array([PACKED_STORE, 0, 2, *keys(0, 1), 2, 0, 1, *keys(output)], np.uint64)
    again = np.array([2, 0, 1, *keys(1)], np.uint64)
    found = cache_events(taken((5, 1, words), (9, 0, again)), numbered, 1)
    assert found.ns.tolist() == [5, 5, 5, 9]
    assert found.worker.tolist() == [1, 1, 1, 0]
    assert found.node.tolist() == [0, 1, output, 1]
    assert found.is_stored.tolist() == [True, True, False, False]


def test_a_fleet_that_told_nothing_has_no_events():
    found = cache_events([], prefixes(make_trace([]), BLOCK), 0)
    assert len(found.ns) == len(found.node) == len(found.is_stored) == 0


def test_words_of_another_fleet_are_refused():
    numbered = prefixes(make_trace([LONG]), BLOCK)
    alien = np.array([PACKED_STORE, 0, 2, *keys(0, numbered.n_nodes)], np.uint64)
    with pytest.raises(InvalidShape, match="1 cache changes are about blocks"):
        cache_events(taken((0, 0, alien)), numbered, 0)
    with pytest.raises(InvalidShape, match="told kind 3"):
        cache_events(taken((0, 0, np.array([PACKED_CLEAR, 0, 0], np.uint64))), numbered, 0)
