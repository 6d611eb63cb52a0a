"""Between two turns of the router's loop: so many outputs, so many blocks. And how late it is."""

import asyncio
import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, framed
from radixroute.radix.ids import WorkerId
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import pack_tokens
from radixroute.router.core.liveness.watch import MOST_REST_NS
from radixroute.router.counters import Count
from radixroute.router.links.frame_wire import FrameWire
from radixroute.router.links.grpc_wire import GrpcWire
from radixroute.router.links.session_place import SessionPlace
from radixroute.router.links.session_wire import SessionEnded
from radixroute.router.links.wire import DELTAS_A_TURN, step_reports
from radixroute.router.loop_lag import MAX_LAG_S, LagMeter
from radixroute.router.messages.inputs import MemberSpec, StepReport
from radixroute.router.runtime import RouterRuntime
from tests.router.clusters import all_live, cluster, settings, until
from tests.router.fakes import FakeWorker
from tests.router.worlds import request


def output(n: int) -> pb.StepOutput:
    deltas = [
        pb.TokenDelta(request_id=f"{i}", attempt=1, token_ids=pack_tokens([i])) for i in range(n)
    ]
    return pb.StepOutput(deltas=deltas, step_ms=7.0, prefill_tokens=3, decode_tokens=n)


def test_a_step_of_very_many_requests_comes_in_parts():
    reports = list(step_reports(output(2 * DELTAS_A_TURN + 1)))
    assert [len(report.deltas) for report in reports] == [DELTAS_A_TURN, DELTAS_A_TURN, 1]
    ids = [delta.request_id for report in reports for delta in report.deltas]
    assert ids == [f"{i}" for i in range(2 * DELTAS_A_TURN + 1)]
    measured = [(one.step_ms, one.prefill_tokens, one.decode_tokens) for one in reports]
    assert measured == [(7.0, 3, 2 * DELTAS_A_TURN + 1), (0.0, 0, 0), (0.0, 0, 0)]
    assert [len(one.deltas) for one in step_reports(output(0))] == [0]


def more(n: int) -> pb.More:
    return pb.More(
        request_ids=[f"m{i}" for i in range(n)],
        attempts=[1] * n,
        data=[b"x%d" % i for i in range(n)],
        n_tokens=[1] * n,
    )


@pytest.mark.parametrize("n_deltas", [0, 1, DELTAS_A_TURN, DELTAS_A_TURN + 1])
@pytest.mark.parametrize("n_more", [0, 1, 2 * DELTAS_A_TURN])
def test_more_of_very_many_answers_comes_in_parts_behind_them(n_deltas, n_more):
    told = output(n_deltas)
    told.more.CopyFrom(more(n_more))
    reports = list(step_reports(told))
    assert all(len(one.deltas) + len(one.more) <= DELTAS_A_TURN for one in reports)
    assert all(not two.deltas for one, two in pairwise(reports) if one.more)
    assert [one.data for report in reports for one in report.more] == list(told.more.data)
    assert sum(len(report.deltas) for report in reports) == n_deltas


@pytest.mark.parametrize("kind", ["grpc", "frames"])
async def test_lists_that_do_not_fit_together_end_the_session(kind):
    torn = more(2)
    torn.data.append(b"whose?")
    reading = "lists of `more` have different lengths"
    message = pb.StepOutput(more=torn)
    if kind == "grpc":
        outputs = [message]

        class Call:
            async def read(self):
                return outputs.pop() if outputs else grpc.aio.EOF

        stub: Any = None
        wire: Any = GrpcWire(stub)
        wire._call = Call()
        with pytest.raises(SessionEnded, match=reading):
            await wire.relay(lambda report: pytest.fail("it is no report"))
        return
    frames = FrameWire(SessionPlace(), 1 << 20)
    aborted = list[bool]()
    transport: Any = SimpleNamespace(write=lambda data: None, abort=lambda: aborted.append(True))
    frames._transport = transport
    frames._received = lambda report: pytest.fail("it is no report")
    frames.data_received(HELLO + framed(message.SerializeToString()))
    assert aborted
    frames.connection_lost(None)
    with pytest.raises(SessionEnded, match=reading):
        await frames._ended
    frames.close()


@pytest.mark.parametrize("kind", ["grpc", "frames"])
async def test_others_have_their_turn_between_the_parts_of_a_step(kind):
    outputs = [output(4 * DELTAS_A_TURN)]
    n_deltas = list[int]()
    now, worst, over = [0], [0], asyncio.Event()

    async def other():
        while not over.is_set():
            now[0] = 0
            await asyncio.sleep(0)

    class Call:
        async def read(self):
            return outputs.pop() if outputs else grpc.aio.EOF

    def received(report):
        now[0] += len(report.deltas)
        worst[0] = max(worst[0], now[0])
        n_deltas.append(len(report.deltas))

    task = asyncio.create_task(other())
    nobody: Any = None
    wire = GrpcWire(nobody) if kind == "grpc" else FrameWire(SessionPlace(), 1 << 30)
    if isinstance(wire, GrpcWire):
        call: Any = Call()
        wire._call = call
        await wire.relay(received)
    else:
        relaying = asyncio.create_task(wire.relay(received))
        await asyncio.sleep(0)
        wire.data_received(HELLO + framed(outputs.pop().SerializeToString()))
        wire.data_received(framed(output(1).SerializeToString()))
        await until(lambda: sum(n_deltas) == 4 * DELTAS_A_TURN + 1)
        assert n_deltas == [*[DELTAS_A_TURN] * 4, 1]  # in order
        relaying.cancel()
    over.set()
    await task
    assert worst[0] == DELTAS_A_TURN


async def test_streams_that_are_busy_go_on_one_turn_at_a_time():
    class Events:
        left = 10
        is_quiet = False

        @property
        def is_busy(self):
            return self.left > 0

        def receive(self, deliveries, now_ns):
            return []

        def go_on(self, now_ns):
            self.left -= 1
            seen.append(turn[0])
            return []

    seen, turn = list[int](), [0]
    core: Any = SimpleNamespace(wake_ns=None)
    events: Any = Events()
    nothing: Any = None
    runtime = RouterRuntime(settings(), core, nothing, time.monotonic_ns)
    runtime._events = events
    runtime.receive_events([])
    runtime.receive_events([])  # no second chain of turns
    while runtime.events.is_busy:
        turn[0] += 1
        await asyncio.sleep(0)
    assert len(seen) == len(set(seen)) == 10


async def test_who_waits_is_scheduled_once_for_all_that_a_turn_brings():
    spec = MemberSpec(WorkerId("w"), "w:1", 1)
    seen = list[str]()

    class Core:
        wake_ns, n_waiting = None, 0

        def submit(self, spec, now_ns, *, is_last):
            seen.append("planned" if is_last else "waits")
            self.n_waiting += 1
            return []

        def step(self, worker_id, report, now_ns, *, schedules):
            seen.append("planned" if schedules else "step")
            return []

        def schedule_waiting(self, now_ns):
            seen.append("scheduled")
            return []

    core: Any = Core()
    nothing: Any = None
    runtime = RouterRuntime(settings(), core, nothing, time.monotonic_ns)
    link: Any = SimpleNamespace(spec=spec)
    runtime._links[spec.worker_id] = link
    runtime.received(spec, StepReport(1.0, 0, 0, ()))
    await asyncio.sleep(0)
    assert seen == ["step"]  # nobody waits
    for name in ("first", "second", "third"):
        runtime.submit(request(name), nothing)
    runtime.received(spec, StepReport(1.0, 0, 0, ()))
    assert seen[1:] == ["planned", "waits", "waits", "step"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen[5:] == ["scheduled"]
    runtime.received(spec, StepReport(1.0, 0, 0, ()))
    await asyncio.sleep(0)
    assert seen[6:] == ["step", "scheduled"]


async def test_a_tokenizer_is_parsed_beside_the_loop(monkeypatch):
    from_files, seen = Tokenizer.from_files, []

    def noted(files):
        seen.append(threading.current_thread())
        return from_files(files)

    worker = FakeWorker("a")
    async with cluster(worker) as (service, _, _):
        worker.tokenizer = from_files(worker.tokenizer.files())
        monkeypatch.setattr(Tokenizer, "from_files", noted)
        await until(lambda: all_live(service))
    assert seen
    assert threading.main_thread() not in seen


def test_lags_are_kept_for_a_while_and_late_ones_counted():
    meter = LagMeter(window=3)
    assert (meter.lag.mean_ms, meter.lag.max_ms, meter.lag.n_late) == (0.0, 0.0, 0)
    late = [meter.observe(lag_s) for lag_s in (0.5, -0.1, MAX_LAG_S, 0.01, 0.06)]
    assert late == [True, False, False, False, True]
    assert meter.lag.n_late == 2
    assert round(meter.lag.max_ms) == 60  # the half second has left the window
    assert round(meter.lag.mean_ms) == 30


async def test_a_loop_that_was_held_says_so():
    async with cluster(FakeWorker("a")) as (service, _, inspect):
        await until(lambda: all_live(service))
        before = service.runtime.lag_meter.lag.n_late
        time.sleep(MOST_REST_NS / 1e9 + 0.15)  # longer than any rest: whatever holds it  # noqa: ASYNC251
        await until(lambda: service.runtime.lag_meter.lag.n_late > before)
        assert service.runtime.lag_meter.lag.max_ms > 100
        info = await inspect.RouterInfo(pb.RouterInfoRequest())
        assert info.counters[Count.LOOP_LAGGED.value] >= 1
