"""Engines as they are given to `serve`, and what is said of them: both pure."""

import pytest

from radixroute.deploy.errors import ConfigError
from radixroute.deploy.serving.engines import EngineAt, engines_of
from radixroute.deploy.serving.story import Look, Member, Story
from radixroute.deploy.state.records import ActorState, ActorStatus
from radixroute.radix.ids import WorkerId
from radixroute.worker.companion_process.frames import EngineFacts

FACTS = EngineFacts("vllm", "m", 16, 1023, 4096, ("x",))
ONE = engines_of(["http://h:1"])
NAME = WorkerId("engine-0")
ROUTER = ActorStatus("router", ActorState.LIVE, 1, "127.0.0.1:5", 9)


def worker(state, incarnation=2, deaths=0, reason=""):
    address = "127.0.0.1:6" if state is ActorState.LIVE else ""
    return ActorStatus(NAME, state, incarnation, address, None, deaths, reason)


def lines(story, status, member="", **more):
    members = {NAME: Member(member, "why")} if member else {}
    look = Look(ROUTER, (status,), members, {NAME: FACTS}, **more)
    return list(story.lines(look, 1.25))


def test_engines_are_named_by_place_or_as_told_and_keep_no_v1():
    assert engines_of(["http://h:8000/v1/", " blue=https://h ", "http://[::1]:9/base"]) == (
        EngineAt(WorkerId("engine-0"), "http://h:8000"),
        EngineAt(WorkerId("blue"), "https://h"),
        EngineAt(WorkerId("engine-2"), "http://[::1]:9/base"),
    )
    assert [(e.host, e.port) for e in engines_of(["https://h", "http://[::1]:9"])] == [
        ("h", 443),
        ("::1", 9),
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no engine: give --engine URL"),
        (["10.0.0.1:8000"], "no URL of an engine"),
        (["ftp://h:1"], "no URL of an engine"),
        (["http://:80"], "no URL of an engine"),
        (["http://h:x"], "no URL of an engine"),
        (["http://h:99999"], "no URL of an engine"),
        (["http://user:secret@h:1"], "--engine-key-file"),
        (["http://h:1?key=secret"], "--engine-key-file"),
        (["a b=http://h:1"], "is no name"),
        (["=http://h:1"], "is no name"),
        (["http://h:1", "http://h:1/v1"], "two engines have the URL http://h:1"),
        (["a=http://h:1", "a=http://h:2"], "two engines have the name a"),
        (["engine-1=http://h:1", "http://h:2"], "two engines have the name engine-1"),
    ],
)
def test_what_is_no_engine_is_refused_with_what_to_write(given, says):
    with pytest.raises(ConfigError, match=says) as refused:
        engines_of(given)
    assert "secret" not in str(refused.value)


def test_each_line_is_said_once_and_again_when_it_happens_again():
    story = Story(ONE)
    assert lines(story, worker(ActorState.STARTING)) == ["router listens at 127.0.0.1:5"]
    waiting = {"unheard": {NAME: "Connection refused"}}
    told = ["engine-0: waiting for http://h:1: Connection refused"]
    assert lines(story, worker(ActorState.STARTING), **waiting) == told
    assert lines(story, worker(ActorState.STARTING), **waiting) == []
    assert lines(story, worker(ActorState.LIVE), "joining") == []
    assert lines(story, worker(ActorState.LIVE), "live") == [
        "engine-0 joined: m (vllm) at http://h:1, block size 16, 1,023 blocks, up to 4,096 tokens,"
        " adapters x (1.2 s)",
        "serving with 1 engine (1.2 s)",
    ]
    assert lines(story, worker(ActorState.LIVE), "live") == []
    assert story.is_whole
    # Silent for a moment is no new join.
    assert lines(story, worker(ActorState.LIVE), "suspect") == []
    assert lines(story, worker(ActorState.LIVE), "live") == []
    down = worker(ActorState.WAITING, deaths=1, reason="gone")
    assert lines(story, down) == ["engine-0 is down: gone; it is tried again"]
    assert lines(story, down) == []
    assert lines(story, worker(ActorState.LIVE, 3, 1), "live")[0].startswith("engine-0 joined")
    again = worker(ActorState.WAITING, 3, deaths=2, reason="gone")
    assert lines(story, again) == ["engine-0 is down: gone; it is tried again"]


def test_where_else_the_router_listens_is_said_with_it():
    story = Story(ONE)
    pages = ("OpenAI API at http://h:8000/v1",)
    told = ["router listens at 127.0.0.1:5", *pages]
    assert lines(story, worker(ActorState.STARTING), pages=pages) == told
    assert lines(story, worker(ActorState.STARTING), pages=pages) == []


def test_a_refusal_is_said_once_however_often_it_comes():
    story = Story(ONE)
    for life in range(2, 5):
        told = lines(story, worker(ActorState.WAITING, life, life, "use --flag"))
        lines(story, worker(ActorState.STARTING, life + 1, life))
        assert [line for line in told if "router" not in line] == (
            ["engine-0 cannot join: use --flag; it is tried again"] if life == 2 else []
        )
    assert lines(story, worker(ActorState.WAITING, 5, 5, "other")) == [
        "engine-0 cannot join: other; it is tried again"
    ]
    assert lines(story, worker(ActorState.LIVE, 6, 5), "refused") == [
        "engine-0 refused by the router: why"
    ]
