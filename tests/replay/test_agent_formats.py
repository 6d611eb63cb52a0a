"""Traces of agents: rows that name whom they wait for; Dynamo's, whose dependencies are found."""

import json

import pytest

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.files import read_trace
from tests.replay.traces import assert_sound, blocks_of

MS = 1_000_000


@pytest.fixture
def read(tmp_path):
    def reading(rows, **options):
        path = tmp_path / "agents.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return read_trace(path, **options)

    return reading


def by_last_id(trace):
    """Requests by the last of their block ids, which here is nobody else's."""
    return {blocks_of(trace, i)[-1]: i for i in range(len(trace))}


# -- agentic Mooncake


def row(name, ids, wait_for=(), **more):
    found = {"request_id": name, "input_length": 4 * len(ids), "output_length": 3, "hash_ids": ids}
    return {**found, **({"wait_for": list(wait_for)} if wait_for else {}), **more}


# A planner, two agents that it starts, and what waits for both; the agents' rows come last.
TREE = [
    row("plan", [1, 2], timestamp=100.5, session_id="root", prefix_reset=True, branches=["a", "b"]),
    row("join", [1, 2, 3], ["plan", "a2", "b"], delay=5, tool_wait_ms=20, session_id="root"),
    row("other", [9], timestamp=103.5, session_id="alone"),
    row("a2", [4, 5], ["a"], delay_ms=1, session_id="agent a"),
    row("a", [4], ["plan"], delay=2, session_id="agent a"),
    row("b", [6], ["plan"], session_id="agent b", tool_events=[{"tool_class": "x"}]),
]


def test_rows_wait_for_all_that_they_name_wherever_those_stand(read):
    reading = read(TREE, block_size=4)
    trace = reading.trace
    assert_sound(trace)
    assert reading.format == "agentic_mooncake"
    at = by_last_id(trace)
    plan, join, other, a2, a, b = (at[one] for one in (2, 3, 9, 5, 4, 6))
    waits = {i: {int(trace.after[i]), *trace.joined.get(i, [])} for i in range(len(trace))}
    assert waits == {plan: {-1}, other: {-1}, a: {plan}, b: {plan}, a2: {a}, join: {plan, a2, b}}
    delays = [int(trace.arrival_ns[one]) for one in (plan, other, a, b, a2, join)]
    assert delays == [0, 3 * MS, 2 * MS, 0, 1 * MS, 25 * MS]
    assert len({int(trace.programs[one]) for one in (plan, join, a, a2, b)}) == 1
    assert trace.programs.max() == 1


def test_a_session_and_a_branch_are_one_program_though_nobody_waits(read):
    rows = [
        row("r", [1], timestamp=0, session_id="s", branches=["child"]),
        row("child", [2], timestamp=1, session_id="c"),
        row("late", [3], timestamp=2, session_id="c"),
        row("else", [4], timestamp=3),
    ]
    trace = read(rows, block_size=4).trace
    assert (trace.after < 0).all()
    assert trace.programs.tolist() == [0, 0, 0, 1]


REFUSED = {
    "nobody": (row("r", [8], ["nobody"]), "waits for nobody, and no row is called that"),
    "itself": (row("r", [8], ["r"]), "request r waits for itself"),
    "a circle": (row("plan2", [8], ["again"]), "waits for itself, over others"),
    "no time": (row("r", [8]), "request r waits for nobody and has no time"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_dependencies_that_cannot_be_are_refused(read, case):
    bad, reason = REFUSED[case]
    rows = [*TREE, bad, row("again", [7], ["plan2", "a"])][: 8 if case == "a circle" else 7]
    with pytest.raises(BadTrace, match=reason):
        read(rows, block_size=4)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("plan", [8], timestamp=0), "line 2: its request_id stands on a line above"),
        (row("r", [8, 8], timestamp=0), "line 2: a block id stands twice"),
        (row("r", [8], timestamp=0, input_length=5), "line 2: 1 block ids, but the prompt fills 2"),
        ({"request_id": "r", "hash_ids": [1]}, "line 2: input_length is missing"),
        (row("r", [8], timestamp=-1), "line 2: a time must be a number, and not negative"),
    ],
)
def test_a_bad_row_is_named(read, bad, reason):
    with pytest.raises(BadTrace, match=reason):
        read([TREE[0], bad], block_size=4)
    reading = read([TREE[0], bad], block_size=4, skip_bad=True)
    assert (reading.bad_lines, len(reading.trace)) == (1, 1)


def test_version_2_is_refused_by_name(read):
    header = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 64}
    with pytest.raises(BadTrace, match="version 2 is not read"):
        read([header])


def test_a_chain_of_thousands_of_turns_is_read(read):
    rows = [row("0", [0], timestamp=0, prefix_reset=True)]
    rows += [row(str(n), [n], [str(n - 1)], delay=1) for n in range(1, 3000)]
    trace = read(rows[:1] + rows[:0:-1], block_size=4).trace
    assert trace.after.tolist() == list(range(-1, 2999))


# -- Dynamo's request trace


def ended(name, start_ms, end_ms, hashes, **context):
    request = {
        "request_id": name,
        "output_tokens": 3,
        "request_received_ms": 1_700_000_000_000 + start_ms,
        "total_time_ms": float(end_ms - start_ms),
        "replay": {
            "trace_block_size": 4,
            "input_length": 4 * len(hashes) - 1,
            "input_sequence_hashes": hashes,
        },
    }
    event = {"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": request}
    event["event_time_unix_ms"] = 1_700_000_000_000 + end_ms
    return {**event, **({"agent_context": context} if context else {})}


def agent(name, start_ms, end_ms, hashes, of, parent=None):
    more = {} if parent is None else {"parent_trajectory_id": parent}
    return ended(name, start_ms, end_ms, hashes, trajectory_id=of, session_id="run", **more)


BIG = 2**64 - 1  # a hash may have all 64 bits
RUN = [
    {"schema": "dynamo.request.trace.v1", "event_type": "tool_end", "tool": {"tool_class": "x"}},
    agent("r1", 0, 100, [1, 2], "root"),
    agent("side", 150, 400, [1, 3], "root"),  # beside it r2, which ended before
    agent("r2", 160, 200, [1, 4], "root"),
    agent("c1", 210, 300, [5], "child", "root"),
    agent("c2", 330, 390, [5, BIG], "child", "root"),
    agent("r3", 450, 500, [1, 6], "root"),
    ended("alone", 300, 310, [7]),
]


@pytest.mark.parametrize("order", ["as it is", "turned round", "in envelopes"])
def test_dependencies_are_found_in_times_and_trajectories(read, order):
    rows = list(RUN)
    if order == "turned round":
        rows = [rows[0], *rows[:0:-1]]
    if order == "in envelopes":
        rows = [{"timestamp": 1, "event": one} for one in rows]
    reading = read(rows)
    trace = reading.trace
    assert_sound(trace)
    assert (reading.format, trace.block_size, len(trace)) == ("dynamo", 4, 7)
    at = by_last_id(trace)
    r1, side, r2, c1, c2, r3, alone = (at[one] for one in (2, 3, 4, 5, -1, 6, 7))
    waits = {i: {int(trace.after[i]), *trace.joined.get(i, [])} for i in range(len(trace))}
    assert waits == {
        r1: {-1},
        side: {r1},
        r2: {r1},
        c1: {r2},
        c2: {c1},
        r3: {side, r2, c2},
        alone: {-1},
    }
    delays = [int(trace.arrival_ns[one]) // MS for one in (r1, side, r2, c1, c2, r3, alone)]
    assert delays == [0, 50, 60, 10, 30, 50, 300]
    assert len({int(trace.programs[one]) for one in (r1, side, r2, c1, c2, r3)}) == 1
    assert trace.programs.max() == 1
    assert trace.input_tokens[r1] == 7


def test_newer_traces_call_a_trajectory_a_session(read):
    rows = [
        ended("p", 0, 10, [1], session_id="p"),
        ended("c", 20, 30, [2], session_id="c", parent_session_id="p"),
        ended("q", 0, 10, [3], session_id="q"),
    ]
    trace = read(rows).trace
    assert trace.after[by_last_id(trace)[2]] == by_last_id(trace)[1]
    assert trace.programs.max() == 1


def _without(name, field):
    made = ended(name, 0, 1, [1])
    del made["request"][field]
    return made


def _with_replay(name, **changes):
    made = ended(name, 0, 1, [1])
    made["request"]["replay"].update(changes)
    return made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (_without("r", "replay"), "without request.replay"),
        (ended("r1", 0, 1, [1]), "its request_id stands on a line above"),
        (_with_replay("r", trace_block_size=8), "blocks of 8 tokens in a trace of 4"),
        (_with_replay("r", input_length=5), "1 block ids, but the prompt fills 2"),
        (agent("r", 0, 1, [1], "child", "another"), "another parent on a line above"),
        ({"schema": "dynamo.request.trace.v1"}, "event_type"),
    ],
)
def test_a_bad_row_of_dynamo_is_named(read, bad, reason):
    with pytest.raises(BadTrace, match=f"line 9: .*{reason}"):
        read([*RUN, bad])
    assert read([*RUN, bad], skip_bad=True).bad_lines == 1


def test_a_file_without_an_ended_request_is_refused(read):
    with pytest.raises(BadTrace, match="no request_end row"):
        read(RUN[:1])
