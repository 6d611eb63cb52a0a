"""Route one prompt: ask the router, print the answer, say which worker gave it and what it knew.

    python examples/route_one_prompt.py "Once upon a time there was" 127.0.0.1:50051

Needs a router: `radixroute up --model .cache/models/SmolLM2-135M-Instruct --workers 2`. Run it
twice: the second time the prompt is in a cache.
"""

import sys

from radixroute.answer import RawText
from radixroute.client import RouterClient
from radixroute.request.limits import PartialSampling

PROMPT = (
    "Every morning at four the baker of the village lights the oven, mixes flour, water, salt and"
    " yeast, and when the first people come at six to buy their bread he is"
)


def main(prompt: str = PROMPT, address: str = "127.0.0.1:50051") -> None:
    sampling = PartialSampling(max_tokens=32, temperature=0.0)
    with RouterClient(address) as router:
        pieces = list(router.generate(RawText(prompt), sampling))
    usage = pieces[-1].usage
    assert usage is not None, "the last piece of an answer says what it used"
    print(prompt + "".join(piece.text for piece in pieces))
    print(f"{usage.worker_id} had {usage.cached_tokens} of {usage.prompt_tokens} prompt tokens")
    print(f"first token after {usage.ttft_ms:.0f} ms, request {pieces[-1].request_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
