"""What other routers read off a worker's compat endpoint is what its cache holds, each block."""

import random

import numpy as np
import pytest

from radixroute.events.engines.adapter import AdapterCounters, EngineAdapter
from radixroute.events.engines.vllm import decode_live
from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.session.states import StreamState
from radixroute.events.wire.compat import encode_compat, salt_of, scope_of
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.epoch import epoch_from_hex, make_epoch
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings
from tests.events.receiver import Receiver
from tests.events.strict_vllm import StrictIndex, Subscriber, decode
from tests.worker.fakes import FakeRunner, drain, make_engine, request
from tests.worker.serving import collect, session, submit, worker

SIZE = 4
HOLDER = Holder(WorkerId("w"))


class Streams:
    """One engine's events on both wires, over sockets."""

    def __init__(self):
        self.epoch = make_epoch(1, bytes(8))
        self.native = EventPublisher(self.epoch)
        self.compat = CompatPublisher(SIZE)
        for publisher in (self.native, self.compat):
            publisher.start()
        self.receiver = Receiver()
        self.receiver.join(self.native, self.epoch)
        self.subscriber = Subscriber(self.compat.endpoints)
        self.n_batches = 0

    def publish(self, events):
        self.native.publish(events)
        self.compat.publish(events)
        self.n_batches += bool(events)

    def stop(self):
        for one in (self.native, self.compat, self.receiver.subscriber, self.subscriber):
            one.stop()


@pytest.fixture
def streams():
    both = Streams()
    yield both
    both.stop()


SCOPES = (
    UNSCOPED,
    RequestScope(salt="X"),
    RequestScope(lora="X"),
    RequestScope(lora="X", salt="X"),
    RequestScope(tenant="X"),
    RequestScope(lora="Y", salt="\x1f1:X", tenant="1:X"),
)


def run_conversations(seed, publish, scopes=(UNSCOPED,), **engine_settings):
    """Chats that share beginnings and grow, in a pool far too small; some steps fail."""
    rng = random.Random(f"compat/{seed}")
    runner = FakeRunner(n_blocks=40, block_size=SIZE, adapters=("X", "Y"))
    engine, _ = make_engine(runner, max_num_seqs=4, max_num_batched_tokens=24, **engine_settings)
    runner.fail_steps = {rng.randrange(40, 400) for _ in range(5)}
    chats = [[rng.randrange(1, 9) for _ in range(rng.randrange(4, 30))] for _ in range(6)]
    for turn in range(60):
        chat = rng.choice(chats)
        chat += [rng.randrange(1, 9) for _ in range(rng.randrange(1, 12))]
        del chat[100:]
        if len(chat) == 100:
            del chat[rng.randrange(4, 60) :]
        scope, n = scopes[turn % len(scopes)], rng.randrange(1, 8)
        engine.submit(request(f"r{turn}", chat, scope=scope, max_tokens=n), 0)
        if rng.random() < 0.6:
            continue
        for step in drain(engine)[1]:
            publish(step.events)
    for step in drain(engine)[1]:
        publish(step.events)
    engine.check()
    return engine


def adapter_index(frames, scope, *, at_once=False):
    """A prefix index made by our own decoder and adapter; nothing may be left out.

    `at_once`: a batch as a whole, most of it by the kernel.
    """
    index, adapter = PrefixIndex(), EngineAdapter(scope)
    index.join(HOLDER)
    for one in frames:
        received = decode_live(one)
        assert received.skipped == 0
        if at_once:
            events = list(adapter.translate_all(received.events))
        else:
            events = [mine for event in received.events for mine in adapter.translate(event)]
        for event in events:
            if isinstance(event, BlocksStored):
                index.store(HOLDER, event.parent, event.keys, event.tier)
            else:
                assert isinstance(event, BlocksRemoved)
                index.remove(HOLDER, event.keys, event.tier)
    assert adapter.counters == AdapterCounters()
    index.check()
    return index


def keys_of(index):
    return {key for run in index.dump(HOLDER) for key in run.keys.tolist()}


@pytest.mark.parametrize("seed", range(3))
def test_a_strict_consumer_rebuilds_exactly_what_is_resident(streams, seed):
    engine = run_conversations(seed, streams.publish, events_compat=True)
    by_seq, _ = streams.subscriber.until(streams.n_batches - 1)
    strict = StrictIndex()
    for seq, frames in by_seq.items():
        got, batch = decode(frames)
        assert got == seq
        strict.apply(batch)
    assert strict.tokens.keys() == engine.resident_keys()
    assert strict.removed > 100
    seed_of_keys = engine_scope(WorkerSettings(), engine.info).seed
    for one in strict.tokens:
        tokens = np.array(strict.prefix(one), dtype=np.uint32)
        assert int(block_keys(tokens, SIZE, seed_of_keys)[-1]) == one


@pytest.mark.parametrize("seed", range(3))
def test_our_decoder_and_adapter_make_of_it_what_the_native_stream_says(streams, seed):
    engine = run_conversations(seed, streams.publish, events_compat=True)
    by_seq, _ = streams.subscriber.until(streams.n_batches - 1)
    scope = engine_scope(WorkerSettings(), engine.info)
    index = adapter_index(by_seq.values(), scope)
    receiver = streams.receiver
    receiver.until(
        lambda: receiver.session.state is StreamState.LIVE and receiver.index == keys_of(index)
    )
    assert keys_of(index) == engine.resident_keys()


@pytest.mark.parametrize("seed", range(2))
def test_scopes_are_read_back_as_they_were(seed):
    """By a strict consumer that knows vLLM's rules, and by ours: both compute our keys."""
    frames: list[tuple[bytes, ...]] = []

    def keep(events):
        frames.append(encode_compat(len(frames), events, ts=1.0, rank=0, block_size=SIZE))

    engine = run_conversations(seed, keep, scopes=SCOPES, events_compat=True)
    ours = engine_scope(WorkerSettings(), engine.info)
    for at_once in (False, True):
        index = adapter_index(frames, ours, at_once=at_once)
        assert keys_of(index) == engine.resident_keys()
    strict = StrictIndex()
    for one in frames:
        strict.apply(decode(one)[1])
    assert strict.tokens.keys() == engine.resident_keys()
    for one in strict.tokens:
        scope = scope_of(*strict.spaces[one])
        prefix = np.array(strict.prefix(one), dtype=np.uint32)
        assert int(block_keys(prefix, SIZE, ours.seed_of(scope))[-1]) == one
    assert {scope_of(*space) for space in strict.spaces.values()} == set(SCOPES)


@pytest.mark.parametrize("tenant", ["", "X", "1:", "\x1f"])
@pytest.mark.parametrize("salt", ["", "X", "1:X", "\x1f", "\x1f1:X", "\x1f0:"])
def test_a_tenant_and_a_salt_come_back_from_the_one_salt_that_stands_for_both(tenant, salt):
    scope = RequestScope(salt=salt, tenant=tenant)
    assert scope_of("", salt_of(scope)) == scope


def test_without_it_no_token_leaves_the_engine():
    events: list[Event] = []
    run_conversations(0, events.extend)
    stored = [event for event in events if isinstance(event, BlocksStored)]
    assert stored
    assert all(event.tokens is None for event in stored)


def test_both_say_the_same_but_for_the_tokens():
    with_tokens: list[Event] = []
    without: list[Event] = []
    run_conversations(1, with_tokens.extend, events_compat=True)
    run_conversations(1, without.extend)
    assert list(map(repr, with_tokens)) == list(map(repr, without))


async def test_a_worker_announces_and_serves_it_beside_its_native_stream():
    async with worker(events_compat=True) as (_, stub, _):
        info = await stub.GetInfo(pb.GetInfoRequest())
        endpoints = Endpoints(info.compat_events_endpoint, info.compat_replay_endpoint)
        subscriber, receiver = Subscriber(endpoints), Receiver()
        try:
            await _both_hear_the_same(stub, info, subscriber, receiver)
        finally:
            subscriber.stop()
            receiver.subscriber.stop()


async def _both_hear_the_same(stub, info, subscriber, receiver):
    native = _Native(Endpoints(info.events_endpoint, info.replay_endpoint))
    receiver.join(native, epoch_from_hex(info.epoch))
    async with session(stub) as call:
        for number in range(40):  # the pool holds 256 blocks: the first ones are evicted
            prompt = [number % 7 + 1] * 8 + list(range(number, number + 40))
            await call.write(pb.EngineRequest(submit=submit(f"r{number}", prompt, seq=number + 1)))
            await collect(call, f"r{number}")
    frames = subscriber.catch_up()
    strict = StrictIndex()
    for one in frames:
        strict.apply(decode(one)[1])

    def is_the_same():
        while (one := subscriber.receive()) is not None:
            frames.append(one)
            strict.apply(decode(one)[1])
        return strict.removed > 0 and receiver.index == strict.tokens.keys()

    receiver.until(is_the_same)
    assert [decode(one)[0] for one in frames] == list(range(len(frames)))
    scope = Scope(info.scope.model_fingerprint, info.block_size, info.scope.kv_dtype)
    assert keys_of(adapter_index(frames, scope)) == strict.tokens.keys()


class _Native:
    """As much of a publisher as a receiver wants to see."""

    def __init__(self, endpoints):
        self.endpoints = endpoints
