"""The folder of a report: a run's own, and nobody else's file in it is touched."""

from pathlib import Path

import pytest

TRACE = Path(__file__).resolve().parents[1] / "data" / "traces" / "bom.jsonl"
QUICK = ("--policy", "round_robin", "--workers", 1)


def test_a_run_owns_its_folder_and_nothing_else_in_it(cli):
    three = ("--policy", "round_robin,random,radix", "--workers", "1,2", "-o", "out")
    assert cli("replay", TRACE, *three).exit_code == 0
    kept = {
        "notes.txt": "mine",
        "requests-mine.jsonl": "mine",
        "requests-radix-w9-x1.jsonl": '{"index":0,"of": "another folder"}',
    }
    for name, text in kept.items():
        Path("out", name).write_text(text)
    Path("out/requests-random-w2-x1.jsonl").write_text("edited")  # ours no more
    again = cli("replay", TRACE, "--policy", "radix,random", "--workers", 1, "-o", "out")
    assert again.exit_code == 0, again.stderr
    left = {path.name for path in Path("out").iterdir()}
    ours = {"index.html", "results.json", "requests.jsonl"}
    ours |= {"requests-radix-w1-x1.jsonl", "requests-random-w1-x1.jsonl"}
    assert left == ours | kept.keys() | {"requests-random-w2-x1.jsonl"}
    assert {name: Path("out", name).read_text() for name in kept} == kept
    assert "3 files of an earlier report there were removed" in again.stderr
    assert "requests-round_robin-w2-x1.jsonl" in again.stderr


@pytest.mark.parametrize(
    "results",
    [
        "no json",
        "[]",
        '{"runs": 5, "bounds": 0, "trace_hash": 0, "config_hash": 0}',
        '{"runs": [{"policy": "../../x", "workers": 1, "speed": 1}], "bounds": 0,'
        ' "trace_hash": 0, "config_hash": 0}',
        '{"runs": [{"policy": "a", "workers": 1, "speed": 1}]}',
    ],
)
def test_nothing_is_removed_on_the_word_of_a_file_that_is_no_report(cli, results):
    Path("out").mkdir()
    Path("x-w1-x1.jsonl").write_text('{"index":0,')
    Path("out/requests-a-w1-x1.jsonl").write_text('{"index":0,')
    Path("out/results.json").write_text(results)
    assert cli("replay", TRACE, *QUICK, "-o", "out").exit_code == 0
    assert Path("out/requests-a-w1-x1.jsonl").exists()
    assert Path("x-w1-x1.jsonl").exists()
