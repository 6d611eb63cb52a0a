"""The short way of a token through the core: the same as the long one, whatever comes with it."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.requests import Request
from radixroute.router.messages.inputs import Delta, PromptFacts, StepReport
from tests.router.worlds import World, packed, request, token

REPORT = PromptFacts(131, 16, 0)
Frames = list[list[Delta]]


def more(rid: str, position: int, n: int = 1, attempt: int = 1, **changes) -> Delta:
    ids = packed(*(token(rid, at) for at in range(position, position + n)))
    return Delta(rid, attempt, position, ids, "x" * n, **changes)


def full(rid: str) -> Delta:
    return Delta(rid, 1, 0, packed(), "", FinishReason.FULL)


CASES: dict[str, Frames] = {
    "a report with a later token": [[more("r0", 0)], [more("r0", 1, prompt=REPORT)]],
    "a report never": [[more("r0", 0)], [more("r0", 1)]],
    "many tokens": [[more("r0", 0, 3, prompt=REPORT)], [more("r0", 3, 5)], [more("r0", 8)]],
    "several of one in one step": [[more("r0", 0)], [more("r0", 1), more("r0", 2)]],
    "others between": [
        [more("r0", 0), more("r1", 0)],
        [more("r0", 1), more("r1", 1), more("r0", 2), more("r1", 1)],
    ],
    "twice": [[more("r0", 0)], [more("r0", 1)], [more("r0", 1)]],
    "a hole": [[more("r0", 0)], [more("r0", 2)]],
    "nothing": [[more("r0", 0)], [more("r0", 1, 0)], [more("r0", 1)]],
    "another attempt": [[more("r0", 0)], [more("r0", 1, attempt=2)], [more("r0", 1)]],
    "nobody's": [[more("r0", 0)], [more("never", 1)], [more("", 1)]],
    "its end": [[more("r0", 0)], [more("r0", 1, 8)], [more("r0", 9, finish=FinishReason.LENGTH)]],
    "a tenant that is served waits": [
        [more("r0", 0), more("r1", 0)],
        [more("r0", 1, 4), more("r1", 1), full("r2"), more("r0", 5)],
    ],
}


def lived(frames: Frames) -> World:
    world = World("a", "b")
    for number in range(3):
        tenant = "t" if number != 1 else "u"
        made = request(f"r{number}", 0, n=10, tenant=tenant)
        world.submit(replace(made, policy="radix_at_once"))
    on = {rid: w for w in world.workers for rid in world.on(w)}
    for number, deltas in enumerate(frames):
        world.now_ns += 7_000_000
        for w in world.workers:
            mine = tuple(one for one in deltas if on.get(one.request_id, "a") == w)
            report = StepReport(5.0, 0, len(mine), mine)
            world.do(world.core.step(WorkerId(w), report, world.now_ns + number))
    return world


def lived_on() -> World:
    """Both go on in their worker's next life, and that reports nothing of its prompt, or late."""
    world, rids = World("a"), ("r0", "r1")
    for rid in rids:
        world.submit(request(rid, n=10))
        deliver(world, more(rid, 0, prompt=REPORT))
    world.kill("a")
    world.revive("a")
    world.pass_time(100_000_000)
    for rid in rids:
        deliver(world, more(rid, 1, attempt=2))
        deliver(world, more(rid, 2, attempt=2, prompt=REPORT if rid == "r1" else None))
    return world


def deliver(world: World, delta: Delta) -> None:
    world.now_ns += 7_000_000
    world.do(world.core.step(WorkerId("a"), StepReport(5.0, 0, 1, (delta,)), world.now_ns))


def state_of(world: World) -> list[object]:
    core = world.core._state
    tenants = core.waiting.tenants
    return [
        world.log,
        world.core.snapshot(),
        {name: one.served for name, one in (tenants._idle | tenants.waiting).items()},
        [(one.request_id, bytes(one.emitted), one.text_len, one.begun) for one in core.requests],
        [core.loads.load(WorkerId(w)) for w in world.workers],
    ]


@pytest.mark.parametrize("frames", CASES.values(), ids=CASES)
def test_the_short_way_is_the_long_way(frames, monkeypatch):
    short = state_of(lived(frames))
    noted(monkeypatch)
    assert state_of(lived(frames)) == short


def test_the_short_way_begins_anew_where_an_answer_goes_on(monkeypatch):
    short = lived_on()
    assert [(one.begun, one.attempt) for one in short.core._state.requests] == [(2, 2)] * 2
    would = noted(monkeypatch)
    assert state_of(lived_on()) == state_of(short)
    assert would == [False, False, False, True, False, False]


def noted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Nothing goes the short way any more; what would have."""
    continues: Callable[[Request, Delta], bool] = Request.continues
    would = list[bool]()

    def never(one: Request, delta: Delta) -> bool:
        would.append(continues(one, delta))
        return False

    monkeypatch.setattr(Request, "continues", never)
    return would


def test_what_goes_on_goes_the_short_way(monkeypatch):
    would = noted(monkeypatch)
    lived(CASES["many tokens"])
    assert would == [False, True, True]
