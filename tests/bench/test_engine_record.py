"""The engine benchmark's numbers: medians, directions, rounds, and the shape of its JSON."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.engine.laps import EngineRow, Lap, interleaved, kept, rates, record, times, write_record

KEYS = {"name", "ours", "peer", "ratio", "unit"}


def laps(*wall_s, tokens=100, cpu_s=1.0):
    return [Lap(tokens, one, cpu_s) for one in wall_s]


def test_rates_are_medians_and_more_is_better():
    row = rates("decode", laps(1.0, 2.0, 50.0), laps(4.0, 3.0, 5.0))
    assert (row.ours, row.peer, row.ratio, row.unit) == (50.0, 25.0, 2.0, "tokens/s")
    assert row.rounds == 3


def test_times_are_medians_in_milliseconds_and_less_is_better():
    row = times("ttft", laps(0.01, 0.02, 9.0), laps(0.1, 0.16, 0.2))
    assert (row.ours, row.peer, row.ratio, row.unit) == (20.0, 160.0, 8.0, "ms")
    assert row.cpu_ratio is None


def test_the_ratio_by_cpu_time_ignores_time_spent_waiting_for_the_processor():
    waited = rates("prefill", laps(10.0, cpu_s=1.0), laps(2.0, cpu_s=2.0))
    assert (waited.ratio, waited.cpu_ratio) == (0.2, 2.0)


def test_all_sides_take_turns_and_the_first_input_only_warms_up():
    calls, seen = [], []

    def side(name):
        def measure(given):
            calls.append((name, given))
            return Lap(given, 1.0, 1.0)

        return measure

    sides = {name: side(name) for name in "abc"}
    found = interleaved(sides, [7, 8, 9], lambda *at: seen.append(at))
    assert calls[3:] == [("b", 8), ("c", 8), ("a", 8), ("c", 9), ("a", 9), ("b", 9)]
    assert sorted(calls[:3]) == [("a", 7), ("b", 7), ("c", 7)]
    assert {name: [lap.tokens for lap in of] for name, of in found.items()} == {
        name: [8, 9] for name in "abc"
    }
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_row_below_its_bar_is_missed():
    row = EngineRow("decode.bf16.b1.vllm", 9.0, 10.0, 0.9, "tokens/s", 7)
    assert row.is_met
    assert replace(row, bar=0.9).is_met
    assert not replace(row, bar=1.0).is_met


def test_the_document_has_the_keys_that_readers_rely_on(tmp_path):
    path = tmp_path / "results" / "engine.json"
    row = rates("prefill.fp32.512.vllm", laps(1.0), laps(2.0))
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


def test_a_run_of_some_rows_leaves_the_others_of_its_file(tmp_path):
    path = tmp_path / "engine.json"
    before = [rates(name, laps(1.0), laps(2.0)) for name in ("a", "b", "c")]
    again = rates("b", laps(1.0), laps(4.0))
    assert kept(path, [again]) == [again]
    write_record(path, record(before, {}, {}))
    assert kept(path, [again]) == [before[0], again, before[2]]


@pytest.mark.torch
def test_the_plan_names_every_row_once_and_the_table_shows_them():
    pytest.importorskip("torch")
    from bench.engine.plan import FULL_ROUNDS, EnginePlan, bar_of, row_names
    from bench.engine.table import facts, table

    names = row_names(("transformers", "vllm"))
    assert len(names) == len(set(names)) == 29
    expected = {"prefill.bf16.2048.vllm", "decode.fp32.b32.transformers", "ttft.bf16.grpc"}
    assert {*expected, "step.64streams"} <= set(names)
    assert len(row_names(("transformers",))) == 17
    assert bar_of("decode.bf16.b32", "vllm") == bar_of("prefill.fp32.512", "vllm") == 0.9
    assert bar_of("decode.bf16.b8", "vllm") == bar_of("decode.bf16.b32", "transformers") == 1.0
    some = EnginePlan(Path(), None, 1, 1, 1, begin="decode.bf16.b4")
    assert some.takes("decode.bf16.b4")
    assert some.takes("prefill.bf16.", "decode.bf16.")
    assert not some.takes("prefill.bf16.512")
    assert not some.takes("decode.bf16.b8")
    assert FULL_ROUNDS[0] >= 7
    shown = io.StringIO()
    rows = [EngineRow(name, 1.0, 2.0, 0.5, "ms", 1) for name in names]
    Console(file=shown, width=120).print(table(rows))
    assert all(name in shown.getvalue() for name in names)
    about = facts(0.5)
    assert {"cpu", "cores", "load_average", "torch_threads"} <= about.keys()
