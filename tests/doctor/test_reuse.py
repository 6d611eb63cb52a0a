"""What a request log says of caches: reachable, told, and why not, against a plain count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.doctor.reuse import (
    ADAPTED,
    APART,
    CAUSES,
    CUT,
    EARLY,
    EVICTED,
    FRESH,
    SHIFTED,
    SPREAD,
    reuse_of,
)
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.request.sampling import SamplingParams
from radixroute.router.api.grpc.inspect import _ended
from radixroute.router.core.logs.request_log import RequestLog
from radixroute.router.core.requests import Request
from radixroute.router.messages.inputs import RequestSpec
from tests.doctor.evidences import BLOCK, entry, marks, prefix, well_served


def test_a_fleet_that_is_well_loses_nothing():
    reuse = reuse_of(well_served(60, groups=3))
    assert reuse.requests == 60
    assert reuse.reachable == reuse.told == 57 * 8 * BLOCK
    assert reuse.lost(EVICTED) == reuse.lost(SPREAD) == reuse.piled == 0
    assert dict(reuse.requests_by_worker) == {"a": 40, "b": 20}
    assert dict(reuse.blocks_by_worker) == {"a": 16, "b": 8}


def test_what_another_worker_had_is_spread_and_what_its_own_had_is_evicted():
    log = [
        entry(0, "a", prefix(0), 0),
        entry(1, "b", prefix(0), 0),  # only a had it
        entry(2, "a", prefix(0), 3),  # a has three of it left
    ]
    reuse = reuse_of(log)
    assert (reuse.lost(SPREAD), reuse.lost(EVICTED)) == (8 * BLOCK, 5 * BLOCK)


def test_what_was_not_computed_yet_could_not_be_reused():
    first = entry(0, "a", prefix(0), 0, first_token_ns=10_000)
    second = entry(1, "a", prefix(0), 0, dispatched_ns=5_000, first_token_ns=12_000)
    assert reuse_of([first, second]).reachable == 0
    assert reuse_of([first, entry(20, "a", prefix(0), 0)]).lost(EVICTED) == 8 * BLOCK


def test_the_last_token_is_computed_in_any_case():
    whole = [entry(at, "a", prefix(0), 0, prompt_tokens=8 * BLOCK) for at in range(2)]
    assert reuse_of(whole).reachable == 7 * BLOCK


@pytest.mark.parametrize("outcome", ["error", "abort"])
def test_who_got_no_whole_answer_was_told_nothing_and_has_computed_for_others(outcome):
    log = [
        entry(0, "a", prefix(0), 0, outcome=outcome),
        entry(1, "a", prefix(0), 0, outcome=outcome),
        entry(2, "a", prefix(0), 8),
    ]
    reuse = reuse_of(log)
    assert (reuse.requests, reuse.answered) == (3, 1)
    assert reuse.reachable == reuse.told == 8 * BLOCK
    assert reuse.lost(EVICTED) == reuse.lost(SPREAD) == 0


def test_those_that_never_ran_say_nothing():
    log = list(well_served(4))
    log[1].ClearField("dispatched_ns")
    log[2].ClearField("first_token_ns")
    log[3].worker_id = ""
    assert reuse_of(log).requests == 1
    assert reuse_of(()) == reuse_of([log[3]])


PATHS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), PATHS, st.integers(0, 5)), max_size=25))
def test_reachable_is_what_sets_of_prefixes_say(drawn):
    """Requests one after another; keys are chained, as ours are: one names its whole prefix."""
    ids: dict[tuple[int, ...], int] = {}
    log, had, had_at = [], set(), set()
    reachable = lost_here = lost_there = 0
    for at, (where, path, most) in enumerate(drawn):
        prefixes = [tuple(path[: n + 1]) for n in range(len(path))]
        keys = [ids.setdefault(one, len(ids)) for one in prefixes]
        anywhere = sum(one in had for one in prefixes)
        here = sum((where, one) in had_at for one in prefixes)
        cached = min(most, here)
        log.append(entry(at, where, keys, cached))
        reachable += anywhere
        lost_here += here - cached
        lost_there += anywhere - here
        had |= set(prefixes)
        had_at |= {(where, one) for one in prefixes}
    reuse = reuse_of(log)
    assert reuse.reachable == reachable * BLOCK
    assert reuse.lost(EVICTED) == lost_here * BLOCK
    assert reuse.lost(SPREAD) == lost_there * BLOCK
    assert reuse.lost(EVICTED) + reuse.lost(SPREAD) == reuse.reachable - reuse.told


# -- what repeats, and is not found by keys

SHARED = np.random.default_rng(1).integers(0, 50_000, 1600).astype(np.uint32)
SEEDS = range(1, 25, 2)  # odd: those of a pair hash alike


def logged(
    *asked: tuple[np.ndarray, RequestScope], block_size: int = BLOCK, seed: int = 77
) -> list[pb.EndedRequest]:
    """What a router's own log has of these prompts, one after another; nothing is cached."""
    log = RequestLog(1 << 24, seed)
    scope = Scope("m", block_size)
    for at, (tokens, own) in enumerate(asked):
        keys = block_keys(tokens, block_size, scope.seed_of(own))
        spec = RequestSpec(f"r{at}", tokens, keys, SamplingParams(), "radix", 0, 1 << 60, scope=own)
        request = Request(spec)
        request.dispatched_ns, request.first_token_ns = at * 1000 + 10, at * 1000 + 500
        log.ended(request, "stop", block_size=block_size, worker_id=WorkerId("a"))
    return [_ended(one) for one in log.after(0, 1 << 30)]


def own_tokens(at: int, n: int) -> np.ndarray:
    return np.random.default_rng(100 + at).integers(0, 50_000, n).astype(np.uint32)


def test_what_stands_behind_another_beginning_is_told():
    """Beginnings of any length: what follows lies in no block alike."""
    log = logged(
        *((np.concatenate((own_tokens(at, 20 + at), SHARED)), UNSCOPED) for at in range(30))
    )
    reuse = reuse_of(log)
    assert reuse.reachable == 0
    assert reuse.share(reuse.lost(SHIFTED)) == pytest.approx(29 * 1600 / reuse.prompt, rel=0.06)
    assert reuse.said.count("%") >= 3
    assert "behind another beginning" in reuse.said.split(";")[1].split(",")[0]


@pytest.mark.parametrize(
    ("scope_of", "cause"),
    [
        (lambda at: RequestScope(salt=f"s{at}"), APART),
        (lambda at: RequestScope(tenant=f"t{at}"), APART),
        (lambda at: RequestScope(lora=f"l{at}"), ADAPTED),
    ],
)
def test_what_others_of_another_scope_had_is_told_by_what_keeps_them_apart(scope_of, cause):
    reuse = reuse_of(logged(*((SHARED, scope_of(at)) for at in range(20))))
    assert reuse.lost(cause) == 19 * 1600
    assert reuse.lost(FRESH) == 1600
    assert reuse.scopes == (20 if cause == APART else 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_text_that_repeats_itself_counts_as_any_other_whatever_the_seed(seed):
    """A sentence twenty times, a name ten times, and a few tokens of their own; a salt for each."""
    sentence, names = own_tokens(0, 28), [own_tokens(at, 6) for at in range(1, 5)]
    asked = [
        np.concatenate((np.tile(sentence, 20), np.tile(names[at % 4], 10), own_tokens(9 + at, 7)))
        for at in range(80)
    ]
    log = logged(*((one, RequestScope(salt=f"s{at}")) for at, one in enumerate(asked)), seed=seed)
    reuse = reuse_of(log)
    true = (79 * 560 + 76 * 60) / (80 * 627)
    assert reuse.share(reuse.lost(APART)) == pytest.approx(true, abs=0.05)
    assert reuse.share(reuse.lost(FRESH)) == pytest.approx(1 - true, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_shared_is_told_with_its_share_where_most_is_not(seed):
    """600 tokens of 1,200, behind a beginning of their own."""
    asked = [
        np.concatenate((own_tokens(at, 200), SHARED[:600], own_tokens(500 + at, 400)))
        for at in range(40)
    ]
    reuse = reuse_of(logged(*((one, UNSCOPED) for one in asked), seed=seed))
    assert reuse.share(reuse.lost(SHIFTED)) == pytest.approx(39 / 40 / 2, abs=0.07)


def test_scopes_with_much_of_their_own_lose_only_their_first():
    asked = [(SHARED, RequestScope(tenant="ab"[at % 2])) for at in range(40)]
    reuse = reuse_of(logged(*asked))
    assert reuse.lost(APART) == 1600
    assert reuse.reachable == 38 * 99 * BLOCK


def test_the_rest_of_a_block_that_is_not_whole_has_no_other_beginning():
    """Prompts that come twice: the last 90 tokens fill no block of 128, and repeat all the same."""
    prompts = [own_tokens(at, 4 * 128 + 90) for at in range(20)]
    reuse = reuse_of(logged(*((one, UNSCOPED) for one in [*prompts, *prompts]), block_size=128))
    assert reuse.lost(SHIFTED) == 0
    assert reuse.reachable == 20 * 4 * 128


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_alike_for_less_than_a_block_is_cut_whatever_the_seed(seed):
    """160 tokens that all begin with, in blocks of 512, and again behind a whole block of them."""
    for whole, n_blocks in ((0, 0), (512, 1)):
        head = np.resize(SHARED, whole + 160)
        asked = [np.concatenate((head, own_tokens(at, 150))) for at in range(40)]
        reuse = reuse_of(logged(*((one, UNSCOPED) for one in asked), block_size=512, seed=seed))
        assert reuse.lost(CUT) == pytest.approx(39 * 160, rel=0.4)
        assert reuse.share(reuse.lost(SHIFTED)) < 0.01
        assert reuse.reachable == 39 * n_blocks * 512


def test_a_beginning_of_its_own_is_no_matter_of_the_block():
    asked = [np.concatenate((own_tokens(at, 6), SHARED[:300])) for at in range(40)]
    reuse = reuse_of(logged(*((one, UNSCOPED) for one in asked)))
    assert reuse.share(reuse.lost(CUT)) < 0.06
    assert reuse.share(reuse.lost(SHIFTED)) > 0.85


def test_who_came_while_the_first_was_computed_is_told_so():
    first = entry(0, "a", prefix(0), 0, first_token_ns=50_000)
    log = [first, *(entry(at, "a", prefix(0), 0, first_token_ns=60_000) for at in range(1, 5))]
    assert reuse_of(log).lost(EARLY) == 4 * 8 * BLOCK


def test_prompts_that_only_their_engine_has_read_say_nothing():
    unread = [entry(at, "a", [], 0, prompt_tokens=500) for at in range(30)]
    assert reuse_of(unread).requests == 0
    assert reuse_of([*unread, entry(40, "a", [], 0, prompt_tokens=5)]).prompt == 5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), PATHS, st.integers(0, 5), st.integers(0, 2)), max_size=25
    )
)
def test_every_token_is_told_or_has_one_cause(drawn):
    ids: dict[tuple[int, ...], int] = {}
    log = []
    for at, (where, path, cached, apart) in enumerate(drawn):
        keys = [ids.setdefault((apart, *path[: n + 1]), len(ids)) for n in range(len(path))]
        texts = [(path[0], 64), (path[-1], len(path) * BLOCK)]
        cached = min(cached, len(keys))
        log.append(entry(at, where, keys, cached, apart=apart, marks=marks(*texts)))
    reuse = reuse_of(log)
    assert reuse.told + sum(reuse.causes.values()) == pytest.approx(reuse.prompt)
    assert set(reuse.causes) <= set(CAUSES)
