"""Scopes: caches that must not mix never share a key, and no field can stand in for another."""

import itertools
import random
from dataclasses import replace

import numpy as np

from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope

BASE = Scope(model_fingerprint="m", block_size=16, cluster_secret=b"s")
TOKENS = np.arange(64, dtype=np.uint32)

VARIANTS = [
    BASE,
    replace(BASE, model_fingerprint="n"),
    replace(BASE, block_size=8),
    replace(BASE, kv_dtype="bfloat16"),
    replace(BASE, lora="X"),
    replace(BASE, tenant_salt="X"),
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
        fields = tuple("".join(rng.choices("ab\0", k=rng.randrange(4))) for _ in range(4))
        tuples.add(fields)
        model, dtype, lora, salt = fields
        seeds.add(int(Scope(model, 16, dtype, lora, salt, b"s").seed))
    assert len(seeds) == len(tuples)


def test_the_seed_is_the_same_in_every_process():
    assert BASE.fingerprint == "5426aa647685d704"
    assert int(BASE.seed) == 0xF9759467ABB76B6F


def test_showing_a_scope_does_not_show_the_secret():
    assert "secret" not in repr(replace(BASE, cluster_secret=b"hush"))
    assert "hush" not in repr(replace(BASE, cluster_secret=b"hush"))
