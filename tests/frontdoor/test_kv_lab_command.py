"""`kv lab`: tables here, a page and a record in files, and clear words for what cannot be."""

import json

import pytest

from radixroute.cli.kv.lab import _write
from radixroute.kv.lab.records import LabReport

pytestmark = pytest.mark.torch


def test_the_lab_writes_a_page_a_record_and_pictures(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("kv", "lab", "--quick", "--only", "sharing", "--only", "editing", "--pictures")
    assert done.exit_code == 0, done.output
    assert "One prefix for many users" in done.output
    assert "kv-lab/index.html" in done.output
    page = (tmp_path / "kv-lab" / "index.html").read_text()
    assert "radixroute kv lab --quick" in page
    record = json.loads((tmp_path / "kv-lab" / "lab.json").read_text())
    assert [one["name"] for one in record["results"]] == ["editing", "sharing"]
    assert record["results"][1]["facts"]["users_1.tokens"] == 1088
    pictures = {path.name for path in (tmp_path / "kv-lab" / "pictures").iterdir()}
    assert "sharing-memory.svg" in pictures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "magic"), "no experiment is called magic: there are caches"),
        (("nowhere",), "nowhere"),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments, words, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("kv", "lab", "--quick", *arguments)
    assert done.exit_code != 0
    assert words in str(done.exception) + done.output


def test_pictures_of_an_earlier_run_are_removed_and_nobody_elses(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("old", "mine"):
        (tmp_path / "pictures" / f"{name}.svg").write_text("<svg/>")
    earlier = {"results": [{"plots": [{"name": "old"}, {"name": "../../outside"}]}]}
    (tmp_path / "lab.json").write_text(json.dumps(earlier))
    report = LabReport("here", (), (), (), "radixroute kv lab", 1.0, True)
    _write(report, tmp_path, pictures=False)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"mine.svg"}
    (tmp_path / "lab.json").write_text("no record")
    _write(report, tmp_path, pictures=True)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"mine.svg"}
