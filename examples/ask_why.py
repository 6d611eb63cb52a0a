"""Ask why: two questions behind one long system prompt, then the terms of the second's decision.

    python examples/ask_why.py 127.0.0.1:50051

Needs a router: `radixroute up --model .cache/models/SmolLM2-135M-Instruct --workers 2`.
"""

import sys

from radixroute.client import RouterClient
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling

PRICES = " ".join(f"Article {n} costs {7 * n} euros." for n in range(1, 61))
SHOP = ChatMessage("system", f"You sell bicycles and answer in one sentence. {PRICES}")
QUESTIONS = ("What does article 12 cost?", "Which article costs 84 euros?")


def main(address: str = "127.0.0.1:50051") -> None:
    with RouterClient(address) as router:
        for question in QUESTIONS:
            chat = [SHOP, ChatMessage("user", question)]
            *_, last = router.generate(chat, PartialSampling(max_tokens=16, temperature=0.0))
        why = router.explain(last.request_id)
    print(f"{why.cached_tokens} of {why.prompt_tokens} prompt tokens came from a cache")
    for attempt in why.attempts:
        print(f"{attempt.chosen}: {attempt.reason}")
        for one in attempt.candidates:
            terms = ", ".join(f"{t.name} {t.value:.0f}" for t in one.terms if t.value)
            print(
                f"  {one.worker_id} holds {one.overlap_blocks} blocks: {one.score:.0f} ms ({terms})"
            )
    print(f"the same as a table: radixroute explain {last.request_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
