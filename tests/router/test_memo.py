"""The memo of tokenised prompts: bounded, forgetful, a scope's own, and the same at every door."""

import contextlib
import json
import random
import socket
import threading
import time
import tracemalloc

import grpc
import numpy as np
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import Limits
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.router.api.giants import messages as wire
from radixroute.router.api.giants.child import serve
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.giants.readers import GIANT_BYTES, Giant, GiantReaders
from radixroute.router.api.memo.memo import PIECE_BYTES, Memo, MemoCounts, Recall
from radixroute.router.api.memo.prompt_memo import PromptMemo
from radixroute.router.api.prompts import PromptReader
from radixroute.router.counters import Count
from radixroute.router.service import RouterService
from tests.request.samples import byte_level, sentence_piece
from tests.router.clusters import collect, until
from tests.router.fakes import WideWorker
from tests.router.http.wire import CHATS, ask, chatting

ROOT = b"r" * 32
WIDE = Limits(max_model_len=10_000_000, vocab_size=400)


def told(memo: Memo, root: bytes, *pieces: str, now_s: float = 0.0) -> list[bool]:
    """One prompt's pieces through the memo; which of them it knew. Ids are the text's length."""
    recall = memo.recall(root)
    known = []
    for piece in pieces:
        name, packed = recall.next(piece)
        known.append(packed is not None)
        if packed is None:
            recall.learn(name, pack_tokens([len(piece)] * len(piece)))
        else:
            assert packed == pack_tokens([len(piece)] * len(piece))
    memo.keep(recall, now_s)
    memo.check()
    return known


def test_what_was_read_before_is_known():
    memo = Memo(1 << 20, 60.0)
    assert told(memo, ROOT, "one", "two") == [False, False]
    assert told(memo, ROOT, "one", "two", "three") == [True, True, False]
    assert memo.counts == MemoCounts(pieces_reused=2, tokens_reused=6, pieces_added=3)


def test_a_piece_is_known_only_behind_all_that_was_before_it():
    """Who does not have the whole beginning of another's prompt finds out nothing about its end."""
    memo = Memo(1 << 20, 60.0)
    told(memo, ROOT, "system", "secret")
    assert told(memo, ROOT, "secret") == [False]
    assert told(memo, ROOT, "other", "secret") == [False, False]
    assert told(memo, b"s" * 32, "system", "secret") == [False, False]


def test_a_scope_knows_only_its_own():
    memo, tokenizer = PromptMemo(1 << 20, 60.0, b"k" * 32), byte_level()
    scopes = (
        UNSCOPED,
        RequestScope(salt="x"),
        RequestScope(tenant="x"),
        RequestScope(lora="x"),
        RequestScope(salt="x", tenant="x"),
    )
    roots = {memo.root(tokenizer, scope) for scope in scopes}
    roots |= {memo.root(sentence_piece(), UNSCOPED)}
    roots |= {PromptMemo(1 << 20, 60.0, b"l" * 32).root(tokenizer, UNSCOPED)}
    assert len(roots) == len(scopes) + 2
    assert memo.root(tokenizer, RequestScope(salt="x")) == memo.root(
        tokenizer, RequestScope(salt="x")
    )


def test_memory_is_bounded_and_what_was_used_last_stays():
    memo = Memo(4 * (PIECE_BYTES + 4), 60.0)
    told(memo, ROOT, "a")
    for piece in "bcd":
        told(memo, ROOT, piece)
    assert told(memo, ROOT, "a") == [True]
    told(memo, ROOT, "e")
    assert len(memo) == 4
    assert told(memo, ROOT, "b") == [False]  # it made room
    assert told(memo, ROOT, "a") == [True]
    assert memo.counts.pieces_evicted == 2
    told(memo, ROOT, "x" * 100_000)  # larger than all there is
    assert (len(memo), memo.n_bytes) == (0, 0)


def test_what_nobody_asks_for_is_forgotten_in_turns():
    memo = Memo(1 << 20, 60.0)
    for n in range(10):
        told(memo, ROOT, f"piece {n}", now_s=float(n))
    told(memo, ROOT, "piece 0", now_s=50.0)
    memo.forget_old(60.5, at_most=100)
    assert memo.counts.pieces_lapsed == 0  # the first one was used again, the second is of 1 s
    memo.forget_old(65.5, at_most=2)
    assert memo.counts.pieces_lapsed == 2
    memo.forget_old(65.5, at_most=100)
    assert memo.counts.pieces_lapsed == 5
    memo.forget_old(1000.0, at_most=100)
    assert (len(memo), memo.n_bytes) == (0, 0)
    memo.check()


def test_two_prompts_at_once_may_learn_and_lose_the_same():
    memo = Memo(1 << 20, 60.0)
    first, second = memo.recall(ROOT), memo.recall(ROOT)
    for recall in (first, second):
        recall.learn(recall.next("one")[0], b"1234")
    memo.keep(first, 1.0)
    memo.keep(second, 2.0)
    memo.check()
    third = memo.recall(ROOT)
    assert third.next("one")[1] == b"1234"
    memo.forget_old(1000.0)
    memo.keep(third, 1000.0)
    memo.check()
    assert len(memo) == 0


def test_it_takes_the_memory_that_it_says():
    rng = random.Random(5)
    tracemalloc.start()
    try:
        memo = Memo(8 << 20, 60.0)
        before = tracemalloc.get_traced_memory()[0]
        while not memo.counts.pieces_evicted:
            recall = memo.recall(rng.randbytes(32))
            for n in range(50):
                recall.learn(recall.next(str(n))[0], rng.randbytes(4 * rng.randrange(1, 200)))
            memo.keep(recall, 0.0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * memo.n_bytes < taken < 1.02 * memo.n_bytes


def test_no_text_is_kept():
    memo = Memo(1 << 20, 60.0)
    told(memo, ROOT, "canary", "yellow bird")
    kept = b"".join(name + packed for name, (packed, _) in memo._pieces.items())
    assert b"canary" not in kept
    assert b"bird" not in kept


def test_others_may_look_while_its_owner_changes_it():
    memo, stop, wrong = Memo(64 * (PIECE_BYTES + 4), 60.0), threading.Event(), []
    numbers = range(50)

    def walk() -> Recall:
        recall = memo.recall(ROOT)
        for n in numbers:
            name, packed = recall.next(str(n))
            if packed is None:
                recall.learn(name, pack_tokens([n]))
            elif packed != pack_tokens([n]):
                wrong.append(n)
        return recall

    def look() -> None:
        while not stop.is_set():
            walk()

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for round_ in range(300):
        memo.keep(walk(), float(round_))
        memo.forget_old(1000.0 + round_ if round_ % 3 == 0 else 0.0)
    stop.set()
    for thread in threads:
        thread.join()
    memo.check()
    assert wrong == []


# -- through the doors

TURNS = [
    {"role": ("user", "assistant")[at % 2], "content": f"hello {at}: " + "the cat sat. " * 30}
    for at in range(7)
]


class Noting(WideWorker):
    """Keeps the last prompt, whole."""

    prompt: list[int]

    def _submit(self, submit: pb.SubmitRequest) -> None:
        self.prompt = unpack_tokens(submit.prompt_token_ids).tolist()
        super()._submit(submit)


def prompts_of(service: RouterService) -> PromptReader:
    assert service._prompts is not None
    return service._prompts


def counted(service: RouterService, name: Count) -> int:
    prompts_of(service).tick()
    return service.runtime.core._state.counters[name]


def proto(messages, **more) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        messages=pb.ChatMessages(messages=[pb.ChatMessage(**one) for one in messages]),
        sampling=pb.SamplingParams(max_tokens=1),
        **more,
    )


async def grpc_asks(service, messages, **more) -> None:
    async with grpc.aio.insecure_channel(str(service.address)) as channel:
        await collect(rpc.RouterStub(channel).Generate(proto(messages, **more)))


async def http_asks(service, messages, **more) -> None:
    body = {"messages": messages, "max_tokens": 1, **more}
    assert (await ask(service, CHATS, body)).status == 200


@pytest.mark.parametrize("first", [http_asks, grpc_asks])
@pytest.mark.parametrize("second", [http_asks, grpc_asks])
async def test_a_chat_goes_on_at_any_door(first, second):
    worker = Noting("a")
    async with chatting(worker) as service:
        await first(service, TURNS[:5])
        assert counted(service, Count.PIECES_REUSED) == 0
        added = counted(service, Count.PIECES_ADDED)
        assert added >= 5
        await second(service, TURNS)
        assert counted(service, Count.PIECES_REUSED) == added
        assert prompts_of(service).memo_bytes > 0
        # What was sent is what reading it whole gives.
        chat = [ChatMessage(one["role"], one["content"]) for one in TURNS]
        whole = worker.tokenizer.encode_chat(chat)
        assert worker.prompt == whole.tolist()
        reused = counted(service, Count.PIECE_TOKENS_REUSED)
        assert 0.5 * whole.size < reused < whole.size


async def test_another_scope_finds_nothing():
    async with chatting(WideWorker("a"), http_client_fields="cache_salt") as service:
        await http_asks(service, TURNS, cache_salt="mine")
        await http_asks(service, TURNS)
        await http_asks(service, TURNS, cache_salt="yours")
        assert counted(service, Count.PIECES_REUSED) == 0
        await http_asks(service, TURNS, cache_salt="mine")
        assert counted(service, Count.PIECES_REUSED) > 0


async def test_tenants_that_share_no_cache_share_no_memo():
    async with chatting(WideWorker("a"), tenants_share_cache=False) as service:
        await grpc_asks(service, TURNS, tenant="mine")
        await grpc_asks(service, TURNS, tenant="yours")
        assert counted(service, Count.PIECES_REUSED) == 0
        await grpc_asks(service, TURNS, tenant="mine")
        assert counted(service, Count.PIECES_REUSED) > 0


async def test_without_room_nothing_is_remembered():
    async with chatting(WideWorker("a"), memo_bytes=0) as service:
        await http_asks(service, TURNS)
        await http_asks(service, TURNS)
        assert counted(service, Count.PIECES_REUSED) == counted(service, Count.PIECES_ADDED) == 0
        assert prompts_of(service).memo_bytes == 0


async def test_what_is_idle_is_forgotten_while_nothing_is_asked():
    async with chatting(WideWorker("a"), memo_idle_s=0.2) as service:
        await http_asks(service, TURNS)
        assert prompts_of(service).memo_bytes > 0
        await until(lambda: prompts_of(service).memo_bytes == 0)
        assert counted(service, Count.PIECES_LAPSED) == counted(service, Count.PIECES_ADDED)


# -- giant prompts


def giant(n_turns: int) -> Giant:
    text = "the cat sat on the mat. " * (GIANT_BYTES // 24 // 8)
    turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at in range(n_turns)]
    return Giant(Form.JSON_CHAT, json.dumps(turns).encode())


def test_each_reader_of_giants_has_a_memo_of_its_own():
    readers, tokenizer = GiantReaders(1 << 20, 60.0), byte_level()

    def read(n_turns: int, root: bytes):
        return readers.read(giant(n_turns), tokenizer, WIDE, lambda: True, root)

    try:
        first = read(9, ROOT)
        assert readers.memo_counts.pieces_reused == 0
        assert readers.memo_bytes > 4 * 0.9 * first.size
        whole = read(11, ROOT)
        assert readers.memo_counts.pieces_reused >= 9
        assert np.array_equal(whole, read(11, b""))
        before = readers.memo_counts
        read(11, b"s" * 32)
        assert readers.memo_counts.pieces_reused == before.pieces_reused
        assert readers.memo_bytes <= 1 << 20
    finally:
        readers.close()


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_reader_forgets_whether_it_is_asked_or_not(is_asked, monkeypatch):
    look_s = 60.0 if is_asked else 0.01
    monkeypatch.setattr("radixroute.router.api.giants.child.LOOK_S", look_s)
    ours, theirs = socket.socketpair()
    memo = Memo(1 << 20, 0.2)

    def run() -> None:
        with contextlib.suppress(EOFError, OSError):
            serve(theirs, memo)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wire.send(ours, wire.Load(byte_level().files()))
        long, short = giant(9), Giant(Form.TEXT, b"hello")
        wire.send(ours, wire.read_job(1, long.form, long.data, WIDE, ROOT))
        answer = wire.receive(ours)
        assert isinstance(answer, wire.Tokens)
        assert answer.memo[2] >= 9  # added
        give_up = time.monotonic() + 30
        while len(memo) and time.monotonic() < give_up:
            if is_asked:
                wire.send(ours, wire.read_job(2, short.form, short.data, WIDE))
                wire.receive(ours)
            time.sleep(0.001)
        assert memo.counts.pieces_lapsed == memo.counts.pieces_added == answer.memo[2]
    finally:
        ours.close()
        thread.join()
        theirs.close()
