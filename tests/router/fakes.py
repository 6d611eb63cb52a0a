"""A fake worker: real gRPC server, real events; its tokens are a pure function of the prompt.

A resumed stream can therefore be checked token by token: what comes out does not depend on which
worker made it or how often it moved.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.wire.epoch import epoch_to_hex, make_epoch
from radixroute.events.wire.records import BlocksStored, LoadReport, SessionLoad
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import BlockKey, WorkerId
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.request.logprobs import TokenLogprob, pack_logprobs
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import logprobs_to_proto, pack_tokens, unpack_tokens
from radixroute.router.messages.inputs import MemberSpec
from tests.request.samples import CONFIG, byte_level_json

FIRST_ID, N_IDS = 10, 200
SECRET = "s3cret"


def token_at(prompt: list[int], position: int) -> int:
    """The answer's token at a position: of the whole prompt, and of nothing else."""
    text = ",".join(map(str, prompt)) + f"|{position}"
    return FIRST_ID + int.from_bytes(hashlib.blake2b(text.encode()).digest()[:4]) % N_IDS


def answer(prompt: list[int], n: int) -> list[int]:
    return [token_at(prompt, position) for position in range(n)]


def told_at(position: int, n_top: int) -> TokenLogprob:
    """What a fake worker thinks of the token there."""
    return TokenLogprob(-position / 2, tuple((at, -float(at + position)) for at in range(n_top)))


def text_of(token_ids: list[int]) -> str:
    """One letter a token: text lengths and positions agree."""
    return "".join(chr(97 + token_id % 26) for token_id in token_ids)


def tiny_tokenizer() -> Tokenizer:
    return Tokenizer.from_files({"tokenizer.json": byte_level_json()})


def chat_tokenizer() -> Tokenizer:
    """The same, with a chat template, and with what its makers want of sampling."""
    files = {
        "tokenizer.json": byte_level_json(),
        "tokenizer_config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": json.dumps({"temperature": 0.5, "top_k": 7}).encode(),
    }
    return Tokenizer.from_files(files)


@dataclass
class _Live:
    request_id: str
    attempt: int
    prompt: list[int]
    max_tokens: int
    emitted: int
    text_len: int
    is_whole: bool
    n_top: int | None = None  # log probabilities that are told beside each; None: none
    has_reported: bool = False


def _gone(one: pb.AttemptName) -> pb.TokenDelta:
    end = pb.FINISH_REASON_ABORT
    return pb.TokenDelta(request_id=one.request_id, attempt=one.attempt, finish_reason=end)


@dataclass
class FakeWorker:
    """One worker's Engine service on loopback."""

    worker_id: str
    incarnation: int = 1
    block_size: int = 4
    secret: str = SECRET
    model: str = "tiny"
    step_s: float = 0.001
    hold_after: int | None = None  # stop producing once a request has this many tokens
    never_prefill: bool = False
    api_version: int = API_VERSION
    heartbeats: bool = True
    compat: tuple[str, str] = ("", "")  # endpoints it announces
    host_port: int = 0
    loses_ends: int = 0  # of so many requests the last output reaches nobody
    make_tokenizer: Callable[[], Tokenizer] = tiny_tokenizer
    seen: list[pb.SubmitRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)

    async def start(self) -> MemberSpec:
        self.tokenizer = self.make_tokenizer()
        nonce = hashlib.blake2b(f"{self.worker_id}/{id(self)}".encode(), digest_size=8).digest()
        self.epoch = make_epoch(self.incarnation, nonce)
        self.scope = Scope(
            model_fingerprint="m" * 8,
            block_size=self.block_size,
            cluster_secret=self.secret.encode(),
        )
        self.cached: set[int] = set()
        self.live: dict[tuple[str, int], _Live] = {}
        self.answers: list[pb.TokenDelta] = []
        self.acknowledged = 0
        self.router_id = ""
        self.publisher = EventPublisher(self.epoch)
        self.publisher.start()
        self.publisher.report_load(LoadReport(0.0, 1000, 0))
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        rpc.add_EngineServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.host_port}")
        await self.server.start()
        return self.spec

    @property
    def spec(self) -> MemberSpec:
        return MemberSpec(WorkerId(self.worker_id), f"127.0.0.1:{self.port}", self.incarnation)

    async def kill(self) -> None:
        await asyncio.to_thread(self.publisher.stop)
        await self.server.stop(None)

    async def GetInfo(self, request, context):
        if not self.heartbeats:
            endpoints = ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9")
        else:
            endpoints = (self.publisher.endpoints.events, self.publisher.endpoints.control)
        return pb.GetInfoResponse(
            api_version=self.api_version,
            version="test",
            worker_id=self.worker_id,
            epoch=epoch_to_hex(self.epoch),
            model=self.model,
            block_size=self.block_size,
            max_model_len=512,
            vocab_size=400,
            eos_token_ids=[2],
            scope_fingerprint=self.scope.fingerprint,
            tokenizer_fingerprint=self.tokenizer.fingerprint,
            kv_blocks_total=1000,
            max_num_seqs=8,
            max_num_batched_tokens=64,
            events_endpoint=endpoints[0],
            replay_endpoint=endpoints[1],
            compat_events_endpoint=self.compat[0],
            compat_replay_endpoint=self.compat[1],
            ranks=1,
            metrics_address=f"{self.worker_id}:9",
            scope=pb.Scope(model_fingerprint="m" * 8, kv_dtype="float32"),
        )

    async def GetTokenizer(self, request, context):
        for name, data in self.tokenizer.files().items():
            half = len(data) // 2
            await context.write(pb.TokenizerChunk(file_name=name, data=data[:half]))
            await context.write(pb.TokenizerChunk(data=data[half:], last=True))

    async def Generate(self, request, context):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this fake")

    async def Session(self, request_iterator, context):
        first = await anext(aiter(request_iterator))
        self.router_id = first.open.router_id
        if first.open.api_version != API_VERSION:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "api version")
        await context.write(pb.StepOutput(opened=True))
        reader = asyncio.create_task(self._read(request_iterator))
        try:
            step = 0
            while not reader.done():
                await asyncio.sleep(self.step_s)
                output = self._step()
                if output is not None:
                    step += 1
                    output.step = step
                    await context.write(output)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self.live.clear()

    async def _read(self, request_iterator):
        async for message in request_iterator:
            match message.WhichOneof("kind"):
                case "submit":
                    self._submit(message.submit)
                case "chunk":
                    self._chunk(message.chunk)
                case "abort":
                    self.aborted.append(message.abort.request_id)
                    self.live.pop((message.abort.request_id, message.abort.attempt), None)
                case "inquire":
                    for one in message.inquire.attempts:
                        if (one.request_id, one.attempt) not in self.live:
                            self.answers.append(_gone(one))

    def _submit(self, submit: pb.SubmitRequest) -> None:
        self.seen.append(submit)
        self.acknowledged = submit.dispatch_seq
        self.live[submit.request_id, submit.attempt] = _Live(
            submit.request_id,
            submit.attempt,
            unpack_tokens(submit.prompt_token_ids).tolist(),
            submit.sampling.max_tokens,
            emitted=len(submit.resume.emitted_token_ids) // 4,
            text_len=submit.resume.emitted_text_len,
            is_whole=not submit.more_chunks,
            n_top=submit.sampling.logprobs if submit.sampling.HasField("logprobs") else None,
        )

    def _chunk(self, chunk: pb.PromptChunk) -> None:
        live = self.live.get((chunk.request_id, chunk.attempt))
        if live is not None:  # aborted meanwhile
            live.prompt += unpack_tokens(chunk.prompt_token_ids).tolist()
            live.is_whole = not chunk.more_chunks

    def _step(self) -> pb.StepOutput | None:
        deltas = [d for live in list(self.live.values()) if (d := self._advance(live)) is not None]
        deltas, self.answers = deltas + self.answers, []
        ours = SessionLoad(self.router_id, self.acknowledged, len(self.live), 0, 0)
        self.publisher.report_load(LoadReport(0.0, 1000, len(self.cached), (ours,)))
        if not deltas:
            return None
        return pb.StepOutput(
            deltas=deltas, step_ms=1.0, prefill_tokens=0, decode_tokens=len(deltas)
        )

    def _advance(self, live: _Live) -> pb.TokenDelta | None:
        if not live.is_whole or self.never_prefill:
            return None
        if self.hold_after is not None and live.emitted >= self.hold_after:
            return None
        token_id = token_at(live.prompt, live.emitted)
        delta = pb.TokenDelta(
            request_id=live.request_id,
            attempt=live.attempt,
            position=live.emitted,
            token_ids=pack_tokens([token_id]),
            text=text_of([token_id]),
        )
        if live.n_top is not None:
            told = pack_logprobs([told_at(live.emitted, live.n_top)])
            delta.logprobs.CopyFrom(logprobs_to_proto(told))
        if not live.has_reported:
            live.has_reported = True
            cached = self._prefill(live.prompt)
            delta.prompt.prompt_tokens = len(live.prompt)
            delta.prompt.cached_tokens = cached
            delta.prompt.recomputed_tokens = live.emitted
        live.emitted += 1
        if live.emitted >= live.max_tokens:
            delta.finish_reason = pb.FINISH_REASON_LENGTH
            del self.live[live.request_id, live.attempt]
            if self.loses_ends:
                self.loses_ends -= 1
                return None
        return delta

    def _prefill(self, prompt: list[int]) -> int:
        tokens = unpack_tokens(pack_tokens(prompt))
        keys = block_keys(tokens, self.block_size, self.scope.seed)
        listed = keys.tolist()
        held = 0
        while held < len(listed) and listed[held] in self.cached:
            held += 1
        if held < len(listed):
            parent = BlockKey(listed[held - 1]) if held else None
            self.publisher.publish((BlocksStored(parent, keys[held:]),))
            self.cached.update(listed)
        return min(held, (len(prompt) - 1) // self.block_size) * self.block_size


class WideWorker(FakeWorker):
    """Its model takes millions of tokens: it looks at the first few of a prompt only."""

    max_model_len = 1 << 23
    looked_at = 64

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        info: pb.GetInfoResponse = await super().GetInfo(request, context)
        info.max_model_len = info.kv_blocks_total = self.max_model_len
        info.max_num_seqs = 256
        return info

    def _submit(self, submit: pb.SubmitRequest) -> None:
        submit.prompt_token_ids = submit.prompt_token_ids[: 4 * self.looked_at]
        super()._submit(submit)
        self.seen.clear()

    def _chunk(self, chunk: pb.PromptChunk) -> None:
        chunk.prompt_token_ids = b""
        super()._chunk(chunk)
