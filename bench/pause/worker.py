"""A fake worker whose model takes millions of tokens: it looks at the first few of a prompt only.

`python -m bench.pause.worker`: prints its port, serves until its input ends.
"""

import asyncio
import sys

from tests.request.samples import byte_level
from tests.router.fakes import WideWorker

STEP_S = 0.02
WORKER_ID = "bench"


async def main() -> None:
    worker = WideWorker(WORKER_ID, step_s=STEP_S)
    await worker.start()
    worker.tokenizer = byte_level()
    print(worker.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await worker.kill()


if __name__ == "__main__":
    asyncio.run(main())
