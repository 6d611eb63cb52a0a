"""Inspect guard: where keys are asked for, what a router shows of itself is for who has one, and
for whoever is on its machine: the command line, and who started the cluster."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from radixroute.router.api.guard.keys import Keys

SERVICES: Final = ("/radixroute.v1.Inspect/", "/radixroute.v1.Insight/")
NEAR: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
NO_KEY: Final = "a key is needed: `authorization: Bearer KEY`"


class InspectGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Of one router."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(SERVICES):
            return handler

        async def guarded(request: Any, context: Any) -> Any:
            is_near = context.peer().startswith(NEAR)
            if not is_near and self._keys.name_of(authorization(context)) is None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, NO_KEY)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded, handler.request_deserializer, handler.response_serializer
        )


def authorization(context: Any) -> str:
    """The header of a call; empty: it has none."""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            return value
    return ""
