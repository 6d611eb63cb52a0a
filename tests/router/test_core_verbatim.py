"""Verbatim requests in the core: who gets them, and that each ends once, before or after a byte."""

import numpy as np
import pytest
from msgspec.structs import replace

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import PATHS, STREAM, More, Passage, Verbatim
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Allow, Failure
from radixroute.router.messages.inputs import Delta, PromptFacts, RequestSpec
from tests.router.worlds import S, World, packed, request

N_TOKENS = 40


def verbatim(request_id: str, *, is_read: bool = False, **more) -> RequestSpec:
    made = replace(request(request_id, **more), verbatim=Verbatim(PATHS[0], b"{}", N_TOKENS))
    if is_read:
        return made
    return replace(made, prompt=np.empty(0, np.uint32), keys=np.empty(0, np.uint64))


def put_out(
    world: World,
    w: str,
    request_id: str,
    *,
    finish: FinishReason | None = None,
    is_first: bool = False,
    cached: int | None = None,
    prompt_tokens: int = N_TOKENS,
) -> None:
    """Two tokens go by."""
    ((_, attempt),) = [key for key in world.workers[w].running if key[0] == request_id]
    if not is_first and finish is None:
        world.pass_on(w, More(request_id, attempt, b"data: x\n\n", 2))
        return
    if finish is not None:
        del world.workers[w].running[request_id, attempt]
    status, kind = (200, STREAM) if is_first else (0, "")
    passage = Passage(b"data: x\n\n", 2, status, kind)
    told = None if cached is None else PromptFacts(prompt_tokens, cached, 0)
    delta = Delta(request_id, attempt, 0, packed(), "", finish, told, None, passage)
    world.deliver(w, [delta])


def give_up(world: World, w: str, request_id: str, finish: FinishReason) -> None:
    ((_, attempt),) = [key for key in world.workers[w].running if key[0] == request_id]
    del world.workers[w].running[request_id, attempt]
    world.deliver(w, [Delta(request_id, attempt, 0, packed(), "", finish)])


@pytest.mark.parametrize("policy", ["radix", "radix_at_once", "round_robin"])
def test_only_workers_that_take_it_get_it(policy):
    world = World("a", "b", "c", verbatim="b")
    for number in range(6):
        world.submit(verbatim(f"v{number}", policy=policy))
        world.submit(request(f"p{number}", policy=policy))
    asked = [name for w in "ac" for name in world.on(w) if name.startswith("v")]
    assert asked == []
    assert any(name.startswith("v") for name in world.on("b"))
    assert any(name.startswith("p") for w in "ac" for name in world.on(w))


def test_with_an_adapter_both_must_be_there():
    world = World("a", "b", "c", verbatim="ab", adapters={"b": ["X"], "c": ["X"]})
    client = world.submit(replace(verbatim("v"), scope=request("x", lora="X").scope))
    assert world.on("b") == ["v"]
    (decision,) = world.core.logged("v").decisions
    assert [(one.worker_id, one.because) for one in decision.view.excluded] == [
        ("a", "it does not serve the adapter 'X'"),
        ("c", "it takes no requests as clients wrote them"),
    ]
    assert client.end is None


def test_without_any_that_takes_it_a_request_ends_soon():
    world = World("a", "b", verbatim="b")
    world.kill("b")
    client = world.submit(verbatim("v"))
    plain = world.submit(request("p", n=1))
    assert world.on("a") == ["p"], "others are not held up"
    world.step("a")
    assert plain.end is FinishReason.LENGTH
    world.pass_time(10 * S)
    assert client.end is None, "its worker is listed, and may be back"
    world.revive("b")
    world.pass_time(1 * S)
    assert world.on("b") == ["v"]
    world.do(world.core.set_members([], world.now_ns))
    world.kill("b")
    world.pass_time(60 * S)
    assert client.end is Failure.NO_WORKERS


@pytest.mark.parametrize(
    "how", ["death", FinishReason.ERROR, FinishReason.FULL, FinishReason.ABORT]
)
def test_before_its_first_byte_it_goes_elsewhere(how):
    world = World("a", "b", verbatim="ab")
    client = world.submit(verbatim("v"))
    first, other = ("a", "b") if world.on("a") else ("b", "a")
    if how == "death":
        world.kill(first)
    else:
        give_up(world, first, "v", how)
    assert world.on(other) == ["v"]
    put_out(world, other, "v", is_first=True)
    put_out(world, other, "v", finish=FinishReason.STOP)
    assert client.end is FinishReason.STOP
    assert len(world.core._state.loads) == len(world.core._state.admission) == 0
    (ended,) = world.core.ended(0, 1 << 20).entries
    assert (ended.prompt_tokens, ended.output_tokens) == (N_TOKENS, 4)


def test_more_of_it_goes_on_as_it_comes_and_counts():
    world = World("a", verbatim="a")
    world.submit(verbatim("v"))
    put_out(world, "a", "v", is_first=True)
    put_out(world, "a", "v")
    put_out(world, "a", "v")
    assert world.passed == {"v": [b"data: x\n\n"] * 2}
    put_out(world, "a", "v", finish=FinishReason.STOP)
    (ended,) = world.core.ended(0, 1 << 20).entries
    assert ended.output_tokens == 8
    assert world.core._state.counters[Count.DELTAS_FENCED] == 0


@pytest.mark.parametrize(
    ("w", "name", "attempt"), [("b", "v", 1), ("a", "v", 2), ("a", "unknown", 1), ("a", "new", 1)]
)
def test_more_of_what_is_not_its_or_has_not_begun_goes_nowhere(w, name, attempt):
    world = World("a", "b", verbatim="ab")
    world.submit(verbatim("v"))
    other = "b" if world.on("a") else "a"
    here = {"a": "b", "b": "a"}[other]
    put_out(world, here, "v", is_first=True)
    world.submit(verbatim("new"))
    world.pass_on({"a": here, "b": other}[w], More(name, attempt, b"x", 1))
    assert world.passed == {}
    assert world.core._state.counters[Count.DELTAS_FENCED] == 1


@pytest.mark.parametrize(
    "how", ["death", FinishReason.ERROR, FinishReason.ABORT, FinishReason.FULL]
)
def test_after_its_first_byte_it_is_not_tried_again(how):
    world = World("a", "b", verbatim="ab")
    client = world.submit(verbatim("v"))
    first = "a" if world.on("a") else "b"
    put_out(world, first, "v", is_first=True)
    if how == "death":
        world.kill(first)
    else:
        give_up(world, first, "v", how)
    assert client.end is Failure.NOT_RESUMABLE
    assert world.on("a") == world.on("b") == []
    assert len(world.core._state.loads) == len(world.core._state.admission) == 0
    counters = world.core._state.counters
    assert counters[Count.REQUESTS_RESUMED] == counters[Count.REQUESTS_RETRIED] == 0


def test_what_its_client_took_is_told_to_whoever_has_it_now():
    world = World("a", "b", verbatim="ab")
    world.submit(verbatim("v"))
    first, other = ("a", "b") if world.on("a") else ("b", "a")
    assert world.core.allow("v", 10) == [Allow(WorkerId(first), "v", 1, 10)]
    world.kill(first)
    assert world.core.allow("v", 11) == [Allow(WorkerId(other), "v", 2, 11)]
    world.kill(other)
    assert world.core.allow("v", 12) == []
    assert world.core.allow("unknown", 13) == []


def test_the_least_busy_one_is_asked_for_tokens():
    world = World("a", "b", "c", verbatim="ab")
    need = verbatim("x").need
    assert world.core.renderer(need) == "a"
    world.submit(verbatim("v"))
    assert world.core.renderer(need) == ("b" if world.on("a") else "a")
    world.kill("a")
    assert world.core.renderer(need) == "b"
    world.kill("b")
    assert world.core.renderer(need) is None


@pytest.mark.parametrize(
    ("is_read", "told", "is_audited"),
    [(True, 8 * 16 + 3, True), (True, 99, False), (False, N_TOKENS, False)],
)
def test_only_prompts_that_are_known_are_audited(is_read, told, is_audited):
    world = World("a", verbatim="a")
    world.submit(verbatim("v", is_read=is_read))
    put_out(world, "a", "v", is_first=True)
    put_out(world, "a", "v", finish=FinishReason.STOP, cached=0, prompt_tokens=told)
    world.pass_time(1 * S)
    assert world.core.snapshot().hits[WorkerId("a")].prompt_tokens == told
    # Here no events are followed: what reaches the audit it cannot judge.
    assert world.core.audit.of(WorkerId("a")).unjudged == int(is_audited)
    assert world.core._state.counters[Count.REPORTS_UNAUDITED] == 1
