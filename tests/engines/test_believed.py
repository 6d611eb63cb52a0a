"""The believed cache against LRU caches that tell nothing but what each answer found."""

import random
from collections import OrderedDict

import numpy as np
import pytest

from radixroute.events.wire.records import BlocksStored
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.cache.believed import MIN_ROOM, BelievedCache
from radixroute.worker.companions.dialects.dialect import Heard

SIZE = 16
SEED = 20261129
S = 10**9


class LruEngine:
    """What is believed of: blocks of `block` tokens, `room` of them, used longest ago first."""

    def __init__(self, room, block=SIZE):
        self.room, self.block = room, block
        self.held = OrderedDict()

    def serve(self, prompt, output):
        """Cached tokens of the prompt; then all of it is cached, but for the last token drawn."""
        found = 0
        while (found + 1) * self.block < len(prompt):
            if tuple(prompt[: (found + 1) * self.block]) not in self.held:
                break
            found += 1
        computed = [*prompt, *output][:-1]
        for end in reversed(range(self.block, len(computed) + 1, self.block)):
            self.held.pop(tuple(computed[:end]), None)
            self.held[tuple(computed[:end])] = True
        while len(self.held) > self.room:
            self.held.popitem(last=False)
        return found * self.block


class Pair:
    """An engine, what is believed of it, and whoever follows the events."""

    def __init__(self, engine, capacity=10_000, lifetime_s=600):
        scope = Scope(model_fingerprint="m", block_size=SIZE)
        self.engine = engine
        found = 2032 // engine.block * engine.block
        self.believed = BelievedCache(scope, capacity, lifetime_s * S, (2032, found))
        self.followed = set()
        self.n_applied = 0
        self.now_ns = 0

    def apply(self, events):
        for event in events:
            keys = set(event.keys.tolist())
            if isinstance(event, BlocksStored):
                assert not keys & self.followed, "stored twice"
                assert event.parent is None or int(event.parent) in self.followed
                self.followed |= keys
            else:
                assert keys <= self.followed, "removed what is not there"
                self.followed -= keys
        if self.n_applied % 16 == 0:
            self.believed.check()
        self.n_applied += 1
        assert len(self.followed) == self.believed.n_blocks

    def serve(self, prompt, output, tells=True, scope=UNSCOPED):
        """Predicted tokens and told ones."""
        self.now_ns += S
        belief = self.believed.sent(np.array(prompt, np.uint32), scope)
        predicted = min(len(belief.stamps), (len(prompt) - 1) // SIZE) * SIZE
        told = self.engine.serve(prompt, output)
        if output[:-1]:
            self.apply(self.believed.took(belief, Heard(output[:-1]), self.now_ns))
        last = Heard(output[-1:], FinishReason.LENGTH, cached_tokens=told if tells else None)
        self.apply(self.believed.took(belief, last, self.now_ns))
        return predicted, told


def conversations(rng, n, turns=6):
    """Prompts that grow by turns, many beside one another, as (prompt, output)."""
    open_ones: list[tuple[list[int], int]] = []
    for _ in range(n):
        if len(open_ones) < 8 or rng.random() < 0.1:
            open_ones.append(([rng.randrange(1, 1000) for _ in range(rng.randrange(20, 200))], 0))
        at = rng.randrange(len(open_ones))
        history, turn = open_ones[at]
        prompt = [*history, *(rng.randrange(1, 1000) for _ in range(rng.randrange(5, 60)))]
        output = tuple(rng.randrange(1, 1000) for _ in range(rng.randrange(1, 60)))
        yield prompt, output
        open_ones[at] = ([*prompt, *output], turn + 1)
        if turn + 1 == turns:
            del open_ones[at]


def test_with_room_for_all_it_foresees_every_hit():
    print("seed", SEED)
    pair = Pair(LruEngine(10_000))
    served = [pair.serve(*one) for one in conversations(random.Random(SEED), 250)]
    assert [predicted for predicted, _ in served] == [told for _, told in served]
    assert sum(told for _, told in served) > 10_000
    assert pair.believed.counters.told_less == pair.believed.counters.told_more == 0


@pytest.mark.parametrize("room", [100, 300])
def test_of_a_smaller_cache_the_room_is_learned(room):
    print("seed", SEED)
    pair = Pair(LruEngine(room))
    served = [pair.serve(*one) for one in conversations(random.Random(SEED), 900)][300:]
    told = sum(told for _, told in served)
    wrong = sum(abs(predicted - told) for predicted, told in served)
    assert pair.believed.counters.told_less > 0
    assert room // 2 <= pair.believed.room <= 2 * room
    assert wrong < 0.1 * told, (wrong, told)
    # Nothing learned: it would go on believing all that it ever sent.
    blind = Pair(LruEngine(room))
    rng = random.Random(SEED)
    told_nothing = conversations(rng, 900)
    served = [blind.serve(prompt, output, tells=False) for prompt, output in told_nothing][300:]
    assert wrong < 0.5 * sum(abs(predicted - told) for predicted, told in served)


@pytest.mark.parametrize("block", [1, 32, 64, 48, 528])
def test_an_engine_with_blocks_of_another_size_costs_no_belief(block):
    print("seed", SEED)
    pair = Pair(LruEngine(100_000, block))
    served = [pair.serve(*one) for one in conversations(random.Random(SEED), 250)][60:]
    assert pair.believed.counters.told_less <= 2  # of the first answers its size is a guess
    told = sum(told for _, told in served)
    assert told > 0
    assert all(abs(predicted - told) < max(block, SIZE) for predicted, told in served)
    if block in (32, 64):  # parts of its blocks are not believed to be cached
        assert all(predicted == told for predicted, told in served)


def test_an_engine_that_lost_its_cache_is_believed_to_have_lost_it():
    pair = Pair(LruEngine(10_000))
    trunk = list(range(1, 400))
    pair.serve(trunk, (1, 2))
    pair.serve([*range(500, 700)], (1, 2))
    pair.serve(trunk, (1, 2))
    pair.engine.held.clear()
    assert pair.serve([*range(500, 700)], (1, 2)) == (192, 0)
    # What was used before that is gone as well; what was used later may be there.
    assert pair.serve(trunk, (1, 2)) == (384, 0)
    assert pair.serve(trunk, (1, 2)) == (384, 384)


def test_room_that_was_thought_too_small_grows_back():
    pair = Pair(LruEngine(10_000))
    for n in range(20):
        pair.serve([n + 1] * 320, (1, 2))
    pair.engine.held.clear()
    pair.serve([20] * 320, (1, 2))
    assert pair.believed.room == MIN_ROOM
    rng = random.Random(SEED)
    for _ in range(300):
        pair.serve([rng.randrange(1, 21)] * 320, (1, 2))
    assert pair.believed.room >= 20 * 20
    assert pair.believed.counters.told_more > 0


def test_what_was_not_used_for_long_is_believed_no_more():
    pair = Pair(LruEngine(10_000), lifetime_s=10)
    pair.serve([1] * 64, (1, 2))
    for _ in range(6):
        pair.serve([2] * 64, (1, 2))
    pair.apply(pair.believed.expire(pair.now_ns))
    assert pair.believed.n_blocks == 8
    pair.now_ns += 5 * S
    pair.apply(pair.believed.expire(pair.now_ns))
    assert pair.believed.n_blocks == 4
    pair.now_ns += 60 * S
    pair.apply(pair.believed.expire(pair.now_ns))
    assert pair.followed == set()


def test_capacity_is_never_passed_even_by_one_prompt():
    pair = Pair(LruEngine(10_000), capacity=MIN_ROOM)
    pair.serve(list(range(1, 4000)), (1, 2))
    assert pair.believed.n_blocks == MIN_ROOM
    assert pair.serve(list(range(1, 4000)), (1, 2))[0] == MIN_ROOM * SIZE


def test_scopes_share_nothing_and_what_never_began_is_not_believed():
    pair = Pair(LruEngine(10_000))
    prompt = np.array(list(range(1, 65)), np.uint32)
    refused = pair.believed.sent(prompt, UNSCOPED)
    end = Heard(finish=FinishReason.FULL)
    assert pair.believed.took(refused, end, 1) == []
    pair.serve(prompt.tolist(), (1, 2))
    assert pair.serve(prompt.tolist(), (1, 2))[0] == 48
    other = pair.believed.sent(prompt, RequestScope(lora="X"))
    assert other.stamps == []
