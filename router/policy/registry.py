"""Registry of policies: name -> factory. Files in `baselines/`, in a folder there or in `lab_only/`
are found.

Owns which of them a router serves by: what is in `lab_only/` is for replays alone.
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from inspect import getdoc
from types import ModuleType

from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy import baselines, lab_only
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.radix.prefix_approx import PrefixApprox
from radixroute.router.policy.radix.radix_policy import RadixPolicy

# The order in which reports and `--help` list them; others follow by name.
_FIRST = (
    "radix",
    "radix_at_once",
    "round_robin",
    "random",
    "least_loaded",
    "power_of_two",
    "session_affinity",
    "prefix_approx",
    "dynamo",
    "dynamo_agentic",
    "dynamo_wspt",
    "sglang_cache_aware",
    "llm_d",
    "vllm_kv_aware",
)
_OURS: dict[str, PolicyFactory] = {
    "radix": RadixPolicy,
    "radix_at_once": lambda parts: RadixPolicy(parts, binds_late=False),
    "prefix_approx": PrefixApprox,
}


def _found() -> tuple[dict[str, PolicyFactory], dict[str, str]]:
    """Factories, and the text about each: its file's docstring."""
    factories, texts = dict(_OURS), dict.fromkeys(_OURS, "")
    for name, made_in in (("radix", RadixPolicy), ("prefix_approx", PrefixApprox)):
        texts[name] = getdoc(import_module(made_in.__module__)) or ""
    texts["radix_at_once"] = texts["radix"]
    _add_from(baselines, factories, texts)
    names = sorted(factories, key=lambda n: (_FIRST.index(n) if n in _FIRST else len(_FIRST), n))
    return {name: factories[name] for name in names}, texts


def _add_from(
    folder: ModuleType, factories: dict[str, PolicyFactory], texts: dict[str, str]
) -> None:
    for info in pkgutil.walk_packages(folder.__path__, f"{folder.__name__}."):
        if info.ispkg:
            continue
        module = import_module(info.name)
        for name, factory in module.POLICIES.items():
            if name in factories:
                raise ValueError(f"policy {name} is defined twice")
            factories[name], texts[name] = factory, getdoc(module) or ""


POLICIES, DESCRIPTIONS = _found()
# Those of replays: what a router serves by, and then what no router should.
LAB_POLICIES = dict(POLICIES)
_add_from(lab_only, LAB_POLICIES, DESCRIPTIONS)


def policy_named(name: str) -> PolicyFactory:
    """One that a router serves by. Raises UnknownPolicy."""
    if name in LAB_POLICIES and name not in POLICIES:
        raise UnknownPolicy(f"{name} is a policy for replays only: no router serves by it")
    return _named(name, POLICIES)


def lab_policy_named(name: str) -> PolicyFactory:
    """One of a replay. Raises UnknownPolicy."""
    return _named(name, LAB_POLICIES)


def _named(name: str, policies: Mapping[str, PolicyFactory]) -> PolicyFactory:
    try:
        return policies[name]
    except KeyError:
        known = ", ".join(sorted(policies))
        raise UnknownPolicy(f"unknown policy: use one of {known}") from None
