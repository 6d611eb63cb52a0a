"""What is planted in settings, and in the files that they name."""

from typing import Any

from radixroute.doctor.evidence import EditedSetting, RouterSeen, UnusableFile
from tests.doctor.evidences import engine, fleet, machine


def unusable(setting: str, problem: str) -> Any:
    return fleet(machine=machine(unusable=(UnusableFile(setting, problem),)))


def overstating(setting: str, value: int, *, seen: RouterSeen | None = None) -> Any:
    """Of an engine that takes 4,096 tokens, and has room for 64,000."""
    return fleet(seen, engines=(engine(),), settings={setting: value})


def edited(setting: str, written: str, running: str) -> Any:
    one = EditedSetting(setting, "radixroute.toml", written, running)
    return fleet(machine=machine(edited=(one,)))


PLANTED_SETTINGS: dict[str, list[Any]] = {
    "settings_edited": [edited("router.policy", "llm_d", "radix")],
    "keys_unusable": [unusable("router.keys_file", "/k: line 3 is no `name:key`")],
    "certificate_unusable": [
        unusable("router.tls_cert_file", "/c with router.tls_key_file /k: KEY_VALUES_MISMATCH"),
        unusable("companion.ca_file", "/c: is no PEM"),
    ],
    "max_model_len_overstated": [overstating("companion.max_model_len", 100_000)],
    "kv_blocks_overstated": [overstating("companion.kv_blocks", 9000)],
}
