"""A fake worker whose model takes millions of tokens: it looks at the first few of a prompt only.

`python -m bench.pause.worker`: prints its port, serves until its input ends.
"""

import asyncio
import sys

import grpc

from radixroute.protos import radixroute_pb2 as pb
from tests.request.samples import byte_level
from tests.router.fakes import FakeWorker

STEP_S = 0.02
MAX_MODEL_LEN = 1 << 23
WORKER_ID = "bench"
_LOOKED_AT = 64


class WideWorker(FakeWorker):
    """Takes any prompt and answers at its own pace."""

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        info: pb.GetInfoResponse = await super().GetInfo(request, context)  # type: ignore[no-untyped-call]
        info.max_model_len = MAX_MODEL_LEN
        info.kv_blocks_total = MAX_MODEL_LEN
        info.max_num_seqs = 256
        return info

    def _submit(self, submit: pb.SubmitRequest) -> None:
        submit.prompt_token_ids = submit.prompt_token_ids[: 4 * _LOOKED_AT]
        super()._submit(submit)
        self.seen.clear()

    def _chunk(self, chunk: pb.PromptChunk) -> None:
        chunk.prompt_token_ids = b""
        super()._chunk(chunk)


async def main() -> None:
    worker = WideWorker(WORKER_ID, step_s=STEP_S)
    await worker.start()
    worker.tokenizer = byte_level()
    print(worker.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await worker.kill()


if __name__ == "__main__":
    asyncio.run(main())
