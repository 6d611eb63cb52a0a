"""The public face of `radixroute.replay`: exactly these names, imported when they are used."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import radixroute.replay
from radixroute.replay.report.settings import settings_in_words

PUBLIC = [
    "Conditions",
    "LabSettings",
    "ReplayError",
    "Report",
    "RunResult",
    "Timing",
    "Trace",
    "index_html",
    "read_trace",
    "replay_all",
    "requests_jsonl",
    "results_json",
    "synthesize",
]


def test_these_names_are_exported_and_no_others():
    assert radixroute.replay.__all__ == PUBLIC
    assert list(radixroute.replay._MODULE_BY_NAME) == PUBLIC
    assert set(PUBLIC) <= set(dir(radixroute.replay))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_is_what_its_module_defines(name):
    found = getattr(radixroute.replay, name)
    home = radixroute.replay._MODULE_BY_NAME[name]
    assert (found.__name__, found.__module__) == (name, f"radixroute.replay.{home}")


def test_no_public_name_is_hidden_by_a_module_of_the_room():
    folder = Path(radixroute.replay.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(PUBLIC)


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'replay_some'"):
        _ = radixroute.replay.replay_some  # type: ignore[attr-defined]


def test_the_room_alone_imports_nothing_heavy():
    code = (
        "import sys, radixroute.replay;"
        "print([m for m in ('numpy', 'numba', 'radixroute.router') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_a_trace_is_replayed_in_ten_lines(tmp_path):
    from radixroute.replay import LabSettings, read_trace, replay_all, synthesize
    from radixroute.replay.synth.workloads import shape_of
    from radixroute.replay.traces.own_format import write_own

    path = tmp_path / "trace.jsonl"
    with path.open("wb") as file:
        write_own(synthesize("chats", 1, shape_of("chats", {"requests": "40"})), file)

    trace = read_trace(path).trace
    settings = LabSettings(policies=("radix", "round_robin"), workers=(2,), kv_blocks=2048)
    report = replay_all(trace, settings)
    by_policy = {run.policy: run.reuse for run in report.figures()}
    assert by_policy["radix"] > by_policy["round_robin"]
    sized = asdict(settings.sized_for(trace))
    assert report.settings == settings_in_words(sized, radixroute.__version__)
