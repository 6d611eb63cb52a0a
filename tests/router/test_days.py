"""Chat templates that print the date: that of the day a prompt is read, at every door."""

import datetime
import json
from contextlib import asynccontextmanager
from functools import partial

import pytest

from radixroute.request.chat import ChatMessage
from radixroute.request.limits import Limits
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.giants.readers import Giant, GiantReaders
from tests.request.samples import byte_level
from tests.router.clusters import all_live, cluster, until
from tests.router.test_memo import Noting, grpc_asks, http_asks, prompts_of

DATED = (
    "{{ strftime_now('%d %b %Y %H:%M') }}."
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
)
LAST = datetime.date(2031, 12, 31)
NEXT = datetime.date(2032, 1, 1)
TURNS = [{"role": "user", "content": "hello. " * 40}]
CHAT = [ChatMessage("user", "hello. " * 40)]
WIDE = Limits(max_model_len=10_000_000, vocab_size=400)

dated = partial(byte_level, chat_template=DATED)


@asynccontextmanager
async def dated_fleet():
    """A router and its worker, whose model's template prints the date."""
    worker = Noting("a", make_tokenizer=dated)
    async with cluster(worker) as (service, _router, _inspect):
        await until(lambda: all_live(service))
        yield worker, service


@pytest.mark.parametrize("asks", [http_asks, grpc_asks])
async def test_a_chat_has_the_date_of_the_day_it_is_asked(asks):
    prompts: dict[datetime.date, list[int]] = {}
    async with dated_fleet() as (worker, service):
        for day in (LAST, LAST, NEXT):
            prompts_of(service)._today = partial(datetime.date.fromordinal, day.toordinal())
            await asks(service, TURNS)
            assert worker.prompt == dated().encode_chat(CHAT, today=day).tolist()
            assert prompts.setdefault(day, worker.prompt) == worker.prompt
    assert prompts[LAST] != prompts[NEXT]


async def test_without_being_told_it_is_the_day_here():
    async with dated_fleet() as (worker, service):
        before = datetime.date.today()
        await http_asks(service, TURNS)
        days = {before, datetime.date.today()}
    said = [dated().encode_chat(CHAT, today=day).tolist() for day in days]
    assert worker.prompt in said


def test_a_giant_chat_has_the_date_that_its_router_says():
    readers = GiantReaders()
    giant = Giant(Form.JSON_CHAT, json.dumps(TURNS).encode())
    try:
        for day in (LAST, NEXT):
            got = readers.read(giant, dated(), WIDE, lambda: True, today=day)
            assert got.tolist() == dated().encode_chat(CHAT, today=day).tolist()
    finally:
        readers.close()
