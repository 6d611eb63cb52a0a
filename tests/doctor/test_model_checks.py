"""Engines whose models differ are told to serve the right one; a name only where that is all."""

import pytest

from radixroute.doctor.kinds.attaching.models import kinship
from radixroute.doctor.table import diagnose
from tests.doctor.evidences import engine, fleet, of_engines
from tests.doctor.planted_engines import EVENTS, A, B, named, refused_as, sharing_events
from tests.doctor.planted_pages import answering

USUAL = named("m", "/hub/m-7b", url=A)
RENAME, RESTART = "--served-model-name", "restart it with the --model"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (named("n", "/hub/n-1b"), "its root is n-1b, theirs m-7b"),
        (named("n", "/elsewhere/m-7b", tokenizer="bb"), "its tokenizer is another"),
        (named("n", "/elsewhere/m-7b", codes=("tokenizer",)), "makes other tokens"),
    ],
)
def test_another_model_is_not_told_to_change_its_name(other, why):
    usual = named("m", "/hub/m-7b", url=A, tokenizer="aa")
    found = {one.code: one for one in diagnose(of_engines(usual, other))}
    fix = found["engines_differ"].fix
    assert why in fix
    assert RESTART in fix
    assert RENAME not in fix
    assert found.keys() <= {"engines_differ", "tokenizer"}
    assert "tokenizer" not in found or found["tokenizer"].fix == fix


def test_a_name_mends_what_differs_in_nothing_else():
    (found,) = diagnose(of_engines(USUAL, named("n", "/elsewhere/m-7b")))
    assert found.fix == f"it is the same model under another name: start it with {RENAME} m"
    (found,) = diagnose(of_engines(USUAL, named("n")))  # it says no root
    assert RESTART in found.fix
    assert RENAME in found.fix


def test_answers_tell_models_apart_whatever_roots_are_called():
    same, other = answering(1, 2, root="/m/x", model="n"), answering(1, 3, root="/m/x", model="n")
    usual = answering(1, 2, root="/m/x", model="m", url=B)
    assert kinship(same, usual).is_same
    assert kinship(other, usual).other.startswith("it gives other greedy answers")
    unlike = kinship(answering(1, 2, root="/m/y"), usual)
    assert (unlike.other, unlike.is_same) == ("", False)


@pytest.mark.parametrize(
    ("own", "told_of", "begins"),
    [
        (named("x", "/hub/x-1b"), {}, "it is another model (its root is x-1b"),
        (named("x", "/hub/m-7b"), {"vocab_size": 9}, "it is another model (it has 9 tokens"),
        (named("x"), {"tokenizer_fingerprint": "b"}, "it is another model (its tokenizer"),
        (named("x", "/hub/m-7b"), {}, "it is the same model under another name: start it with"),
        (named("x"), {}, "where it is another model (see its root"),
    ],
)
def test_a_worker_that_is_refused_for_its_model_is_told_what_its_engine_serves(
    own, told_of, begins
):
    said = {"model": "x", "engine_kind": "vllm", **told_of}
    evidence = refused_as("model 'x' is not 'm'", own, told_of=said)
    found = {one.code: one for one in diagnose(evidence) if one.where == "engine-1"}
    assert set(found) == {"model_differs"}
    assert found["model_differs"].fix.startswith(begins)


def test_other_weights_under_one_name_are_not_mended_by_a_name():
    said = {"model": "m", "engine_kind": "vllm"}
    evidence = refused_as("scope fingerprint 'a' is not 'b'", named("m"), told_of=said)
    found = {one.code: one for one in diagnose(evidence) if one.where == "engine-1"}
    assert "its config or its weights are other ones" in found["model_differs"].fix


def test_one_address_of_events_for_two_engines_is_told_with_its_setting_and_once():
    (found,) = diagnose(sharing_events("events_differ"))
    assert "companion.events is tcp://10.0.0.1:5557 for all of 2 engines" in found.seen
    assert found.fix.startswith("leave out companion.events and companion.replay")
    assert diagnose(of_engines(engine(), settings=EVENTS)) == ()
    assert diagnose(fleet(engines=(engine(),), settings=EVENTS)) == ()
