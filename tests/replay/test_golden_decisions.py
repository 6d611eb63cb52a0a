"""Every policy decides as it did: digests of seeded replays, kept in `tests/data/decisions.json`.

A change that means to decide otherwise writes them anew (`python -m tests.replay.golden_decisions`)
and says so in its message; one that moves code must not.
"""

import pytest

from radixroute.replay.synth.workloads import KINDS
from radixroute.router.policy.registry import POLICIES
from tests.replay.golden_decisions import decisions, kept

pytestmark = pytest.mark.deep


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_decides_as_it_did(kind):
    assert decisions(kind) == {p: digest for p, digest in kept()[kind].items() if p in POLICIES}


def test_every_policy_has_digests():
    assert all(set(of_kind) == set(POLICIES) for of_kind in kept().values())
    assert set(kept()) == set(KINDS)
