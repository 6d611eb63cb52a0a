"""Scopes: caches that must not mix never share a key, and no field can stand in for another."""

import itertools
import random
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope

BASE = Scope(model_fingerprint="m", block_size=16, cluster_secret=b"s")
TOKENS = np.arange(64, dtype=np.uint32)

VARIANTS = [
    BASE,
    replace(BASE, model_fingerprint="n"),
    replace(BASE, block_size=8),
    replace(BASE, kv_dtype="bfloat16"),
    replace(BASE, lora="X"),
    replace(BASE, tenant_salt="X"),
    replace(BASE, tenant="X"),
    replace(BASE, cluster_secret=b"t"),
    replace(BASE, cluster_secret=b""),
]


def test_every_field_separates_caches():
    keys = [set(block_keys(TOKENS, 16, scope.seed).tolist()) for scope in VARIANTS]
    assert all(not one & other for one, other in itertools.combinations(keys, 2))


def test_every_field_shows_in_the_fingerprint():
    assert len({scope.fingerprint for scope in VARIANTS}) == len(VARIANTS)


def test_a_lora_named_like_a_salt_does_not_hit_its_blocks():
    # vllm-project/vllm#44701: both went into one untagged list.
    assert replace(BASE, lora="X").seed != replace(BASE, tenant_salt="X").seed


def test_moving_characters_between_fields_changes_the_seed():
    rng = random.Random(7)
    seeds, tuples = set(), set()
    for _ in range(3000):
        fields = tuple("".join(rng.choices("ab\0", k=rng.randrange(4))) for _ in range(5))
        tuples.add(fields)
        model, dtype, lora, salt, tenant = fields
        seeds.add(int(Scope(model, 16, dtype, lora, salt, tenant, b"s").seed))
    assert len(seeds) == len(tuples)


def test_the_seed_is_the_same_in_every_process():
    assert BASE.fingerprint == "5426aa647685d704"
    assert int(BASE.seed) == 0xF9759467ABB76B6F


def test_showing_a_scope_does_not_show_the_secret():
    assert "secret" not in repr(replace(BASE, cluster_secret=b"hush"))
    assert "hush" not in repr(replace(BASE, cluster_secret=b"hush"))


_FIELDS = st.sampled_from(["", "a", "aa", "\x01\0\0\0a", "a\0\0\0\0"])
_SCOPES = st.builds(RequestScope, lora=_FIELDS, salt=_FIELDS, tenant=_FIELDS)


@given(one=_SCOPES, other=_SCOPES, block=st.binary(min_size=8, max_size=8))
def test_first_symbols_of_two_scopes_are_never_equal(one, other, block):
    """Those of a tree: the mark and a block's bytes, which are the client's own choice, too."""
    assert (one.mark + block == other.mark + block) is (one == other)
    assert (one.mark + block == block) is (one == UNSCOPED)
    assert bool(BASE.seed_of(one) == BASE.seed_of(other)) is (one == other)


def test_what_adds_nothing_has_the_keys_that_there_were_before():
    assert UNSCOPED.mark == b""
    assert BASE.seed_of(RequestScope()) == BASE.seed
    assert BASE.within(UNSCOPED) == BASE


def test_showing_what_a_request_adds_does_not_show_its_salt():
    salted = RequestScope(salt="hush")
    assert "hush" not in f"{salted} {salted!r} {BASE.within(salted)!r}"
