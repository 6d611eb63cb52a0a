"""Selector: the policies of one router, and what they are asked with.

Owns one instance of each policy that any request named, the bits drawn for ties, and what a
snapshot is made of. Decides nothing: it finds the policy of a request and hands it the fleet. Books
nothing. What only replays may name, whoever lets requests in has refused before.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from radixroute.radix.ids import Keys, WorkerId
from radixroute.router.policy.policy import Policy, PolicyParts
from radixroute.router.policy.registry import lab_policy_named
from radixroute.router.policy.snapshot import (
    Beliefs,
    Draw,
    FleetNumbers,
    Snapshot,
)


class Selector:
    """Finds policies and makes snapshots."""

    def __init__(
        self, parts: PolicyParts, numbers: FleetNumbers, beliefs: Beliefs, draw: Draw
    ) -> None:
        """`parts`: of every policy, but for its name. `beliefs`: by cache events."""
        self._parts = parts
        self._numbers = numbers
        self._beliefs = beliefs
        self._draw = draw
        self._policies: dict[str, Policy] = {}

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._policies.values())

    def policy(self, name: str) -> Policy:
        """Raises UnknownPolicy."""
        policy = self._policies.get(name)
        if policy is None:
            factory = lab_policy_named(name)
            policy = self._policies[name] = factory(replace(self._parts, name=name))
        return policy

    def snapshot(self, now_ns: int, block_size: int) -> Snapshot:
        return Snapshot(
            self._beliefs,
            self._numbers,
            self._draw,
            now_ns,
            block_size,
            self._parts.settings.dispatch_lead_ms,
        )

    def most_cached_tokens(self, keys: Keys, block_size: int) -> int:
        """Leading tokens of a prompt that some worker holds."""
        blocks = self._beliefs.source.overlaps(keys).blocks
        return int(np.maximum.reduce(blocks, initial=0)) * block_size

    def elapse(self, now_ns: int) -> None:
        """On ticks."""
        for policy in self._policies.values():
            policy.elapse(now_ns)

    def forget(self, worker_id: WorkerId) -> None:
        """Its cache is gone."""
        for policy in self._policies.values():
            policy.forget(worker_id)

    def check(self) -> None:
        for policy in self._policies.values():
            policy.check()
