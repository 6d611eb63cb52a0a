"""What is found of engines before they are attached: their pace, their dtypes, their own flags."""

from dataclasses import replace
from typing import Any

import pytest

from radixroute.doctor.table import diagnose
from radixroute.protos import radixroute_pb2 as pb
from tests.doctor.evidences import (
    engine,
    fleet,
    look,
    of_engines,
    router,
    statement,
    told,
    worker,
)
from tests.doctor.planted import refused, with_worker
from tests.doctor.planted_logs import forgetting, untold
from tests.doctor.planted_pages import cached_as, paced

B = "http://b"


@pytest.mark.parametrize(
    "others",
    [
        (paced(0.05), paced(0.15, url=B)),  # three times
        (paced(0.002), paced(0.04, url=B)),  # below what is a machine's noise
        (paced(0.3), paced(0.3, url=B)),
        (paced(0.3),),
        (paced(0.01), paced(0.3, url=B, model="larger")),
        (paced(None), paced(0.3, url=B)),
    ],
)
def test_engines_whose_tokens_take_about_as_long_are_no_finding(others):
    codes = {one.code for one in diagnose(of_engines(*others))}
    assert "worker_slow" not in codes


def test_a_slow_engine_is_told_with_how_much_slower_it_is():
    (found,) = diagnose(of_engines(paced(0.01), paced(0.3, url=B), paced(0.012, url="http://c")))
    assert (found.code, found.where) == ("worker_slow", B)
    assert "takes 300 ms there, 27 times as long" in found.seen
    assert "--enforce-eager" in found.fix


def test_tokens_that_are_held_back_are_no_slow_ones():
    found = diagnose(of_engines(paced(0.01), paced(0.3, held_s=2.0, url=B)))
    assert [(one.code, one.where) for one in found] == [("answers_at_once", B)]
    assert "held back for 2.0 s" in found[0].seen


@pytest.mark.parametrize(
    ("first", "second", "seen"),
    [
        (("", ""), ("fp8", "fp8"), "its KV dtype is fp8, that of the others auto"),
        (("", "float16"), ("fp8", "fp8"), "its KV dtype is fp8, that of the others auto (float16)"),
        (("fp8", "fp8"), ("", ""), "its KV dtype is auto, that of the others fp8"),
        (("", "bfloat16"), ("bfloat16", "bfloat16"), ""),  # auto is that of the model
        (("", ""), ("", ""), ""),
        (("fp8", "bfloat16"), ("", "bfloat16"), ""),  # as companion.kv_dtype says of both
        (("", None), ("fp8", "fp8"), ""),  # its tokenizer is not here: that is told
    ],
)
def test_dtypes_are_compared_as_the_router_would(first, second, seen):
    found = diagnose(of_engines(cached_as(*first), cached_as(*second, url=B)))
    assert [one.code for one in found] == (["engines_differ"] if seen else [])
    assert [one.seen for one in found] == ([seen] if seen else [])


def test_a_fleet_says_auto_where_nothing_is_named():
    reason = "scope fingerprint 'x' is not 'y'"
    away = worker("b", state="refused", stream_state="", reason=reason)
    now = look(workers=(worker("a"), away))
    said = {"a": told(scope=pb.Scope(kv_dtype="fp8")), "b": told(scope=pb.Scope())}
    (found,) = diagnose(fleet(router(now, told=said)))
    assert found.code == "kv_dtype_differs"
    assert "its KV dtype is auto, that of the others fp8" in found.seen


@pytest.mark.parametrize(
    ("engines", "flag"),
    [
        ([engine(said=statement(kind="{}", kv_blocks=255))], "memory"),
        ([engine(), engine(said=statement(kind="{}", block_size=32, kv_blocks=2000), url=B)],
         "block"),
        ([engine(), engine(said=statement(kind="{}", max_model_len=2048), url=B)], "length"),
        ([paced(0.01), paced(0.3, url=B, kind="{}")], "speed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("vllm", {"memory": "--gpu-memory-utilization", "block": "--block-size",
                  "length": "--max-model-len", "speed": "--max-num-batched-tokens"}),
        ("sglang", {"memory": "--mem-fraction-static", "block": "--page-size",
                    "length": "--context-length", "speed": "--chunked-prefill-size"}),
    ],
)  # fmt: skip
def test_an_engine_is_told_with_its_own_flags(engines, flag, kind, own):
    (found,) = diagnose(of_engines(*(_of_kind(one, kind) for one in engines)))
    assert own[flag] in found.fix
    others = {"vllm": ("page-size", "mem-fraction", "context-length", "chunked"),
              "sglang": ("block-size", "gpu-memory", "max-model-len", "enforce-eager")}  # fmt: skip
    assert not [name for name in others[kind] if name in found.fix]


def _of_kind(one: Any, kind: str) -> Any:
    """The one that is of no kind yet is of this."""
    said = one.examination.statement
    if said.kind != "{}":
        return one
    versions = {"vllm": "0.32.0", "sglang": "0.5.23"}
    said = replace(said, kind=kind, version=versions[kind])
    return replace(one, examination=replace(one.examination, statement=said))


@pytest.mark.parametrize(
    ("evidence", "flag"),
    [
        (refused("max_model_len 1024 is below the fleet's 4096: a request"), "--context-length"),
        (untold(8), "SGLang"),
        (forgetting(4000), "--disable-radix-cache"),
        (with_worker(kv_blocks_total=200), "--context-length"),
    ],
)
def test_a_worker_beside_an_sglang_is_told_with_its_flags(evidence, flag):
    kinds = {name: told(engine_kind="sglang") for name in "ab"}
    (found,) = diagnose(replace(evidence, router=replace(evidence.router, told=kinds)))
    assert flag in found.fix
    assert "--enable-prefix-caching" not in found.fix
    assert "--enable-prompt-tokens-details" not in found.fix
    assert "--max-model-len" not in found.fix
