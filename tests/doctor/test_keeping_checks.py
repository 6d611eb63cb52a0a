"""What single engines keep is told by the flags that are theirs, and of nobody who is well."""

import pytest

from radixroute.doctor.table import diagnose
from tests.doctor.planted_serving import keeping_none, pooled, sharing


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("openai", ("--enable-prefix-caching", "--disable-radix-cache")),
        ("vllm", ("--enable-prefix-caching",)),
        ("sglang", ("--disable-radix-cache",)),
    ],
)
def test_an_engine_that_keeps_nothing_is_told_by_its_own_flags_and_not_as_evicting(kind, flags):
    (found,) = diagnose(keeping_none(kind))
    assert (found.code, found.where) == ("keeps_nothing", "b")
    every = ("--enable-prefix-caching", "--disable-radix-cache")
    assert tuple(flag for flag in every if flag in found.fix) == flags


def test_one_that_told_a_hit_keeps_something():
    assert "keeps_nothing" not in {one.code for one in diagnose(keeping_none(cached=1))}


@pytest.mark.parametrize(
    "evidence", [sharing(2), sharing(8, predicted=128), sharing(8, predicted=112)]
)
def test_scopes_whose_blocks_were_known_to_be_there_are_kept_apart(evidence):
    assert diagnose(evidence) == ()


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("torch", ("--kv-memory",)),
        ("vllm", ("--gpu-memory-utilization", "--num-gpu-blocks-override")),
        ("sglang", ("--mem-fraction-static", "--max-total-tokens")),
        ("openai", ("--gpu-memory-utilization", "--mem-fraction-static")),
    ],
)
def test_a_small_pool_is_raised_by_the_flags_of_its_own_engine(kind, flags):
    others = ("vllm", "vllm", "vllm")
    (found,) = diagnose(pooled(4000, 4000, 4000, 307, kinds=(*others, kind)))
    assert (found.code, found.where) == ("pools_uneven", "d")
    assert "4,912 tokens, those of the others 64,000: 13 times as many" in found.seen
    assert all(flag in found.fix for flag in flags)
    assert ("--mem-fraction-static" in found.fix) == (kind in ("sglang", "openai"))


@pytest.mark.parametrize(
    "evidence", [pooled(4000, 8000), pooled(4000, 1001), pooled(8000, 1000, ranks=8)]
)
def test_machines_of_other_sizes_and_several_ranks_are_even(evidence):
    assert diagnose(evidence) == ()
