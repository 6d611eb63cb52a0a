"""The door against its own description: whatever that lets a client send, and much that it does
not, gets a declared answer of the declared form, and the router goes on."""

import asyncio
import logging
from typing import Any

import grpc
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.chat import ROLES
from radixroute.router.api.http.openapi import DESCRIPTION
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from tests.request.samples import TEMPLATE, byte_level
from tests.router.clusters import until
from tests.router.fakes import FakeWorker
from tests.router.http.wire import CHATS, COMPLETIONS, IDS, ask, chatting, nobody_is_in, url

CHECKS = [
    not_a_server_error,  # any: of the errors that are declared none is due here
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BODIES = (COMPLETIONS, CHATS)
# A role that is another's is up to each model's template.
ANY_ROLE = TEMPLATE.replace("['system', 'user', 'assistant']", repr(list(ROLES)))
PAGES = ("/v1/models", "/v1/models/{model}", "/healthz", "/readyz", "/metrics", "/openapi.json")
EXAMPLES, DEEP_EXAMPLES = 40, 1500


class ShortWorker(FakeWorker):
    """Its model has room for few tokens: who asks for all that fits is answered at once."""

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        info: pb.GetInfoResponse = await super().GetInfo(request, context)
        info.max_model_len = 128
        return info

    async def start(self) -> MemberSpec:
        self.make_tokenizer = lambda: byte_level(chat_template=ANY_ROLE)
        return await super().start()


def drawn(schema: Any, path: str) -> Any:
    """What it lets a client send to this path, with fields that it does not name and without, and
    what it does not."""
    if path not in BODIES:
        return schema[path]["GET"].as_strategy()
    operation = schema[path]["POST"]
    given = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return st.one_of(given, given.map(usual), given.map(usual), wrong)


def usual(case: Any) -> Any:
    """Without what is refused in any request, so that some get further: fields that are not named,
    and whole numbers as 3.0, which to a schema are integers."""
    properties = DESCRIPTION["paths"][case.operation.path]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]["properties"]
    body = {name: _whole(value) for name, value in case.body.items() if name in properties}
    if "stream_options" in body:
        body["stream"] = True
    case.body = body
    return case


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(one) for one in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def send(address: str, path: str, examples: int, *, is_deep: bool) -> set[int]:
    """So many requests to a path, each of them checked; the statuses that were seen."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    seen: set[int] = set()

    with requests.Session() as session:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=not is_deep,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=drawn(schema, path))
        def each(case: Any) -> None:
            response = case.call(base_url=address, session=session, timeout=30)
            seen.add(response.status_code)
            case.validate_response(response, checks=CHECKS)

        each()
    return seen


async def door_holds(path: str, examples: int, caplog: Any, *, is_deep: bool = False) -> set[int]:
    worker = ShortWorker("a", step_s=0.0002)
    with caplog.at_level(logging.ERROR):
        async with chatting(worker) as service:
            seen = await asyncio.to_thread(send, url(service), path, examples, is_deep=is_deep)
            await until(lambda: nobody_is_in(service))
            service.runtime.core.check()
            assert await serves(service)
    assert [one.getMessage() for one in caplog.records] == []
    return seen


async def serves(service: RouterService) -> bool:
    return (await ask(service, COMPLETIONS, {"prompt": IDS, "max_tokens": 2})).status == 200


@pytest.mark.parametrize("path", BODIES)
async def test_whatever_is_asked_gets_a_declared_answer(path, caplog):
    seen = await door_holds(path, EXAMPLES, caplog)
    assert {200, 400} <= seen  # of what may be sent and of what may not


@pytest.mark.parametrize("path", PAGES)
async def test_pages_are_as_declared(path, caplog):
    await door_holds(path, 5, caplog)


@pytest.mark.deep
@pytest.mark.parametrize("path", BODIES)
async def test_whatever_is_asked_gets_a_declared_answer_for_long(path, caplog):
    seen = await door_holds(path, DEEP_EXAMPLES, caplog, is_deep=True)
    assert {200, 400} <= seen
