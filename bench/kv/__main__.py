"""KV dtypes on SmolLM2: bytes a token, perplexity on the demo's texts, CPU time of a decode step.

`python -m bench.kv [--tokens 1024] [--context 4096]`: a minute or two on an idle machine. Writes
`bench/results/kv.json`. `--tokens` of each text, `--context` of the decode step.
"""

import argparse
import json
from pathlib import Path

import torch

from bench.kv.decoding import decode_ms
from bench.kv.perplexity import perplexity, texts
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.model.kv.formats import FLOAT32, FORMATS
from radixroute.worker.model.kv.pool import new_pool
from radixroute.worker.model.layers.ops import Ops
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.weights import Weights

MODEL = Path(".cache/models/SmolLM2-135M-Instruct")
RESULTS = Path("bench/results/kv.json")
BLOCK_SIZE = 16


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokens", type=int, default=1024)
    arguments.add_argument("--context", type=int, default=4096)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    cpu, config = torch.device("cpu"), load_config(MODEL)
    model = config.build(Weights(MODEL, dtype=torch.float32, device=cpu), Ops())
    prompts = texts(Tokenizer.from_dir(MODEL), given.tokens)
    n_blocks = given.context // BLOCK_SIZE + 1
    rows = {}
    for name, kv_format in FORMATS.items():
        pool = new_pool(
            config.layout,
            n_blocks,
            BLOCK_SIZE,
            dtype=torch.float32,
            device=cpu,
            kv_format=kv_format,
        )
        rows[name] = {
            "bytes_per_token": config.layout.bytes_per_token(kv_format),
            "perplexity": perplexity(model, pool, prompts),
            "decode_ms": decode_ms(model, pool, given.context),
        }
        row = rows[name]
        change = row["perplexity"] / rows[FLOAT32.name]["perplexity"] - 1
        print(
            f"{name:9} {row['bytes_per_token']:6,} bytes a token, perplexity "
            f"{row['perplexity']:.4f} ({change:+.3%}), decode {row['decode_ms']:.1f} ms of CPU"
        )
    told = {"tokens": sum(len(one) - 1 for one in prompts), "context": given.context, "rows": rows}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
