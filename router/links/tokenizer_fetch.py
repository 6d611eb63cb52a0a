"""Fetches the tokenizer from a worker, so that router and workers agree on it by construction.

Owns nothing. Bounded: a worker cannot make the router hold more than `MAX_BYTES`.
"""

import asyncio

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.errors import TokenizerError
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.errors import JoinRefused

# The largest public tokenizer.json has 33 MB; its neighbours are small.
MAX_BYTES = 128 * 1024 * 1024


async def fetch_tokenizer(stub: rpc.EngineStub, fingerprint: str, *, timeout_s: float) -> Tokenizer:
    """Raises JoinRefused when the files are no tokenizer or not the announced one."""
    files: dict[str, bytearray] = {}
    name, size = "", 0
    async for chunk in stub.GetTokenizer(pb.GetTokenizerRequest(), timeout=timeout_s):
        name = chunk.file_name or name
        size += len(chunk.data)
        if size > MAX_BYTES:
            raise JoinRefused(f"tokenizer: its files are larger than {MAX_BYTES} bytes")
        files.setdefault(name, bytearray()).extend(chunk.data)
    try:
        # Parsing megabytes of JSON takes a second.
        contents = {name: bytes(data) for name, data in files.items()}
        tokenizer = await asyncio.to_thread(Tokenizer.from_files, contents)
    except TokenizerError as error:
        raise JoinRefused(f"tokenizer: {error}") from error
    if tokenizer.fingerprint != fingerprint:
        raise JoinRefused("tokenizer: its files are not those its fingerprint announces")
    return tokenizer
