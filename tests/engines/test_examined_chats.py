"""Examination of how an engine reads chats: whether it does, and with which template."""

import datetime
import json

import pytest

from radixroute.request.chat import ChatMessage
from radixroute.request.tokenizer import Tokenizer
from tests.engines.examining import codes_of, examined
from tests.engines.fake_http import Reply
from tests.engines.fake_vllm import FakeVllm
from tests.worker.fakes import make_tokenizer


class _Chatty(FakeVllm):
    """It makes tokens of chats, too."""

    def route(self, path, headers, asked, body):
        if path != "/tokenize" or "prompt" in asked:
            return super().route(path, headers, asked, body)
        return Reply(200, {"count": 3, "tokens": [1, 2, 3], "token_strs": None})


@pytest.mark.parametrize(("engine", "there"), [(FakeVllm(), False), (_Chatty(), True)])
async def test_who_makes_tokens_of_chats_is_seen(engine, there):
    seen = await examined(engine)
    assert (seen.has_template_here, seen.has_template_there) == (False, there)


def _dated_tokenizer() -> Tokenizer:
    template = "{{ strftime_now('%d') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    config = json.dumps({"eos_token": "<eos>", "chat_template": template}).encode()
    return Tokenizer({**make_tokenizer().files(), "tokenizer_config.json": config})


class _Dated(FakeVllm):
    """Its template prints the date of some clock."""

    days_ahead = 0

    def route(self, path, headers, asked, body):
        if path != "/tokenize" or "prompt" in asked:
            return super().route(path, headers, asked, body)
        chat = [ChatMessage(**one) for one in asked["messages"]]
        day = datetime.date.today() + datetime.timedelta(self.days_ahead)
        tokens = _dated_tokenizer().encode_chat(chat, today=day).tolist()
        return Reply(200, {"count": len(tokens), "tokens": tokens, "token_strs": None})


@pytest.mark.parametrize(
    ("days_ahead", "codes"), [(0, set()), (1, set()), (-1, set()), (3, {"template"})]
)
async def test_a_template_agrees_that_prints_the_date_of_an_engine_elsewhere(days_ahead, codes):
    """On either side of midnight, by its clock or its time zone; and no other day."""
    engine = _Dated()
    engine.days_ahead = days_ahead
    assert codes_of(await examined(engine, tokenizer=_dated_tokenizer())) == codes
