"""Clients that send giant prompts without end: `python -m bench.pause.giants <router's port>`.

A line of input starts them, the next one stops them; then the numbers of answers are printed.
"""

import asyncio
import sys

import grpc

from radixroute.protos import radixroute_pb2 as pb

TEXT_BYTES = 2_000_000
MESSAGES = 200_000
CLIENTS_A_KIND = 2


def giant_text() -> bytes:
    text = "the cat sat on the mat, hello world " * (TEXT_BYTES // 36)
    return pb.GenerateRequest(
        text=text, sampling=pb.SamplingParams(max_tokens=1)
    ).SerializeToString()


def giant_chat() -> bytes:
    messages = [pb.ChatMessage(role="user")] * MESSAGES
    return pb.GenerateRequest(
        messages=pb.ChatMessages(messages=messages), sampling=pb.SamplingParams(max_tokens=1)
    ).SerializeToString()


async def send(channel: grpc.aio.Channel, data: bytes, done: list[int]) -> None:
    generate = channel.unary_stream(
        "/radixroute.v1.Router/Generate",
        response_deserializer=pb.GenerateResponse.FromString,
    )
    while True:
        async for _ in generate(data):
            pass
        done[0] += 1


async def main(port: str) -> None:
    texts, chats = giant_text(), giant_chat()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        while await asyncio.to_thread(sys.stdin.readline):
            n_texts, n_chats = [0], [0]
            clients = [
                asyncio.create_task(send(channel, data, done))
                for data, done in ((texts, n_texts), (chats, n_chats))
                for _ in range(CLIENTS_A_KIND)
            ]
            stop = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
            await asyncio.wait([stop, *clients], return_when=asyncio.FIRST_COMPLETED)
            for client in clients:
                if client.done():
                    client.result()  # they send without end: it failed
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            print(n_texts[0], n_chats[0], flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
