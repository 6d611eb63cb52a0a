"""Block keys: chained, whole, unforgeable without the seed, and the same in every process."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.errors import BrokenKernel, LocalMisuse
from radixroute.radix.ids import BlockKey
from radixroute.radix.keys import block_keys as keys_module
from radixroute.radix.keys.block_keys import block_keys, extend_keys, warm

SEED = np.uint64(0xDEADBEEFCAFEF00D)
TOKENS = st.lists(st.integers(0, 2**32 - 1), min_size=0, max_size=80)


def u32(values) -> np.ndarray:
    return np.array(values, np.uint32)


def test_the_golden_vector_holds():
    warm()


def test_a_kernel_that_hashes_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(keys_module, "_GOLDEN_KEYS", (1, 2))
    with pytest.raises(BrokenKernel):
        warm()


_AGAINST_CPYTHON = """
import numpy as np
from radixroute.radix.keys.kernels import chain
tokens = np.random.default_rng(1).integers(0, 2**32, size=64, dtype=np.uint32)
zero = np.uint64(0)
for size in (1, 2, 3, 7, 16, 64):
    previous = 0
    for i, key in enumerate(chain(tokens, size, zero, zero, zero).tolist()):
        message = previous.to_bytes(8, "little") + tokens[i * size : (i + 1) * size].tobytes()
        assert hash(message) % 2**64 == key, (size, i)
        previous = key
"""


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="CPython hashes otherwise")
def test_it_is_the_siphash_1_3_that_cpython_has_written_too():
    # PYTHONHASHSEED=0 gives CPython's own SipHash the key (0, 0).
    subprocess.run(
        [sys.executable, "-c", _AGAINST_CPYTHON], check=True, env={"PYTHONHASHSEED": "0"}
    )


def test_only_full_blocks_have_keys():
    tokens = np.arange(47, dtype=np.uint32)
    assert [len(block_keys(tokens[:n], 16, SEED)) for n in (0, 15, 16, 31, 32, 47)] == [
        0, 0, 1, 1, 2, 2,
    ]  # fmt: skip


@given(tokens=TOKENS, block_size=st.integers(1, 17), cut=st.integers(0, 80))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_extending_a_chain_equals_hashing_at_once(tokens, block_size, cut):
    whole = block_keys(u32(tokens), block_size, SEED)
    cut = min(cut // block_size, len(whole))
    head, tail = u32(tokens[: cut * block_size]), u32(tokens[cut * block_size :])
    first = block_keys(head, block_size, SEED)
    previous = BlockKey(int(first[-1])) if len(first) else None
    rest = extend_keys(previous, tail, block_size, SEED)
    assert np.concatenate([first, rest]).tolist() == whole.tolist()


@given(tokens=st.lists(st.integers(0, 200_000), min_size=32, max_size=64), data=st.data())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_a_changed_token_changes_its_key_and_all_later_ones(tokens, data):
    at = data.draw(st.integers(0, len(tokens) // 8 * 8 - 1))
    other = data.draw(st.integers(0, 2**32 - 1).filter(lambda token: token != tokens[at]))
    changed = [*tokens[:at], other, *tokens[at + 1 :]]
    assert_differ_from(tokens, changed, at // 8)


@given(tokens=st.lists(st.integers(0, 99), min_size=32, max_size=64, unique=True), data=st.data())
@settings(max_examples=40, derandomize=True, deadline=None)
def test_a_dropped_or_swapped_token_changes_its_key_and_all_later_ones(tokens, data):
    at = data.draw(st.integers(0, len(tokens) // 8 * 8 - 9))
    dropped = tokens[:at] + tokens[at + 1 :]
    assert_differ_from(tokens, dropped, at // 8)
    swapped = list(tokens)
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    assert_differ_from(tokens, swapped, at // 8)


def assert_differ_from(tokens, changed, block):
    one = block_keys(u32(tokens), 8, SEED).tolist()
    other = block_keys(u32(changed), 8, SEED).tolist()
    assert one[:block] == other[:block]
    assert all(a != b for a, b in zip(one[block:], other[block:], strict=False))


@pytest.mark.parametrize("step", [31, 33, 37, 257, 65599, 2**16, 1])
def test_adding_a_multiplier_here_and_taking_one_there_is_no_collision(step):
    # Megatron-LM 4158: with h = 31 * h + token, (+1, -31) cancels out; the reverse order as well.
    base = [1000 + 3 * step] * 16
    prompts = {tuple(base)}
    for i, j in pairwise(range(16)):
        for up, down in ((1, step), (step, 1)):
            changed = list(base)
            changed[i] += up
            changed[j] -= down
            prompts.add(tuple(changed))
    keys = {int(block_keys(u32(prompt), 16, SEED)[0]) for prompt in prompts}
    assert len(keys) == len(prompts) > 15


def test_no_two_of_many_close_prompts_share_a_key():
    base = u32(np.arange(16))
    found = set()
    for position in range(16):
        for delta in range(1, 513):
            tokens = base.copy()
            tokens[position] += np.uint32(delta * 1000)
            found.add(int(block_keys(tokens, 16, SEED)[0]))
    assert len(found) == 16 * 512


def test_another_seed_gives_other_keys():
    tokens = np.arange(64, dtype=np.uint32)
    one, other = (block_keys(tokens, 16, SEED ^ np.uint64(bit)).tolist() for bit in (0, 1))
    assert not set(one) & set(other)


def test_strided_and_read_only_arrays_hash_like_plain_ones():
    wide = np.arange(128, dtype=np.uint32)
    expected = block_keys(wide[::2].copy(), 16, SEED).tolist()
    assert block_keys(wide[::2], 16, SEED).tolist() == expected
    frozen = np.frombuffer(wide[::2].tobytes(), np.uint32)
    assert not frozen.flags.writeable
    assert block_keys(frozen, 16, SEED).tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "block_size"),
    [
        (np.arange(16, dtype=np.int64), 16),
        (np.zeros((4, 4), np.uint32), 2),
        (np.arange(16, dtype=np.uint32), 0),
        (np.arange(16, dtype=np.uint32), -16),
    ],
)
def test_other_types_shapes_and_sizes_are_refused(tokens, block_size):
    with pytest.raises(LocalMisuse):
        block_keys(tokens, block_size, SEED)


def test_importing_the_room_does_not_import_numba():
    code = """
import sys
import radixroute.radix.index.prefix_index, radixroute.radix.keys.block_keys
import radixroute.radix.tree.radix_tree
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
