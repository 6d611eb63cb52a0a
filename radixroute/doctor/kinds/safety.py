"""Who can reach what, and who can read it: binds, keys, TLS, token ids, files with secrets."""

import re
from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, Listener

_DOORS: Final = ("grpc", "http")
OVER_S: Final = 43_200.0  # too late for most who renew them
SOON_S: Final = 14 * 86_400.0
_FRESH: Final = (
    "put a fresh one at router.tls_cert_file and its key at router.tls_key_file (`radixroute certs "
    "--renew` makes them): the router reads them by itself"
)
KEYS_FILE: Final = "router.keys_file"
# As OpenSSL says them.
_EARLY: Final = "not yet valid"
_MISMATCHED: Final = "KEY_VALUES_MISMATCH"


def _wide(evidence: Evidence, *kinds: str) -> Iterator[Listener]:
    listeners = () if evidence.router is None else evidence.router.listeners
    return (one for one in listeners if one.is_wide and one.kind in kinds)


def _open(evidence: Evidence) -> Iterator[Seen]:
    for one in _wide(evidence, *_DOORS):
        if one.wants_key is False:
            yield Seen("router", f"{one.what} at {one.address} takes connections from other "
                       "machines and asks for no key")  # fmt: skip


def _clear(evidence: Evidence) -> Iterator[Seen]:
    for one in _wide(evidence, *_DOORS):
        if one.speaks_tls is False:
            yield Seen("router", f"{one.what} at {one.address} takes connections from other "
                       "machines and speaks no TLS")  # fmt: skip


def _metrics(evidence: Evidence) -> Iterator[Seen]:
    for one in _wide(evidence, "metrics"):
        yield Seen("router", f"{one.what} at {one.address} can be read from other machines")


def _workers(evidence: Evidence) -> Iterator[Seen]:
    ends: dict[str, list[str]] = {}  # calls come at one, sessions at another
    for one in _wide(evidence, "worker"):
        if not one.speaks_tls:
            ends.setdefault(one.what, []).append(one.address)
    for worker_id, addresses in ends.items():
        what = f"connections from other machines are taken at {', '.join(addresses)}"
        yield Seen(worker_id, what)


def _tokens(evidence: Evidence) -> Iterator[Seen]:
    for one in _wide(evidence, "compat"):
        yield Seen(one.what, f"its events with token ids are at {one.address}, for other machines")


def _secrets(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.secrets:
        if one.exists and one.mode & 0o077:
            what = f"{one.setting}: {one.path} has mode {one.mode:04o}"
            yield Seen("this machine", what, f"chmod 600 {one.path}")


def _missing(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.secrets:
        if not one.exists:
            yield Seen("this machine", f"{one.setting}: there is no {one.path}")


def _certificate(evidence: Evidence) -> Iterator[Seen]:
    left_s = evidence.certificate_left_s
    if problem := evidence.certificate_problem:
        yield Seen("router", problem, _CLOCK if _EARLY in problem else "")
    elif left_s is not None and left_s < OVER_S:
        yield Seen("router", f"its certificate ends in {max(0.0, left_s) / 3600:.0f} hours")


_CLOCK: Final = (
    "look at the clocks first (date, timedatectl): that of this machine may be behind, or that of "
    f"the one where the certificate was made ahead; where both are right, {_FRESH}"
)


def _ending(evidence: Evidence) -> Iterator[Seen]:
    left_s = evidence.certificate_left_s
    if left_s is not None and OVER_S <= left_s < SOON_S:
        yield Seen("router", f"its certificate ends in {left_s / 86_400:.1f} days")


def _unusable_keys(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.unusable:
        if one.setting == KEYS_FILE:
            line = re.search(r"\bline \d+\b", one.problem)
            fix = f"mend {line[0]} of it ({_KEYS_LINE}): {_READ_AGAIN}" if line else ""
            yield Seen("this machine", f"{one.setting}: {one.problem}", fix)


_KEYS_LINE: Final = "`name:key`, a key of 16 to 512 characters that no other name has"
_READ_AGAIN: Final = "the router reads the file again by itself, and its log says so"


def _unusable_certificates(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.unusable:
        if one.setting != KEYS_FILE:
            fix = _ONE_PAIR if _MISMATCHED in one.problem else ""
            yield Seen("this machine", f"{one.setting}: {one.problem}", fix)


_ONE_PAIR: Final = (
    "put both files of one pair there: this certificate is of another key (`radixroute certs "
    "--renew` makes both); what runs reads them again by itself"
)

SAFETY_CHECKS: Final = (
    Check(
        "door_open",
        Level.ERROR,
        "a door of the router is open to other machines and asks for no key",
        "whoever reaches it may ask, as any tenant, and see what is asked",
        "bind 127.0.0.1 (router.host), or set router.keys_file with router.tls_cert_file and "
        "router.tls_key_file, and leave out --insecure-bind",
        _open,
    ),
    Check(
        "door_in_clear",
        Level.ERROR,
        "a door of the router is open to other machines without TLS",
        "prompts, answers and keys can be read on their way",
        "set router.tls_cert_file and router.tls_key_file, or bind 127.0.0.1 behind a proxy that "
        "speaks TLS",
        _clear,
    ),
    Check(
        "metrics_open",
        Level.WARNING,
        "a metrics page can be read from other machines",
        "it asks for no key: names of workers and tenants, and how much they ask",
        "leave out --insecure-bind (a router with keys and TLS keeps the page on loopback), or set "
        "router.metrics_port and worker.metrics_port to none; a firewall where neither is possible",
        _metrics,
    ),
    Check(
        "worker_open",
        Level.ERROR,
        "a worker can be reached from other machines and does not ask who comes",
        "whoever reaches it runs prompts there and reads what it caches",
        "bind 127.0.0.1 (worker.host, without --insecure-bind); over several machines give workers "
        "worker.tls_cert_file, tls_key_file and tls_ca_file and the router router.link_ca_file "
        "(`radixroute certs` makes them)",
        _workers,
    ),
    Check(
        "token_ids_open",
        Level.ERROR,
        "token ids are sent in the clear to whoever connects",
        "token ids are the prompts: everybody who can reach the port reads all of them",
        "leave out --events-compat (worker.events_compat), or bind 127.0.0.1 (worker.host)",
        _tokens,
    ),
    Check(
        "certificate_bad",
        Level.ERROR,
        "the router's certificate is over, or is within hours",
        "clients that look at it do not connect",
        _FRESH,
        _certificate,
    ),
    Check(
        "certificate_ends",
        Level.WARNING,
        "the router's certificate ends within 14 days",
        "clients that look at it do not connect from then on",
        _FRESH,
        _ending,
    ),
    Check(
        "secret_file_open",
        Level.ERROR,
        "a file with a key can be read by other users",
        "who has the key may ask as its owner, or speak as this router",
        "chmod 600 on that file",
        _secrets,
    ),
    Check(
        "secret_file_missing",
        Level.ERROR,
        "a file with a key is not there",
        "a router or companion that starts again does not come up",
        "put the file there, or mend the setting",
        _missing,
    ),
    Check(
        "keys_unusable",
        Level.ERROR,
        "the keys file cannot be used as it is now",
        "a router that runs keeps the keys of before, so that one which was taken out still opens "
        "its doors; one that starts does not come up",
        f"write a file in UTF-8 with a line for each key ({_KEYS_LINE}): {_READ_AGAIN}",
        _unusable_keys,
    ),
    Check(
        "certificate_unusable",
        Level.ERROR,
        "a certificate, its key, or the list of whom to believe cannot be used as it is now",
        "what runs keeps what was there before, until that is over; what starts does not come up",
        "put files there that can be read, in PEM: a certificate and the key it was made for, or "
        "certificates of whom to believe (`radixroute certs --renew` makes them); what runs reads "
        "them again by itself",
        _unusable_certificates,
    ),
)
