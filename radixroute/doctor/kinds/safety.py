"""Who can reach what, and who can read it: binds, keys, TLS, token ids, files with secrets."""

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
    if evidence.certificate_problem:
        yield Seen("router", evidence.certificate_problem)
    elif left_s is not None and left_s < OVER_S:
        yield Seen("router", f"its certificate ends in {max(0.0, left_s) / 3600:.0f} hours")


def _ending(evidence: Evidence) -> Iterator[Seen]:
    left_s = evidence.certificate_left_s
    if left_s is not None and OVER_S <= left_s < SOON_S:
        yield Seen("router", f"its certificate ends in {left_s / 86_400:.1f} days")


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
)
