"""The request log: every end once, bounded, and a reader knows what it missed."""

import numpy as np
from msgspec.structs import replace

from radixroute.live.request_log_reader import RequestLogReader, captured
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.router.core.logs.request_log import ENTRY_BYTES, RequestLog
from radixroute.router.core.requests import Request
from tests.router.clusters import all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker
from tests.router.worlds import World
from tests.router.worlds import request as spec


def test_every_end_is_logged_once_with_what_became_of_it():
    world = World("a")
    world.submit(spec("done", n=2, blocks=3))
    world.submit(spec("gone", n=50))
    world.route(spec("leased"), "lease")
    world.step("a")
    world.step("a")
    world.abort("gone")
    entries = world.core._state.ended.after(0, 1 << 20)
    assert [(e.number, e.request_id, e.outcome) for e in entries] == [
        (1, "leased", "leased"),
        (2, "done", "length"),
        (3, "gone", "abort"),
    ]
    done = entries[1]
    assert (done.prompt_tokens, done.output_tokens, done.worker_id) == (3 * 16 + 3, 2, "a")
    assert done.keys.tolist() == spec("done", blocks=3).keys.tolist()
    assert entries[2].output_tokens == 2


def test_the_oldest_go_when_the_bytes_are_used_up():
    log = RequestLog(3 * ENTRY_BYTES + 100)
    for n in range(5):
        log.ended(Request(spec(f"r{n}", blocks=1, shared=0)), "stop", block_size=16)
        log.check()
    assert (log.oldest, log.latest, len(log)) == (3, 5, 3)
    assert [entry.number for entry in log.after(3, 1 << 20)] == [4, 5]
    assert [entry.number for entry in log.after(0, 1)] == [3]  # one at least, however large


def test_what_repeats_and_what_keeps_it_apart_is_told_without_saying_what_it_is():
    text = np.random.default_rng(0).integers(0, 9_000, 2000).astype(np.uint32)
    longer = np.concatenate((np.arange(7, dtype=np.uint32), text))

    def entries(seed):
        log = RequestLog(1 << 20, seed)
        for tokens, scope in (
            (text, UNSCOPED),
            (longer, RequestScope(salt="s", lora="x")),
            (text, RequestScope(salt="s")),
            (text, RequestScope(tenant="s")),
        ):
            asked = replace(spec("r"), prompt=tokens, scope=scope)
            log.ended(Request(asked), "stop", block_size=16)
        log.check()
        return log.after(0, 1 << 20)

    one, longer_one, salted, of_tenant = entries(5)
    hashes = [np.frombuffer(each.marks, "<u8") & 0xFFFFFFFF for each in (one, longer_one)]
    assert len(hashes[0]) > 15
    assert set(hashes[0].tolist()) <= set(hashes[1].tolist())
    assert one.marks == salted.marks
    assert [each.lora for each in (one, longer_one, salted)] == ["", "x", ""]
    assert (one.apart, longer_one.apart) == (0, salted.apart)
    assert len({0, salted.apart, of_tenant.apart}) == 3
    assert entries(6)[2].apart != salted.apart
    assert entries(6)[0].marks != one.marks


def page(log_id, numbers, *, oldest=1, latest=None):
    requests = [pb.EndedRequest(number=n) for n in numbers]
    latest = numbers[-1] if latest is None else latest
    return pb.RequestLogResponse(log_id=log_id, oldest=oldest, latest=latest, requests=requests)


def test_a_reader_counts_what_had_left_the_log():
    reader = RequestLogReader()
    assert len(reader.take(page("x", [4, 5], oldest=4, latest=6))) == 2
    assert (reader.missed, reader.after, reader.is_behind) == (3, 5, True)
    reader.take(page("x", [6], oldest=4))
    assert (reader.missed, reader.is_behind) == (3, False)
    reader.take(pb.RequestLogResponse(log_id="x", oldest=0, latest=9))  # all too large to keep
    assert (reader.missed, reader.is_behind) == (6, False)


def test_a_reader_sees_a_restart_though_numbers_go_on():
    reader = RequestLogReader()
    reader.take(page("x", [1, 2]))
    assert not reader.take(page("y", [3, 4]))
    assert (reader.restarts, reader.is_behind, reader.after) == (1, True, 0)
    assert [one.number for one in reader.take(page("y", [1, 2, 3, 4]))] == [1, 2, 3, 4]
    assert (reader.restarts, reader.missed) == (1, 0)


async def test_the_log_and_the_limits_are_told_over_grpc():
    async with cluster(FakeWorker("a")) as (service, router, inspect):
        await until(lambda: all_live(service), 30)
        prompt = list(range(20, 31))
        await collect(router.Generate(request(prompt, 3)))
        reader = RequestLogReader()
        (entry,) = reader.take(await inspect.RequestLog(pb.RequestLogRequest()))
        (one,) = captured([entry])
        assert (one.prompt_tokens, one.output_tokens, one.block_size) == (11, 3, 4)
        assert one.keys.dtype == np.uint64
        assert len(one.keys) == 2
        assert entry.first_token_ns >= entry.dispatched_ns >= entry.arrival_ns > 0
        assert not (await inspect.RequestLog(pb.RequestLogRequest(after=1))).requests
        info = await inspect.RouterInfo(pb.RouterInfoRequest())
        assert info.max_model_len > 0
        assert info.vocab_size > 0
        (listed,) = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
        assert listed.idle_planned_ms == listed.idle_avoidable_ms == 0.0
