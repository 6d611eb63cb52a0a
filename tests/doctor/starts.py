"""Starts of fleets that are well: engines, a router, traffic, and the doctor's look."""

import asyncio
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from radixroute.client import RouterClient
from radixroute.config import load
from radixroute.doctor.gather.gathering import Gathered, Wanted, gather
from radixroute.request.limits import PartialSampling
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import Fleet, fleet
from tests.router.clusters import until

KEY: Final = "a-key-of-more-than-16-letters"
KINDS: Final[dict[str, Any]] = {"vllm": FakeVllm, "sglang": FakeSglang, "openai": FakeOpenAi}
POLICIES: Final = ("radix", "radix_at_once", "dynamo_agentic", "llm_d", "vllm_kv_aware")
# One fleet of several kinds must be told that they are alike.
ALIKE: Final[dict[str, Any]] = {"fingerprint": "fa4e", "kv_dtype": "float32", "block_size": 4}


@dataclass(frozen=True, slots=True)
class Start:
    """What is started, and what is asked of it."""

    engines: tuple[str, ...] = ("vllm", "vllm")  # kinds; ours: with an engine of this package
    policy: str = "radix"
    has_events: bool = True  # else they are let in without, under a policy that needs none
    has_tls: bool = False
    has_keys: bool = False
    adapters: tuple[str, ...] = ()  # at every engine
    tenants: int = 0  # that share no cache, each with prompts of its own
    salts: int = 0
    requests: int = 24  # 0: idle
    groups: int = 4  # of prompts that begin alike
    tokens: int = 40  # of a prompt


EXAMPLES: Final = (
    Start(has_tls=True, has_keys=True),
    Start(requests=0, engines=("vllm",)),
    Start(has_events=False, policy="prefix_approx"),
    Start(engines=("vllm", "sglang", "openai")),
    Start(engines=("ours",), tenants=2),
    Start(adapters=("x", "y"), salts=2),
)


def drawn(number: int) -> Start:
    rng = random.Random(number)
    n = rng.choice((1, 1, 2, 3))
    some = rng.choice(("vllm", "vllm", "sglang", "openai", "ours"))
    kinds = tuple(rng.choice(("vllm", "sglang", "openai")) for _ in range(n))
    engines = kinds if rng.random() < 0.4 else (some,) * n
    has_adapters = set(engines) == {"vllm"} and rng.random() < 0.4
    has_events = set(engines) != {"vllm"} or rng.random() < 0.75
    has_keys = rng.random() < 0.25
    can_salt = not {"openai", "sglang"} & set(engines)
    return Start(
        engines=engines,
        policy=rng.choice(POLICIES) if has_events else "prefix_approx",
        has_events=has_events,
        has_tls=rng.random() < 0.25,
        has_keys=has_keys,
        adapters=("x", "y") if has_adapters else (),
        tenants=rng.choice((0, 0, 2)) if can_salt and not has_keys else 0,  # a key is a tenant
        salts=rng.choice((0, 0, 2)) if can_salt else 0,
        requests=rng.choice((0, 3, 24, 40)),
        groups=rng.randint(1, 6),
        tokens=rng.choice((6, 40, 200)),
    )


async def looked_at(start: Start, folder: Path) -> Gathered:
    """Started, asked, looked at, and ended."""
    router: dict[str, Any] = {"policy": start.policy, "tenants_share_cache": not start.tenants}
    environ = {"RADIXROUTE_CLUSTER_RUNTIME_DIR": str(folder / "run")}
    if start.has_tls:
        router |= _certificate(folder)
        environ["RADIXROUTE_CLIENT_CA_FILE"] = router["tls_cert_file"]
    if start.has_keys:
        keys = folder / "keys"
        keys.write_text(f"team:{KEY}\n")
        keys.chmod(0o600)
        router["keys_file"] = str(keys)
        environ["RADIXROUTE_CLIENT_API_KEY"] = KEY
    config = load(environ=environ)
    async with fleet(router=router) as made:
        for at, kind in enumerate(start.engines):
            await _join(made, f"w{at}", kind, start)
        address = str(made.router.address)
        # Their first heartbeats: two looks here are nearer to each other than those.
        await until(lambda: made.router.runtime.events.is_quiet)

        def ask_and_look() -> Gathered:
            client = config.client
            with RouterClient(address, api_key=client.api_key, ca_file=client.ca_file) as asking:
                for at in range(start.requests):
                    _ask(asking, start, at)
            return gather(Wanted(config, None, lambda: address, seconds=0.1))

        return await asyncio.to_thread(ask_and_look)


async def _join(made: Fleet, worker_id: str, kind: str, start: Start) -> None:
    if kind == "ours":
        await made.join_ours(worker_id)
        return
    more: dict[str, Any] = {"n_blocks": 4096}  # room for all that is asked
    if kind != "openai":
        more["has_events"] = start.has_events
    if start.adapters:
        more["adapters"] = start.adapters
    await made.start_engine(worker_id, KINDS[kind](**more))
    same: dict[str, Any] = ALIKE if len(set(start.engines)) > 1 else {}
    await made.join(worker_id, allow_no_events=not start.has_events, **same)


def _ask(client: RouterClient, start: Start, at: int) -> None:
    scope: dict[str, Any] = {}
    if start.adapters:
        scope["lora"] = ("", *start.adapters)[at % 3]
    if start.tenants:
        scope["tenant"] = f"tenant-{at % start.tenants}"
    if start.salts:
        scope["cache_salt"] = f"salt-{at % start.salts}"
    # Each scope has its own prompts: what is kept apart is not the same.
    own = random.Random(f"{sorted(scope.items())} {at % start.groups}")
    prompt = [own.randint(1, 90) for _ in range(start.tokens)]
    for _ in client.generate(prompt, PartialSampling(max_tokens=2), **scope):
        pass


def _certificate(folder: Path) -> dict[str, str]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command: Sequence[str] = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "90", "-subj", "/CN=router"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
    )
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return {"tls_cert_file": str(cert), "tls_key_file": str(key)}
