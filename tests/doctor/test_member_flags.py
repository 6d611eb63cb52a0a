"""Flags in fixes are those of the engine that is to be started anew, whatever most others are."""

from dataclasses import replace

import pytest

from radixroute.doctor.table import diagnose
from tests.doctor.evidences import fleet, look, router, told, worker
from tests.doctor.planted_logs import one_slow, untold
from tests.doctor.planted_pages import looks, of_pages


def kinds(**by_worker: str):
    return {name: told(engine_kind=kind) for name, kind in by_worker.items()}


@pytest.mark.parametrize(
    ("kind", "flag", "not_flag"),
    [("vllm", "--lora-modules", "--lora-paths"), ("sglang", "--lora-paths", "--lora-modules")],
)
def test_who_lacks_an_adapter_is_started_with_its_own_flags(kind, flag, not_flag):
    now = look(workers=(worker("a", adapters=["x"]), worker("b")))
    (found,) = diagnose(fleet(router(now, told=kinds(a="vllm", b=kind))))
    assert flag in found.fix
    assert not_flag not in found.fix


@pytest.mark.parametrize(
    ("kind", "flag"),
    [("vllm", "--enforce-eager"), ("sglang", "--disable-cuda-graph"), ("torch", "worker.dtype")],
)
def test_who_is_slow_is_started_with_its_own_flags(kind, flag):
    of_kinds = kinds(a="vllm", b=kind)
    (found,) = diagnose(fleet(replace(one_slow().router, told=of_kinds)))
    assert flag in found.fix
    assert (kind == "vllm") == ("--enforce-eager" in found.fix)


@pytest.mark.parametrize(
    ("kind", "flag"), [("vllm", "--max-num-seqs"), ("sglang", "--max-running-requests")]
)
def test_whose_queue_is_short_is_raised_by_its_own_flag(kind, flag):
    seen = of_pages(a=looks("queued", 2), b=looks("queued", 18, most=1)).router
    (found,) = diagnose(fleet(replace(seen, told=kinds(a="vllm", b=kind))))
    assert found.fix.startswith(f"raise {flag} of that ")


def test_a_plain_server_that_tells_nothing_is_told_both_kinds_of_flags():
    seen = replace(untold(8).router, told=kinds(a="vllm", b="openai"))
    (found,) = diagnose(fleet(seen))
    assert "--enable-prompt-tokens-details of vLLM, --enable-cache-report of SGLang" in found.fix
