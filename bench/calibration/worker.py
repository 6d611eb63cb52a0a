"""A worker of our engine that notes its steps: `python -m bench.calibration.worker ID MODEL FILE`.

Prints its address, serves until its input ends.
"""

import asyncio
import os
import sys

from bench.calibration.step_recording import FILE_VARIABLE, RUNNER
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings

KV_MEMORY = 1 << 30


async def main(worker_id: str, model: str, file: str) -> None:
    os.environ[FILE_VARIABLE] = file
    settings = WorkerSettings(
        worker_id=worker_id, model=model, device="cpu", kv_memory=KV_MEMORY, metrics_port=None
    )
    worker = WorkerService(settings, runner=RUNNER)
    await worker.start()
    print(worker.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await worker.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
