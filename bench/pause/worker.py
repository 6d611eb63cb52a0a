"""A fake worker whose model takes millions of tokens: it looks at the first few of a prompt only.

`python -m bench.pause.worker [<model's folder>]`: prints its port, serves until its input ends.
With a folder it has that model's tokenizer.
"""

import asyncio
import sys

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.tokenizer import Tokenizer
from tests.request.samples import byte_level
from tests.router.fakes import WideWorker

STEP_S = 0.02
WORKER_ID = "bench"


class ModelWorker(WideWorker):
    """Its vocabulary is its tokenizer's."""

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        info = await super().GetInfo(request, context)
        info.vocab_size = self.tokenizer.vocab_size
        return info


async def main(model: str = "") -> None:
    worker = ModelWorker(WORKER_ID, step_s=STEP_S)
    worker.make_tokenizer = (lambda: Tokenizer.from_dir(model)) if model else byte_level
    await worker.start()
    print(worker.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await worker.kill()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
