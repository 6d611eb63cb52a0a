"""Variants: the default policy with other constants, in the lab alone.

Owns how one is named, `radix:compute=0.3,turnover=0.1`, and how a policy of that name is made.
Nothing that ships knows such names. The constants are the fields of what `RadixPolicy` takes as
`weights`: one frozen record, whose default is what ships.
"""

import inspect
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from radixroute.router.policy import registry
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.radix.radix_policy import RadixPolicy

DEFAULT, MARK = "radix", ":"


def constants() -> Any:
    """Those that ship, a named tuple. Raises ValueError where the default takes none."""
    parameter = inspect.signature(RadixPolicy).parameters.get("weights")
    if parameter is None:
        raise ValueError("the default policy takes no constants to vary")
    return parameter.default


def variants(asked: Sequence[str]) -> list[str]:
    """Of `NAME=v1,v2,...` each: every combination; of none, none. Raises ValueError."""
    names, values = list[str](), list[list[float]]()
    for one in asked:
        name, mark, text = one.partition("=")
        if not mark:
            raise ValueError(f"{one!r}: write NAME=v1,v2,...")
        known = constants()._fields
        if name not in known:
            raise ValueError(f"no constant is called {name!r}: there are {', '.join(known)}")
        names.append(name)
        values.append([float(value) for value in text.split(",")])
    every = product(*values) if values else ()
    return [_named(dict(zip(names, each, strict=True))) for each in every]


def make_known(policy: str) -> None:
    """In this process the policy can be asked for by its name. Other names stay what they are."""
    _, mark, text = policy.partition(MARK)
    for table in _tables():
        if mark and policy not in table:
            table[policy] = _made(text)


def all_policies() -> tuple[str, ...]:
    """By name: all that a simulation finds."""
    return tuple(dict.fromkeys(name for table in _tables() for name in table))


def _tables() -> list[dict[str, PolicyFactory]]:
    """Those of routers, and of replays where they have one of their own."""
    names = ("POLICIES", "LAB_POLICIES")
    return [getattr(registry, name) for name in names if hasattr(registry, name)]


def _named(values: Mapping[str, float]) -> str:
    return DEFAULT + MARK + ",".join(f"{name}={value:g}" for name, value in values.items())


def _made(text: str) -> PolicyFactory:
    pairs = (one.partition("=") for one in text.split(","))
    changed = constants()._replace(**{name: float(value) for name, _, value in pairs})
    options: dict[str, Any] = {"weights": changed}
    return lambda parts: RadixPolicy(parts, **options)
