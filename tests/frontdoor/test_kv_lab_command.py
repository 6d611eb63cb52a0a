"""`kv lab`: tables here, a page and a record in files, and clear words for what cannot be."""

import json

import pytest

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
