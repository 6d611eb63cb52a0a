"""What a companion process has in memory: no engine, no cluster, nothing it does not use."""

import json
import subprocess
import sys

# Kernels of the index and of keys are numba's: it is what a companion needs most memory for.
PROGRAM = """
import json, sys
import radixroute.worker.companion_process.__main__
from radixroute.events.warm import warm
from radixroute.worker.companion_process.memory import settle
warm()
settle()
private = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
print(json.dumps([sorted(sys.modules), int(private.split()[1]) // 1024]))
"""
BANNED = {
    *("torch", "ray", "transformers", "safetensors", "gguf", "pandas", "scipy", "matplotlib"),
    *("requests", "httpx", "aiohttp", "starlette", "fastapi", "uvicorn", "openai"),
    *(
        "radixroute.router",
        "radixroute.deploy",
        "radixroute.replay",
        "radixroute.worker.model.weights",
    ),
}
MOST_MB = 130  # of its own, before any tokenizer; 90 were seen


def test_a_companion_process_holds_nothing_heavy_but_its_kernels():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    modules, private_mb = json.loads(ran.stdout)
    assert not BANNED & {*modules}
    assert private_mb < MOST_MB
