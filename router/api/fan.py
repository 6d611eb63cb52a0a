"""Fan: one prompt, several answers. Each is a request of its own, so nothing behind a door knows n.

Pure. The first answer is the request as it was read; the others share its prompt and block keys,
draw with the seeds behind its own and have ids of their own. Whoever adds the answers' usage up
counts their one prompt once.
"""

from collections.abc import Callable

from msgspec.structs import replace

from radixroute.request.limits import SEED_END
from radixroute.router.messages.actions import Usage
from radixroute.router.messages.inputs import RequestSpec


def fan_out(spec: RequestSpec, n: int, draw_id: Callable[[], str]) -> tuple[RequestSpec, ...]:
    """The request of each answer, by its index. `n`: as `validate_n` says."""
    return (spec, *(_answer(spec, index, draw_id()) for index in range(1, n)))


def usage_of(usage: Usage, index: int) -> Usage:
    """What this answer adds to the usage of all."""
    return replace(usage, prompt_tokens=0, cached_tokens=0) if index else usage


def _answer(spec: RequestSpec, index: int, request_id: str) -> RequestSpec:
    seed = (spec.sampling.seed + index) % SEED_END
    return replace(spec, request_id=request_id, sampling=replace(spec.sampling, seed=seed))
