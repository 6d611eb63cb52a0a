"""Registry of policies: name -> factory. Files in `baselines/`, or a folder there, are found."""

import pkgutil
from importlib import import_module
from inspect import getdoc

from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy import baselines
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
    for info in pkgutil.walk_packages(baselines.__path__, f"{baselines.__name__}."):
        if info.ispkg:
            continue
        module = import_module(info.name)
        for name, factory in module.POLICIES.items():
            if name in factories:
                raise ValueError(f"policy {name} is defined twice")
            factories[name], texts[name] = factory, getdoc(module) or ""
    names = sorted(factories, key=lambda n: (_FIRST.index(n) if n in _FIRST else len(_FIRST), n))
    return {name: factories[name] for name in names}, texts


POLICIES, DESCRIPTIONS = _found()


def policy_named(name: str) -> PolicyFactory:
    """Raises UnknownPolicy."""
    try:
        return POLICIES[name]
    except KeyError:
        known = ", ".join(sorted(POLICIES))
        raise UnknownPolicy(f"unknown policy: use one of {known}") from None
