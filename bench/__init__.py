"""Measurements, run by hand (`make bench-...`): a folder a command, `python -m bench.<folder>`.

Owns what is measured, beside what, and the JSON files in `results/`. Imported by nothing that
ships; tests import named modules, never a `__main__`. Begin with a folder's `__main__.py`: its
docstring says what is compared.

    rows.py    rows of a benchmark, and the file they go to; all folders but `engine`
    calibration/  the simulated fleet, calibrated, beside our own engine
    chaos/     streams while processes are killed: none lost, none torn, all as without faults
    compile/   what kernels cost a new machine
    compat/    does NVIDIA Dynamo's indexer understand our compat endpoint
    engine/    the engine against `transformers`, time to first token, the cost of serving
    events/    event streams over real sockets: rates, losses, a router's restart
    index/     prefix index, block keys and decoding beside NVIDIA Dynamo's
    kv/        KV dtypes: bytes, perplexity, time of a step
    pause/     small streams while others send giant prompts
    policy/    the default policy judged against every other, on a fixed grid
    router/    the data path beside nginx, sglang-router and vllm-router
    replay/    the simulated fleet and the policies beside NVIDIA Dynamo's replay
    data/      the traces that are measured on
    results/   what the commands wrote
"""

import os

# gRPC reads it when imported. Without it the end of a worker prints lines about connections that
# are closed on purpose.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
