"""Stream a chat with asyncio: text as it comes; each turn finds the turns before it in a cache.

    python examples/stream_a_chat.py 127.0.0.1:50051

Needs a router: `radixroute up --model .cache/models/SmolLM2-135M-Instruct --workers 2`.
"""

import asyncio
import sys

from radixroute.client import AsyncRouterClient
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling

QUESTIONS = ("Name three rivers of Europe.", "Which of them is the longest?")


async def main(address: str = "127.0.0.1:50051") -> None:
    chat = [ChatMessage("system", "You know a lot about geography and answer in one sentence.")]
    sampling = PartialSampling(max_tokens=48, temperature=0.0)
    async with AsyncRouterClient(address) as router:
        for question in QUESTIONS:
            chat.append(ChatMessage("user", question))
            print(f"> {question}")
            answer = ""
            async for piece in router.generate(chat, sampling):
                print(piece.text, end="", flush=True)
                answer += piece.text
                usage = piece.usage
            chat.append(ChatMessage("assistant", answer))
            if usage is not None:
                print(
                    f"\n[{usage.worker_id}: {usage.cached_tokens} of {usage.prompt_tokens} cached]"
                )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
