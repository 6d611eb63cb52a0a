"""The engine benchmark's numbers: medians, directions, rounds, and the shape of its JSON."""

import io
import json

import pytest
from rich.console import Console

from bench.engine.laps import EngineRow, Lap, Samples, interleaved, record, write_record

KEYS = {"name", "ours", "peer", "ratio", "unit"}


def laps(*wall_s, tokens=100, cpu_s=1.0):
    return [Lap(tokens, one, cpu_s) for one in wall_s]


def test_rates_are_medians_and_more_is_better():
    row = Samples(ours=laps(1.0, 2.0, 50.0), peer=laps(4.0, 3.0, 5.0)).rates("decode")
    assert (row.ours, row.peer, row.ratio, row.unit) == (50.0, 25.0, 2.0, "tokens/s")
    assert row.rounds == 3


def test_times_are_medians_in_milliseconds_and_less_is_better():
    row = Samples(ours=laps(0.01, 0.02, 9.0), peer=laps(0.1, 0.16, 0.2)).times("ttft")
    assert (row.ours, row.peer, row.ratio, row.unit) == (20.0, 160.0, 8.0, "ms")
    assert row.cpu_ratio is None


def test_the_ratio_by_cpu_time_ignores_time_spent_waiting_for_the_processor():
    waited = Samples(ours=laps(10.0, cpu_s=1.0), peer=laps(2.0, cpu_s=2.0)).rates("prefill")
    assert (waited.ratio, waited.cpu_ratio) == (0.2, 2.0)


def test_both_sides_take_turns_and_the_first_input_only_warms_up():
    calls, seen = [], []

    def side(name):
        def measure(given):
            calls.append((name, given))
            return Lap(given, 1.0, 1.0)

        return measure

    samples = interleaved(side("a"), side("b"), [7, 8, 9], lambda *at: seen.append(at))
    assert calls[2:] == [("a", 8), ("b", 8), ("b", 9), ("a", 9)]
    assert sorted(calls[:2]) == [("a", 7), ("b", 7)]
    assert [lap.tokens for lap in samples.ours] == [lap.tokens for lap in samples.peer] == [8, 9]
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_the_document_has_the_keys_that_readers_rely_on(tmp_path):
    path = tmp_path / "results" / "engine.json"
    row = Samples(ours=laps(1.0), peer=laps(2.0)).rates("prefill.512.fp32")
    write_record(path, record([row], {"cores": 2}, {"torch": "x"}))
    found = json.loads(path.read_text())
    assert found.keys() >= {"machine", "versions", "rows"}
    assert found["rows"][0].keys() >= KEYS
    assert (found["rows"][0]["ratio"], found["machine"], found["versions"]) == (
        2.0,
        {"cores": 2},
        {"torch": "x"},
    )
    assert [p.name for p in path.parent.iterdir()] == ["engine.json"]


@pytest.mark.torch
def test_the_plan_names_every_row_once_and_the_table_shows_them():
    pytest.importorskip("torch")
    from bench.engine.plan import FULL_ROUNDS, row_names
    from bench.engine.table import facts, table

    names = row_names()
    assert len(names) == len(set(names)) == 13
    assert {"prefill.2048.bf16", "decode.b8.fp32", "ttft.grpc.bf16", "step.64streams"} <= set(names)
    assert FULL_ROUNDS[0] >= 7
    shown = io.StringIO()
    rows = [EngineRow(name, 1.0, 2.0, 0.5, "ms", 1) for name in names]
    Console(file=shown, width=120).print(table(rows))
    assert all(name in shown.getvalue() for name in names)
    about = facts(0.5)
    assert {"cpu", "cores", "load_average", "torch_threads"} <= about.keys()
