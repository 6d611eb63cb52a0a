"""A router over companions over fake engines, and what tests ask of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import Holder, WorkerId
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.companions.companion import companion
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings
from tests.engines.fake_engine import FakeEngine
from tests.engines.fake_vllm import FakeVllm
from tests.router.clusters import all_live, until
from tests.worker.fakes import FakeRunner, alone, make_tokenizer, slow_runner

SECRET = "shared"
NAMED_RUNNER = "tests.engines.fleets:named_runner"


def named_runner(settings: WorkerSettings) -> FakeRunner:
    """Our engine over the fake model, by the name that fake engines have for it."""
    runner = slow_runner(settings)
    runner._facts = replace(runner.facts, model="fake-model")
    return runner


def beside(
    url: str, worker_id: str = "a", *, incarnation: int = 3, **changes: Any
) -> WorkerService:
    """A worker that is a companion of the engine there."""
    settings = CompanionSettings(**{"poll_s": 0.05, "start_timeout_s": 5.0, **changes})
    worker = WorkerSettings(worker_id=worker_id, incarnation=incarnation, cluster_secret=SECRET)
    return WorkerService(worker, host=companion(settings, url, worker, make_tokenizer()))


class Fleet:
    """Engines and workers by worker id, and the router."""

    def __init__(self, router: RouterService, channel: grpc.aio.Channel) -> None:
        self.router, self.stub = router, rpc.RouterStub(channel)
        self.inspect = rpc.InspectStub(channel)
        self.engines: dict[str, Any] = {}
        self.urls: dict[str, str] = {}
        self.workers: dict[str, WorkerService] = {}
        self._members: dict[str, MemberSpec] = {}

    @property
    def state(self) -> Any:
        return self.router.runtime.core._state

    @property
    def counters(self) -> dict[str, int]:
        counted: dict[str, int] = self.state.counters.as_dict()
        return counted

    async def start_engine(self, worker_id: str, engine: FakeEngine) -> None:
        """A next life takes the ports of the one before."""
        before = self.engines.get(worker_id)
        self.urls[worker_id] = await engine.start(before.ports if before else (0, 0, 0))
        self.engines[worker_id] = engine

    async def join(self, worker_id: str, *, incarnation: int = 3, **changes: Any) -> None:
        url = self.urls[worker_id]
        worker = beside(url, worker_id, incarnation=incarnation, **changes)
        await self._list(worker, worker_id, incarnation)

    async def _list(self, worker: WorkerService, worker_id: str, incarnation: int) -> None:
        address = await worker.start()
        self.workers[worker_id] = worker
        self._members[worker_id] = MemberSpec(WorkerId(worker_id), str(address), incarnation)
        self.router.set_members(list(self._members.values()))
        await until(lambda: all_live(self.router))

    async def join_ours(self, worker_id: str) -> None:
        """A worker with an engine of ours, over the same fake model."""
        settings = WorkerSettings(
            worker_id=worker_id,
            incarnation=3,
            cluster_secret=SECRET,
            block_size=4,
            kv_memory=256 * 32,
            served_model_name="fake-model",
        )
        worker = WorkerService(settings, runner=NAMED_RUNNER, tokenizer=make_tokenizer())
        await self._list(worker, worker_id, 3)

    def is_followed(self) -> bool:
        """Whether the audit can judge each engine from now on: its stream has begun."""
        workers = self.state.audit._workers
        return all(
            worker_id in workers
            and len(workers[worker_id].journals) == len(engine.ranks)
            and all(journal.is_based for journal in workers[worker_id].journals.values())
            for worker_id, engine in self.engines.items()
        )

    def is_told(self) -> bool:
        """Whether the router knows each engine's cache as it is."""
        index = self.state.audit._index
        return all(
            index.n_blocks(Holder(WorkerId(worker_id), one.rank)) == len(one.cache.held)
            for worker_id, engine in self.engines.items()
            for one in engine.ranks
        )

    async def workers_said(self) -> list[pb.WorkerStatus]:
        """As `radixroute workers` has it."""
        return list((await self.inspect.ListWorkers(pb.ListWorkersRequest())).workers)

    def ask(
        self, prompt: list[int], n: int, *, scope: dict[str, Any] | None = None, **sampling: Any
    ) -> Any:
        given = {"max_tokens": n, "temperature": 0.0, "ignore_eos": True, **sampling}
        params = pb.SamplingParams(**given)
        return self.stub.Generate(
            pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=params, **(scope or {}))
        )


@asynccontextmanager
async def fleet(
    *worker_ids: str,
    companion: dict[str, Any] | None = None,
    router: dict[str, Any] | None = None,
    kind: type[FakeEngine] = FakeVllm,
    **engine: Any,
) -> AsyncIterator[Fleet]:
    """Started engines with their companions and a router over them. `engine`: what each is."""
    given = {"port": 0, "http_port": 0, "metrics_port": 0, "cluster_secret": SECRET}
    service = RouterService(RouterSettings(**{**given, **(router or {})}))
    address = await service.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        made = Fleet(service, channel)
        try:
            for worker_id in worker_ids:
                await made.start_engine(worker_id, kind(**engine))
                await made.join(worker_id, **(companion or {}))
            yield made
        finally:
            await service.stop()
            await asyncio.gather(*(worker.stop() for worker in made.workers.values()))
            await asyncio.gather(*(one.kill() for one in made.engines.values()))


def expected(prompt: list[int], n: int, **more: Any) -> list[int]:
    """Greedy: of the prompt alone."""
    tokens: list[int] = alone(prompt, SamplingParams(max_tokens=n, ignore_eos=True, **more))
    return tokens


def ids_of(messages: list[Any]) -> list[int]:
    got: list[int] = []
    for message in messages:
        assert message.position == len(got)
        got += unpack_tokens(message.token_ids).tolist()
    return got


def assert_whole(messages: list[Any], prompt: list[int], n: int) -> None:
    """Every position once, every token right, one finish, and it is the last message."""
    assert ids_of(messages) == expected(prompt, n)
    finishes = [message.finish_reason for message in messages if message.finish_reason]
    assert finishes == [pb.FINISH_REASON_LENGTH]
    assert "".join(message.text for message in messages) == make_tokenizer().decode(
        expected(prompt, n)
    )
