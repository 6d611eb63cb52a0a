"""Event streams of engines before they are attached: buffers, ports, one address for several."""

from collections.abc import Callable, Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import EngineSeen, Evidence
from radixroute.worker.companions.dialects.dialect import EventPlace

# Batches; an engine makes one each step, some 100 a second: ten seconds of them, which is what a
# companion or a network takes to come back. vLLM's own defaults are 10,000 and 100,000.
FEW_BATCHES: Final = 1000


def _places(evidence: Evidence) -> Iterator[tuple[EngineSeen, EventPlace]]:
    for engine in evidence.engines:
        statement = engine.examination.statement
        for place in () if statement is None else statement.places:
            yield engine, place


def _replay_buffer(evidence: Evidence) -> Iterator[Seen]:
    for engine, place in _places(evidence):
        kept = engine.examination.kept_batches
        if 0 < place.buffer_steps < FEW_BATCHES:
            yield Seen(engine.url, f"its buffer_steps is {place.buffer_steps}")
        elif kept is not None and kept < FEW_BATCHES:
            yield Seen(engine.url, f"its replay goes back {kept} batches and no further")


def _no_replay(evidence: Evidence) -> Iterator[Seen]:
    """It was let in without; where it was not, the join says so."""
    for engine, place in _places(evidence):
        is_said = any(one.code in ("replay", "ranks") for one in engine.examination.findings)
        if not place.replay and not is_said:
            yield Seen(
                engine.url, "companion.allow_no_replay is set, and it has no replay endpoint"
            )


def _few(read: Callable[[EventPlace], int], name: str, evidence: Evidence) -> Iterator[Seen]:
    for engine, place in _places(evidence):
        if 0 < read(place) < FEW_BATCHES:
            yield Seen(engine.url, f"its {name} is {read(place)}")


def _event_port(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        if engine.events_are_wide:
            yield Seen(engine.url, "its event port takes connections at every address")


def are_shared(evidence: Evidence) -> bool:
    """One address of events is given, and several engines have events. What a join finds at the
    others is its consequence."""
    said = [engine.examination.statement for engine in evidence.engines]
    n = sum(one is None or one.could_tell_events for one in said)
    return bool(evidence.setting("companion.events", "")) and n > 1


def _shared(evidence: Evidence) -> Iterator[Seen]:
    if are_shared(evidence):
        where = evidence.setting("companion.events", "")
        n = len(evidence.engines)
        yield Seen("companions", f"companion.events is {where} for all of {n} engines")


ENGINE_EVENT_CHECKS: Final = (
    Check(
        "events_shared",
        Level.ERROR,
        "one address of events is given for several engines",
        "each engine has an address of its own: what one has cached would be believed of another",
        "leave out companion.events and companion.replay: each engine then says itself where its "
        "events are; where one cannot, upgrade it, or serve it without events "
        "(companion.allow_no_events)",
        _shared,
    ),
    Check(
        "replay_buffer_small",
        Level.WARNING,
        "the engine's replay buffer is small",
        "what a companion misses while it restarts is gone then, and blocks of before stay unknown",
        'raise "buffer_steps" in its --kv-events-config: 10000 is its default',
        _replay_buffer,
    ),
    Check(
        "replay_off",
        Level.WARNING,
        "the engine cannot be asked for events that were missed",
        "batches that are lost, and all that was cached before, stay unknown",
        'add "replay_endpoint" to its --kv-events-config and leave out companion.allow_no_replay',
        _no_replay,
    ),
    Check(
        "event_hwm_small",
        Level.WARNING,
        "the engine's event socket drops messages early",
        "a burst of events is lost whenever the listener is a moment late; each loss is a gap",
        'raise "hwm" in its --kv-events-config: 100000 is its default',
        lambda evidence: _few(lambda place: place.hwm, "hwm", evidence),
    ),
    Check(
        "event_queue_small",
        Level.WARNING,
        "the engine's queue of events is short",
        "the engine itself waits when it is full: every request there stands still",
        'raise "max_queue_size" in its --kv-events-config: 100000 is its default',
        lambda evidence: _few(lambda place: place.queue_len, "max_queue_size", evidence),
    ),
    Check(
        "event_port_open",
        Level.WARNING,
        "an engine sends token ids in the clear to whoever connects to its event port",
        "token ids are the prompts: everybody who can reach the port reads all of them",
        "let a firewall or network policy give that port and the replay port to the router's "
        'machine alone, or use an "ipc://" endpoint and a router beside the engine',
        _event_port,
    ),
)
